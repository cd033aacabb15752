"""What a training shows while it runs: a line or a bar, a log of every update, and TensorBoard where it is asked for."""

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jfeval.errors import UserError
from jfeval.models.training.peaks import peak_of
from jfeval.models.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from jfeval.models.training.loop import LoopSettings

log = logging.getLogger(__name__)


class Size(NamedTuple):
    """What one update learns from."""

    samples: int
    tokens: int
    """0 where a training has no tokens."""
    operations: float = 0.0
    """Floating-point operations that the model needs for it; 0 where they are not counted."""

    def plus(self, other: "Size") -> "Size":
        """Return what both are together."""
        return Size(self.samples + other.samples, self.tokens + other.tokens, self.operations + other.operations)


def memory_used() -> int:
    """Return the most bytes in use so far: of the GPU where there is one in use, of this process otherwise."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _board(folder: Path, done: int) -> Any:  # noqa: ANN401 - a class of an optional dependency
    """Open a TensorBoard log; what an earlier sitting wrote after the checkpoint is hidden.

    Raises:
        UserError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("loop.tensorboard needs the package tensorboard: pip install 'jfeval[tracking]', or set it to false") from error
    return SummaryWriter(str(folder), purge_step=done + 1)


def _lines_up_to(path: Path, done: int) -> Iterator[str]:
    """Yield the whole log lines of updates up to `done`; a line cut short by a kill is dropped."""
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= done:
                yield line
        except (ValueError, KeyError, TypeError):
            continue


class Display:
    """Shows progress: a bar in a terminal, a plain line every few seconds elsewhere; and appends every update to log.jsonl."""

    def __init__(self, name: str, settings: "LoopSettings", path: Path, done: int, device: str = "cpu", processes: int = 1) -> None:
        """Open the log and show the bar.

        Args:
            name: The part's.
            settings: Say how often a line is printed, among others.
            path: The log.
            done: Updates done before.
            device: Where the model runs, of which the share of its peak is shown.
            processes: How many of these devices there are.
        """
        self.name, self.settings, self.path = name, settings, path
        self._peak, self._missing = peak_of(settings.peak_tflops, device)
        self._peak *= processes
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
        self._plain = not self._bar.console.file.isatty()  # rich's own answer follows variables of the environment
        self._task = self._bar.add_task(name, total=settings.steps, completed=done, note="")
        self._seen = Size(0, 0, 0.0)
        self._board = _board(path.parent / "tensorboard", done) if settings.tensorboard else None
        if not self._plain:
            self._bar.start()

    def update(self, step: int, values: Mapping[str, float], size: Size) -> None:
        """Record update number `step` (from 1), which learned from a batch of some size."""
        now = time.monotonic()
        elapsed = max(now - self.started, 1e-9)
        speed = (step - self.first) / elapsed
        self._seen = self._seen.plus(size)
        rates = {"samples/s": self._seen.samples / elapsed, "tokens/s": self._seen.tokens / elapsed, "memory GiB": memory_used() / 2**30}
        if self._peak:
            rates["MFU"] = self._seen.operations / elapsed / self._peak
        elif size.operations and self._missing:
            log.info("%s: MFU is not shown: %s", self.name, self._missing)
            self._missing = ""
        if self._board is not None:
            for key, value in {**values, **rates}.items():
                self._board.add_scalar(key, value, step)
        record = {"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}
        self._log.write(json.dumps(record) + "\n")
        shown = {**{k: v for k, v in values.items() if k != "rate"}, **{k: v for k, v in rates.items() if v}}
        note = "  ".join(f"{k} {v:.4g}" for k, v in shown.items())
        self._bar.update(self._task, completed=step, note=f"{note}  {speed:.2f} steps/s")
        if self._plain and (now - self.last_line >= self.settings.log_seconds or step == self.settings.steps):
            self.last_line = now
            left = (self.settings.steps - step) / speed
            log.info("%s %d/%d  %s  %.2f steps/s  %d s left", self.name, step, self.settings.steps, note, speed, left)
            self._log.flush()

    def picture(self, step: int, file: Path) -> None:
        """Put a picture onto TensorBoard's page, where there is one."""
        if self._board is not None:
            with Image.open(file) as image:
                self._board.add_image(file.stem.partition("-")[0], np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def flush(self) -> None:
        """Put the log on disk, so that it is never behind a checkpoint."""
        self._log.flush()

    def close(self) -> None:
        """Stop the bar and flush the log."""
        self._bar.stop()
        self._log.close()
        if self._board is not None:
            self._board.close()


class Silent:
    """Shows nothing: another process does."""

    def update(self, step: int, values: Mapping[str, float], size: Size) -> None:
        """Ignore an update."""

    def picture(self, step: int, file: Path) -> None:
        """Ignore a picture."""

    def flush(self) -> None:
        """Do nothing."""


@contextmanager
def display(
    name: str, settings: "LoopSettings", path: Path, done: int, device: str = "cpu", ranks: Ranks = ALONE
) -> Iterator[Display | Silent]:
    """Show a training's progress while a block runs, in the first of its processes."""
    if not ranks.first:
        yield Silent()
        return
    shown = Display(name, settings, path, done, device, ranks.size)
    try:
        yield shown
    finally:
        shown.close()
