"""The training loop: one objective, its optimiser, its schedule, its average, and checkpoints that continue bit for bit.

Everything random at step s comes from (seed, s), so a checkpoint holds the weights, the optimiser, the average and the number of
steps done, and nothing else. A run that was killed at any moment goes on from its last checkpoint and, on a CPU with the same number
of threads, ends in the same bytes.

Several processes (see `jfeval.models.training.ranks`) take an update's batches in turn. Gradients and losses are their mean, so a run
is the same, up to float rounding, whatever the number of processes, and a checkpoint of one number is continued by another.
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
from jfeval.models.training.accumulation import forward_backward, joined
from jfeval.models.training.checkpoints import CHECKPOINTS_FOLDER, Checkpoints
from jfeval.models.training.checks import below_one, fraction, not_negative, positive
from jfeval.models.training.data import StepRng
from jfeval.models.training.ema import Ema
from jfeval.models.training.optimizers import make_optimizer
from jfeval.models.training.part import ADDED
from jfeval.models.training.progress import display
from jfeval.models.training.ranks import ALONE, Ranks
from jfeval.models.training.sharding import Loss, divided, whole
from jfeval.settings import NO_EFFECT

log = logging.getLogger(__name__)

NOT_FINITE_FILE = "not-finite.txt"
"""In the part's folder: the samples of the update whose loss or gradient was not finite, one a line."""
_NAMED = 20
"""Samples that an error names itself."""

B = TypeVar("B")
T = TypeVar("T")


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
    device: str = field(default="auto", metadata=NO_EFFECT)
    """cpu, cuda, cuda:1 ..., or auto: a GPU where there is one. Of several processes each takes its own GPU."""
    peak_tflops: float = field(default=0.0, metadata=NO_EFFECT)
    """What one device can do at most, in 10^12 floating-point operations per second, of which the line on the console shows the share; 0
    looks it up among known GPUs."""
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
        positive(self, "steps", "learning_rate", "accumulate", "clip", "matrix_scale", "keep_checkpoints")
        not_negative(self, "warmup", "weight_decay", "evaluate_every", "checkpoint_minutes", "time_limit_minutes", "peak_tflops")
        below_one(self, "beta1", "beta2", "ema", "decay_from")
        fraction(self, "final_rate")


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


def check_processes(name: str, settings: LoopSettings, processes: int) -> None:
    """Check that so many processes can train under some settings.

    Raises:
        UserError: An update's batches cannot be dealt out to them, or the loss would be compiled as a whole.
    """
    if settings.accumulate % processes:
        raise UserError(
            f"{name}: {settings.accumulate} batches per update cannot be dealt out to {processes} processes; loop.accumulate must be a "
            f"multiple of them: make batches smaller and loop.accumulate larger by the same factor, and the update has the same samples"
        )
    if settings.compile and processes > 1:
        raise UserError(f"{name}: loop.compile is for one process; compile_blocks works with several")


def _ready(name: str, objective: Objective[Any], settings: LoopSettings, device: str, ranks: Ranks) -> Loss:
    """Put what is trained, and what it needs beside, on the device, divide it among the processes, and return its loss.

    Raises:
        UserError: See `check_processes`.
    """
    check_processes(name, settings, ranks.size)
    for module in (objective.module, *_helpers(objective)):
        module.to(device)
    objective.module.train()
    if ranks.size == 1:
        return torch.compile(objective.loss) if settings.compile else objective.loss
    return divided(objective, device, ranks.size)


def _helpers(objective: Objective[Any]) -> Sequence[nn.Module]:
    """Return the frozen modules beside what is trained."""
    return getattr(objective, "helpers", tuple)()


def fit(
    name: str,
    objective: Objective[Any],
    settings: LoopSettings,
    folder: Path,
    *,
    signature: str = "",
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    draw: tuple[int, Callable[[int], Path]] | None = None,
    companion: Callable[[Path], None] | None = None,
    ranks: Ranks = ALONE,
) -> FitResult:
    """Train `objective` and leave the final (averaged, where an average is kept) weights in its module, on the CPU.

    Checkpoints lie in ``folder/checkpoints`` while the training runs, the curve in ``folder/log.jsonl``. What several processes trained
    stays divided among them; the last checkpoint holds it in one piece.

    Args:
        name: Shown in the progress line.
        objective: What to train.
        settings: How to train it.
        folder: Where checkpoints and the log go.
        signature: Identifies settings and inputs; a checkpoint of another signature is refused.
        evaluate: Called with the number of updates done, every `evaluate_every` updates, with the averaged weights in place; by one
            process alone.
        draw: How often, in updates, and what then makes a picture of the model's work, likewise; returns the picture's file.
        companion: Writes into every checkpoint what else is needed to use it; see `Checkpoints`.
        ranks: The processes that train together.

    Raises:
        PausedError: when the time limit was reached.
        UserError: where the loss or a gradient is not finite, naming the samples of that update, all of them in a file; or the checkpoint
            does not fit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device, module = ranks.device(settings.device), objective.module
    loss_of = _ready(name, objective, settings, device, ranks)
    optimizer = make_optimizer(settings, objective.groups(), getattr(objective, "matrices", list)())
    ema = Ema(module, settings.ema, warmup=settings.ema_warmup) if settings.ema else None
    checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER, signature, keep=settings.keep_checkpoints, companion=companion, ranks=ranks)
    done, before = checkpoints.load(module, optimizer, ema)
    ranks.wait()  # nothing is written before everybody has read
    if done > settings.steps:
        raise UserError(f"{name}: {done} updates were done before, more than loop.steps = {settings.steps}; raise it, or begin anew")
    if done:
        log.info("%s goes on after %d of %d steps", name, done, settings.steps)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    started = saved = ranks.gather(time.monotonic())[0]
    tail: deque[dict[str, float]] = deque(maxlen=max(1, settings.steps // 20))
    with display(name, settings, folder / "log.jsonl", done, device, ranks) as shown:
        for step in range(done, settings.steps):
            optimizer.zero_grad()
            learned = joined(ranks.gather(forward_backward(objective, loss_of, settings, step, device, ranks)))
            parts = learned.parts
            norm = float(whole(nn.utils.clip_grad_norm_(parameters, settings.clip)))
            if not (math.isfinite(parts["loss"]) and math.isfinite(norm)):
                said = f"{name}: loss {parts['loss']} and gradient norm {norm} at step {step}"
                raise _not_finite(said, learned.ids, folder / NOT_FINITE_FILE, ranks)
            rate = settings.learning_rate * rate_at(settings, step)
            optimizer.set_rate(rate)
            optimizer.step()
            if ema is not None:
                ema.update()
            values = {**parts, "norm": norm, "rate": rate}
            if evaluate is not None and settings.evaluate_every and (step + 1) % settings.evaluate_every == 0:
                values.update(_with_average(evaluate, step + 1, module, ema))
            shown.update(step + 1, values, learned.size)
            if draw is not None and (step + 1) % draw[0] == 0:
                shown.picture(step + 1, _with_average(draw[1], step + 1, module, ema))
            tail.append(parts)
            now = ranks.gather(time.monotonic())[0]  # one clock decides for all
            out_of_time = settings.time_limit_minutes and now - started > 60 * settings.time_limit_minutes
            if now - saved > 60 * settings.checkpoint_minutes or step + 1 == settings.steps or out_of_time:
                shown.flush()
                checkpoints.save(step + 1, before + now - started, module, optimizer, ema)
                saved = now
            if out_of_time and step + 1 < settings.steps:
                raise PausedError(f"{name} stopped after {step + 1} of {settings.steps} steps at its time limit; the same command goes on")
    ranks.wait()  # the last checkpoint is written
    if ema is not None:
        ema.copy_to_module()
    losses = {key: sum(p.get(key, 0.0) for p in tail) / len(tail) for key in tail[-1]} if tail else {}
    module.eval()
    if ranks.size == 1:
        for each in (module, *_helpers(objective)):
            each.to("cpu")
    return FitResult(steps=settings.steps, seconds=before + time.monotonic() - started, losses=losses)


def _not_finite(said: str, ids: Sequence[str], file: Path, ranks: Ranks) -> UserError:
    """Write what an update learned from into a file and return the error that names it."""
    if ranks.first:
        file.write_text("".join(f"{line}\n" for line in (said, *ids)), "utf-8")
    ranks.wait()  # torchrun ends the others as soon as one fails
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return UserError(f"{said}; samples: {', '.join(ids[:_NAMED])}{more}; all are listed in {file}")


def _with_average(look: Callable[[int], T], step: int, module: nn.Module, ema: Ema | None) -> T:
    """Look at the module with the averaged weights in place and in evaluation mode."""
    module.eval()
    try:
        with torch.no_grad():
            if ema is None:
                return look(step)
            with ema.averaged():
                return look(step)
    finally:
        module.train()
