"""The training loop: one objective, its optimiser, its schedule, its average, and checkpoints that continue bit for bit.

Everything random at step s comes from (seed, s), so a checkpoint holds the weights, the optimiser, the average and the number of
steps done, and nothing else. A run that was killed at any moment goes on from its last checkpoint and, on a CPU with the same number
of threads, ends in the same bytes.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.training.checkpoints import Checkpoints
from jfeval.models.training.data import StepRng
from jfeval.models.training.ema import Ema
from jfeval.models.training.optimizers import make_optimizer
from jfeval.models.training.part import ADDED, NO_EFFECT
from jfeval.models.training.progress import Size, display

log = logging.getLogger(__name__)

B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How long, how fast and how carefully to train."""

    steps: int
    """Optimiser updates."""
    learning_rate: float
    """Peak rate; a parameter group may scale it by its own ``scale``."""
    warmup: int = 100
    """Updates over which the rate rises linearly from 0."""
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """How the rate falls after `decay_from`: not at all, along half a cosine, or in a straight line."""
    decay_from: float = 0.0
    """Fraction of the steps after which the rate begins to fall."""
    final_rate: float = 0.0
    """The last rate as a fraction of the peak."""
    beta1: float = 0.9
    beta2: float = 0.95
    """AdamW's betas. Source: the paper, section 4.2."""
    optimizer: Literal["adamw", "muon"] = field(default="adamw", metadata=ADDED)
    """muon: hidden matrices are updated by orthogonalised momentum, everything else by AdamW. The paper uses AdamW; muon learns more from
    as many samples, which is what a short training on a small machine needs."""
    matrix_scale: float = field(default=2.0, metadata=ADDED)
    """Rate of muon's matrices as a multiple of `learning_rate`; its updates are scaled to the size of AdamW's."""
    weight_decay: float = 0.0
    """Applied to matrices and kernels only. Source of the default: the paper, section 4.2."""
    clip: float = 1.0
    """Largest norm of the gradient over all parameters. Source: the paper, section 4.2."""
    accumulate: int = 1
    """Batches whose mean gradient makes one update."""
    ema: float = 0.0
    """Decay of the weights' moving average; 0 keeps none."""
    ema_warmup: bool = True
    """Ramp the decay up over the first updates."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What matrix products and convolutions run in (autocast); weights and optimiser stay float32."""
    compile: bool = False
    """Run the loss under torch.compile; pays off on a GPU, seldom on a CPU."""
    seed: int = 0
    evaluate_every: int = 0
    """Updates between evaluations with the averaged weights; 0 for none."""
    checkpoint_minutes: float = field(default=2.0, metadata=NO_EFFECT)
    log_seconds: float = field(default=10.0, metadata=NO_EFFECT)
    """Seconds between lines where the output is no terminal."""
    keep_checkpoints: int = field(default=1, metadata=NO_EFFECT)
    """How many of the newest checkpoints are kept; more for `jfeval watch`."""
    tensorboard: bool = field(default=False, metadata=NO_EFFECT)
    """Log to the part's folder ``tensorboard`` too; needs the package of that name."""
    time_limit_minutes: float = field(default=0.0, metadata=NO_EFFECT)
    """Stop with a checkpoint after this long; the same command goes on from there. 0 for no limit."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        for name in ("steps", "learning_rate", "accumulate", "clip", "matrix_scale", "keep_checkpoints"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "evaluate_every", "checkpoint_minutes", "time_limit_minutes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("beta1", "beta2", "ema", "decay_from"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


class Objective(Protocol[B]):
    """What is trained: a module, batches that depend on the step alone, and a loss."""

    @property
    def module(self) -> nn.Module:
        """Return what is trained, stored and averaged."""
        ...

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Return (learning rate scale, parameters) pairs; parameters in no group are not trained."""
        ...

    def batch(self, step: int, rng: StepRng) -> B:
        """Draw batch number `step` (updates times accumulation), with all its noise, from `rng` alone."""
        ...

    def ids(self, batch: B) -> Sequence[str]:
        """Name the samples of a batch, for error messages."""
        ...

    def loss(self, batch: B) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the scalar to minimise and its named parts."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a finished training leaves behind besides the weights in the module."""

    steps: int
    seconds: float
    """Wall time over all sittings."""
    losses: Mapping[str, float]
    """Named parts of the loss, averaged over the last twentieth of the steps of the last sitting."""


class PausedError(Exception):
    """The time limit was reached; a checkpoint is on disk and the same command goes on."""


def rate_at(settings: LoopSettings, step: int) -> float:
    """Return the learning rate of update number `step` (from 0) as a fraction of the peak."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    start = max(settings.warmup, round(settings.decay_from * settings.steps))
    if settings.schedule == "constant" or step < start:
        return 1.0
    progress = (step - start) / max(1, settings.steps - start)
    falling = 1.0 - progress if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return settings.final_rate + (1.0 - settings.final_rate) * falling


def _forward_backward(
    objective: Objective[Any], loss_of: Callable[[Any], Any], settings: LoopSettings, step: int
) -> tuple[dict[str, float], list[str], Size]:
    """Accumulate the gradients of one update; return the averaged loss parts, the ids of the samples in it, and its size."""
    parts: dict[str, float] = {}
    ids: list[str] = []
    tokens = 0
    count_tokens: Callable[[Any], int] = getattr(objective, "tokens", lambda _: 0)
    for micro in range(step * settings.accumulate, (step + 1) * settings.accumulate):
        batch = objective.batch(micro, StepRng(settings.seed, micro))
        ids.extend(objective.ids(batch))
        tokens += count_tokens(batch)
        device = next(objective.module.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss, named = loss_of(batch)
        (loss / settings.accumulate).backward()
        for key, value in {"loss": loss.detach(), **named}.items():
            parts[key] = parts.get(key, 0.0) + float(value) / settings.accumulate
    return parts, ids, Size(len(ids), tokens)


def fit(
    name: str,
    objective: Objective[Any],
    settings: LoopSettings,
    folder: Path,
    *,
    signature: str = "",
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    companion: Callable[[Path], None] | None = None,
) -> FitResult:
    """Train `objective` and leave the final (averaged, where an average is kept) weights in its module.

    Checkpoints lie in ``folder/checkpoints`` while the training runs, the curve in ``folder/log.jsonl``.

    Args:
        name: Shown in the progress line.
        objective: What to train.
        settings: How to train it.
        folder: Where checkpoints and the log go.
        signature: Identifies settings and inputs; a checkpoint of another signature is refused.
        evaluate: Called with the number of updates done, every `evaluate_every` updates, with the averaged weights in place.
        companion: Writes into every checkpoint what else is needed to use it; see `Checkpoints`.

    Raises:
        PausedError: when the time limit was reached.
        UserError: where the loss or a gradient is not finite, naming the samples of that batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = objective.module.train()
    groups = objective.groups()
    optimizer = make_optimizer(settings, groups, getattr(objective, "matrices", list)())
    ema = Ema(module, settings.ema, warmup=settings.ema_warmup) if settings.ema else None
    checkpoints = Checkpoints(folder / "checkpoints", signature, keep=settings.keep_checkpoints, companion=companion)
    done, before = checkpoints.load(module, optimizer, ema)
    if done:
        log.info("%s goes on after %d of %d steps", name, done, settings.steps)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    loss_of = torch.compile(objective.loss) if settings.compile else objective.loss
    started = saved = time.monotonic()
    tail: deque[dict[str, float]] = deque(maxlen=max(1, settings.steps // 20))
    with display(name, settings, folder / "log.jsonl", done) as shown:
        for step in range(done, settings.steps):
            optimizer.zero_grad()
            parts, ids, size = _forward_backward(objective, loss_of, settings, step)
            norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip))
            if not (math.isfinite(parts["loss"]) and math.isfinite(norm)):
                raise UserError(f"{name}: loss {parts['loss']} and gradient norm {norm} at step {step}; samples: {', '.join(ids)[:2000]}")
            rate = settings.learning_rate * rate_at(settings, step)
            optimizer.set_rate(rate)
            optimizer.step()
            if ema is not None:
                ema.update()
            values = {**parts, "norm": norm, "rate": rate}
            if evaluate is not None and settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                values.update(_evaluated(evaluate, step + 1, module, ema))
            shown.update(step + 1, values, size)
            tail.append(parts)
            now = time.monotonic()
            out_of_time = settings.time_limit_minutes and now - started > 60 * settings.time_limit_minutes
            if now - saved > 60 * settings.checkpoint_minutes or step + 1 == settings.steps or out_of_time:
                shown.flush()
                checkpoints.save(step + 1, before + now - started, module, optimizer, ema)
                saved = now
            if out_of_time and step + 1 < settings.steps:
                raise PausedError(f"{name} stopped after {step + 1} of {settings.steps} steps at its time limit; the same command goes on")
    if ema is not None:
        ema.copy_to_module()
    losses = {key: sum(p.get(key, 0.0) for p in tail) / len(tail) for key in tail[-1]} if tail else {}
    module.eval()
    return FitResult(steps=settings.steps, seconds=before + time.monotonic() - started, losses=losses)


def _evaluated(evaluate: Callable[[int], Mapping[str, float]], step: int, module: nn.Module, ema: Ema | None) -> Mapping[str, float]:
    """Evaluate with the averaged weights in place and the module in evaluation mode."""
    module.eval()
    try:
        with torch.no_grad():
            if ema is None:
                return evaluate(step)
            with ema.averaged():
                return evaluate(step)
    finally:
        module.train()
