"""What a person sees: progress and logs on standard error, results on standard output; rich on a terminal, plain lines elsewhere."""

import io
import logging
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from jfeval.secrecy import hide

if TYPE_CHECKING:
    import rich.progress

_PLAIN_EVERY_SECONDS = 10.0
_CONTROL = dict.fromkeys(
    (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000), 0x2028, 0x2029),
    "�",
)


def clean(text: str) -> str:
    """Return untrusted text that cannot drive a terminal: no control characters, no marks that reverse writing, no lone surrogates."""
    return text.translate(_CONTROL)


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a person looks at a stream. Variables of the environment that ask for colours make no terminal of a file or a pipe."""
    return stream.isatty()


def setup_logging(*, verbose: bool = False) -> None:
    """Send log records to standard error."""
    level = logging.DEBUG if verbose else logging.INFO
    if is_terminal(sys.stderr):
        from rich.console import Console
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
        handler.setFormatter(_CleanFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_CleanFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("jfeval").setLevel(level)


def label_lines(label: str) -> None:
    """Put a label before every line that this process says from here on, plainly, so that several processes share one terminal or file."""
    stream = sys.stderr.stream if isinstance(sys.stderr, _Labelled) else sys.stderr
    sys.stderr = _Labelled(stream, label)
    setup_logging()


class _Labelled(io.TextIOBase):
    """Standard error that passes on whole lines, each with a label before it; no terminal."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self.stream, self._label, self._begun = stream, label, ""

    def write(self, text: str, /) -> int:
        """Pass on the lines that are complete, at once, so that siblings' words do not come between."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self._label}  {line}\n" for line in lines))
            self.stream.flush()
        return len(text)

    def fileno(self) -> int:
        return self.stream.fileno()


class _CleanFormatter(logging.Formatter):
    """Formats records so that untrusted text in them drives no terminal and begins no line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(hide(super().format(record))).replace("\n", "\n    ")


class Progress:
    """One stage's progress: a bar with rate and time left on a terminal, otherwise a line every ten seconds and one at the end.

    Args:
        stage: A word for it.
        total: Samples in all.
        done: Samples found done at the start.
    """

    def __init__(self, stage: str, *, total: int, done: int = 0) -> None:
        self._stage, self._total, self._done, self._first = stage, total, done, done
        self._started = self._said = time.monotonic()
        self._bar = _bar() if is_terminal(sys.stderr) else None

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=self._total, completed=self._done)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done > self._first or error is not None:
            self._say()

    def advance(self, samples: int) -> None:
        """Count samples as done."""
        self._done += samples
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() - self._said > _PLAIN_EVERY_SECONDS and self._done < self._total:
            self._say()

    def set(self, done: int, total: int) -> None:
        """State how far it is, where the total is only learned on the way."""
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, total=total)
        self.advance(done - self._done)

    def _say(self) -> None:
        self._said = time.monotonic()
        rate = (self._done - self._first) / max(self._said - self._started, 1e-9)
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate > 0 and self._done < self._total else ""
        sys.stderr.write(f"{self._stage} {self._done}/{self._total}, {rate:.1f}/s{left}\n")
        sys.stderr.flush()


def _bar() -> "rich.progress.Progress":
    import rich.progress as parts
    from rich.console import Console
    from rich.text import Text

    class Rate(parts.ProgressColumn):
        def render(self, task: parts.Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    words = (parts.TextColumn("{task.description:<9}"), parts.BarColumn(), parts.MofNCompleteColumn(), parts.TextColumn("samples"))
    times = (Rate(), parts.TimeElapsedColumn(), parts.TextColumn("left"), parts.TimeRemainingColumn())
    return parts.Progress(*words, *times, console=Console(stderr=True))
