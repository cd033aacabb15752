"""The training loop: one objective, its optimiser, its schedule, its average, and checkpoints that continue bit for bit.

Everything random at step s comes from (seed, s), so a checkpoint holds the weights, the optimiser, the average and the number of
steps done, and nothing else. A run that was killed at any moment goes on from its last checkpoint and, on a CPU with the same number
of threads, ends in the same bytes.
"""

import json
import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.training.data import StepRng
from jfeval.models.training.ema import Ema
from jfeval.models.training.part import ADDED, NO_EFFECT

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
    time_limit_minutes: float = field(default=0.0, metadata=NO_EFFECT)
    """Stop with a checkpoint after this long; the same command goes on from there. 0 for no limit."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        for name in ("steps", "learning_rate", "accumulate", "clip", "matrix_scale"):
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


class Optimizers:
    """AdamW, and Muon where a training asks for it, stepped and stored as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return every group of every part; each keeps its rate's ``scale``."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, rate: float) -> None:
        """Set every group's rate to its own scale times `rate`."""
        for group in self.param_groups:
            group["lr"] = rate * group["scale"]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the parameters."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {str(number): part.state_dict() for number, part in enumerate(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for number, part in enumerate(self.parts):
            part.load_state_dict(state[str(number)])


def make_optimizer(
    settings: LoopSettings, groups: Sequence[tuple[float, Sequence[nn.Parameter]]], matrices: Sequence[nn.Parameter] = ()
) -> Optimizers:
    """Build the optimiser, with weight decay on matrices and kernels only.

    Args:
        settings: Which optimiser, and its rates.
        groups: (learning rate scale, parameters) pairs.
        matrices: Those of the parameters that are hidden matrices, which muon updates where the settings ask for it.

    Source: Loshchilov and Hutter, arXiv 1711.05101 (AdamW); Jordan et al., "Muon", 2024; Liu et al., arXiv 2502.16982 (update scale).
    """
    orthogonal = {id(p) for p in matrices} if settings.optimizer == "muon" else set()
    adamw, muon = [], []
    for scale, parameters in groups:
        trainable = [p for p in parameters if p.requires_grad]
        plain = [p for p in trainable if id(p) not in orthogonal]
        for decay, chosen in (
            (settings.weight_decay, [p for p in plain if p.ndim > 1]),
            (0.0, [p for p in plain if p.ndim <= 1]),
        ):
            if chosen:
                adamw.append({"params": chosen, "weight_decay": decay, "scale": scale})
        if hidden := [p for p in trainable if id(p) in orthogonal]:
            muon.append({"params": hidden, "weight_decay": settings.weight_decay, "scale": scale * settings.matrix_scale})
    parts: list[torch.optim.Optimizer] = []
    if adamw:
        parts.append(torch.optim.AdamW(adamw, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True))
    if muon:
        parts.append(torch.optim.Muon(muon, lr=settings.learning_rate, adjust_lr_fn="match_rms_adamw"))
    if not parts:
        raise UserError("the objective trains no parameter")
    return Optimizers(parts)


class Checkpoints:
    """Checkpoints of one training: written beside, then renamed, so that the last good one survives a crash at any moment."""

    def __init__(self, folder: Path, signature: str) -> None:
        self.folder, self.signature = folder, signature

    def _complete(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if (p / "state.json").is_file())

    def save(self, step: int, seconds: float, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> None:
        """Write the state after `step` updates and drop older checkpoints."""
        final = self.folder / f"step-{step:08d}"
        work = self.folder / f"writing-{step:08d}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        save_model(module, str(work / "model.safetensors"))
        torch.save(optimizer.state_dict(), work / "optimizer.pt")
        if ema is not None:
            save_file(ema.shadow, work / "ema.safetensors")
        state = {"step": step, "seconds": seconds, "signature": self.signature, "ema_updates": ema.updates if ema else 0}
        (work / "state.json").write_text(json.dumps(state), "utf-8")
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
        for old in self._complete():
            if old != final:
                shutil.rmtree(old)

    def load(self, module: nn.Module, optimizer: Optimizers, ema: Ema | None) -> tuple[int, float]:
        """Restore the newest checkpoint; return the updates done and the seconds spent, (0, 0.0) where there is none.

        Raises:
            UserError: where the checkpoint belongs to other settings.
        """
        for leftover in self.folder.glob("writing-*"):
            shutil.rmtree(leftover)
        found = self._complete()
        if not found:
            return 0, 0.0
        newest = found[-1]
        state = json.loads((newest / "state.json").read_text("utf-8"))
        if state["signature"] != self.signature:
            raise UserError(f"{newest} was written under other settings; delete it, or run with --force to begin anew")
        load_model(module, newest / "model.safetensors")
        optimizer.load_state_dict(torch.load(newest / "optimizer.pt", weights_only=True))
        if ema is not None:
            ema.load(load_file(newest / "ema.safetensors"), state["ema_updates"])
        return state["step"], state["seconds"]

    def clear(self) -> None:
        """Delete every checkpoint: the training is finished and its result stored."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _lines_up_to(path: Path, done: int) -> Iterator[str]:
    """Yield the whole log lines of updates up to `done`; a line cut short by a kill is dropped."""
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= done:
                yield line
        except (ValueError, KeyError, TypeError):
            continue


class _Display:
    """Shows progress: a bar in a terminal, a plain line every few seconds elsewhere; and appends every update to log.jsonl."""

    def __init__(self, name: str, settings: LoopSettings, path: Path, done: int) -> None:
        self.name, self.settings, self.path = name, settings, path
        self.started, self.first, self.last_line = time.monotonic(), done, time.monotonic()
        if path.exists():  # forget updates after the checkpoint: they are about to be repeated
            kept = list(_lines_up_to(path, done))
            path.write_text("".join(line + "\n" for line in kept), "utf-8")
        self._log = path.open("a", encoding="utf-8")
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = Progress(*columns, transient=True)
        self._plain = not self._bar.console.is_terminal
        self._task = self._bar.add_task(name, total=settings.steps, completed=done, note="")
        if not self._plain:
            self._bar.start()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Record update number `step` (from 1)."""
        now = time.monotonic()
        speed = (step - self.first) / max(now - self.started, 1e-9)
        record = {"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}
        self._log.write(json.dumps(record) + "\n")
        note = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if k != "rate")
        self._bar.update(self._task, completed=step, note=f"{note}  {speed:.2f} steps/s")
        if self._plain and (now - self.last_line >= self.settings.log_seconds or step == self.settings.steps):
            self.last_line = now
            left = (self.settings.steps - step) / speed
            log.info("%s %d/%d  %s  %.2f steps/s  %d s left", self.name, step, self.settings.steps, note, speed, left)
            self._log.flush()

    def flush(self) -> None:
        """Put the log on disk, so that it is never behind a checkpoint."""
        self._log.flush()

    def close(self) -> None:
        """Stop the bar and flush the log."""
        self._bar.stop()
        self._log.close()


@contextmanager
def _display(name: str, settings: LoopSettings, path: Path, done: int) -> Iterator[_Display]:
    shown = _Display(name, settings, path, done)
    try:
        yield shown
    finally:
        shown.close()


def _forward_backward(
    objective: Objective[Any], loss_of: Callable[[Any], Any], settings: LoopSettings, step: int
) -> tuple[dict[str, float], list[str]]:
    """Accumulate the gradients of one update; return the averaged loss parts and the ids of the samples in it."""
    parts: dict[str, float] = {}
    ids: list[str] = []
    for micro in range(step * settings.accumulate, (step + 1) * settings.accumulate):
        batch = objective.batch(micro, StepRng(settings.seed, micro))
        ids.extend(objective.ids(batch))
        device = next(objective.module.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss, named = loss_of(batch)
        (loss / settings.accumulate).backward()
        for key, value in {"loss": loss.detach(), **named}.items():
            parts[key] = parts.get(key, 0.0) + float(value) / settings.accumulate
    return parts, ids


def fit(
    name: str,
    objective: Objective[Any],
    settings: LoopSettings,
    folder: Path,
    *,
    signature: str = "",
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
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

    Raises:
        PausedError: when the time limit was reached.
        UserError: where the loss or a gradient is not finite, naming the samples of that batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = objective.module.train()
    groups = objective.groups()
    optimizer = make_optimizer(settings, groups, getattr(objective, "matrices", list)())
    ema = Ema(module, settings.ema, warmup=settings.ema_warmup) if settings.ema else None
    checkpoints = Checkpoints(folder / "checkpoints", signature)
    done, before = checkpoints.load(module, optimizer, ema)
    if done:
        log.info("%s goes on after %d of %d steps", name, done, settings.steps)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    loss_of = torch.compile(objective.loss) if settings.compile else objective.loss
    started = saved = time.monotonic()
    tail: deque[dict[str, float]] = deque(maxlen=max(1, settings.steps // 20))
    with _display(name, settings, folder / "log.jsonl", done) as display:
        for step in range(done, settings.steps):
            optimizer.zero_grad()
            parts, ids = _forward_backward(objective, loss_of, settings, step)
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
            display.update(step + 1, values)
            tail.append(parts)
            now = time.monotonic()
            out_of_time = settings.time_limit_minutes and now - started > 60 * settings.time_limit_minutes
            if now - saved > 60 * settings.checkpoint_minutes or step + 1 == settings.steps or out_of_time:
                display.flush()
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
