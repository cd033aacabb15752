"""`jfeval verify`: finds recorded golden sets under a folder and compares them with what this version computes."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from jfeval.golden import GoldenResult, GoldenSuite

log = logging.getLogger(__name__)

_PROVIDERS = ("jfeval.models.janusflow.goldens", "jfeval.benchmarks.goldens")
_SUITE_WIDTH, _CASES_WIDTH, _WORST_WIDTH = 46, 7, 26
_MAX_NOTE = 300

HEADER = f"{'suite':<{_SUITE_WIDTH}}{'cases':>{_CASES_WIDTH}}  {'worst error or mismatches':<{_WORST_WIDTH}}result"


@dataclass(frozen=True, kw_only=True)
class CheckedSet:
    """One golden set that was found, and how it ended."""

    suite: str
    folder: Path
    result: GoldenResult
    root: Path = Path()
    """The folder that was asked for."""

    @property
    def place(self) -> str:
        """The set's folder as seen from the root; empty for the root itself."""
        inside = self.folder.is_relative_to(self.root)
        return "" if self.folder == self.root else str(self.folder.relative_to(self.root) if inside else self.folder)

    @property
    def ok(self) -> bool:
        """True where everything recorded is reproduced."""
        return self.result.status == "ok"

    def line(self) -> str:
        """Write ``suite  cases  worst error or mismatches  ok/FAIL``.

        The suite's name is followed by ``@`` and the set's place, where that is not the root. Asides stand in brackets after the numbers;
        the first difference of a failed set comes last.
        """
        result = self.result
        name = f"{self.suite}@{self.place}" if self.place else self.suite
        numbers = f"{_outcome(result)} ({_one_line(result.aside)})" if result.aside else _outcome(result)
        head = f"{name:<{_SUITE_WIDTH}} {result.cases:>{_CASES_WIDTH - 1}}  {numbers:<{_WORST_WIDTH - 1}} {result.status}"
        return head if self.ok or not result.note else f"{head}  {_one_line(result.note)}"


def known_suites() -> tuple[GoldenSuite, ...]:
    """Return every kind of golden set that this version recognises."""
    return tuple(suite for module in _PROVIDERS for suite in import_module(module).SUITES)


def verify(root: Path, suites: Sequence[GoldenSuite] | None = None) -> Iterator[CheckedSet]:
    """Check every golden set in a folder and below, one after the other.

    A set is recognised by the names of its files alone. A set that cannot be read fails; so does a folder without any set.

    Args:
        root: The root of all sets, one family, or one set.
        suites: What may be found; None for everything that this version knows.
    """
    suites = known_suites() if suites is None else suites
    found = False
    for folder in _folders(root):
        for suite in suites:
            if suite.recognise(folder):
                found = True
                yield CheckedSet(suite=suite.name, folder=folder, result=_checked(suite, folder), root=root)
    if not found:
        why = "no golden set here or below" if root.is_dir() else "not a folder that can be read"
        note = f"{root}: {why}; known: {', '.join(suite.name for suite in suites)}"
        yield CheckedSet(suite="(none)", folder=root, result=GoldenResult(cases=0, note=note), root=root)


def main(root: Path) -> int:
    """Check every set below a folder, print one line each as it is done, and return the exit status."""
    import click

    click.echo(HEADER)
    checked = []
    for one in verify(root):
        checked.append(one)
        click.echo(one.line())
    return exit_status(checked)


def exit_status(checked: Iterable[CheckedSet]) -> int:
    """Return 0 where there is at least one set and every one is ok, else 1."""
    outcomes = [one.ok for one in checked]
    return 0 if outcomes and all(outcomes) else 1


def _checked(suite: GoldenSuite, folder: Path) -> GoldenResult:
    try:
        return suite.check(folder)
    except Exception as error:  # a file that cannot be read or lacks a field is that set's failure, and not the end of the others
        log.debug("checking %s in %s", suite.name, folder, exc_info=True)
        return GoldenResult(cases=0, mismatches=1, note=f"{type(error).__name__}: {error}")


def _folders(root: Path) -> Iterator[Path]:
    """List a folder and those below it, links followed, each real folder once; hidden ones are left out."""
    seen: set[str] = set()
    for name, below, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(name)
        below[:] = [] if real in seen else sorted(one for one in below if not one.startswith("."))
        if real not in seen:
            seen.add(real)
            yield Path(name)


def _outcome(result: GoldenResult) -> str:
    if not result.implemented:
        return "-"
    wrong = f"{result.mismatches} mismatch{'' if result.mismatches == 1 else 'es'}"
    if result.worst is None:
        return wrong
    return f"{result.worst:.2e}" + (f", {wrong}" if result.mismatches else "")


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_NOTE else line[: _MAX_NOTE - 3] + "..."
