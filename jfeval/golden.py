"""What a recorded set of outputs (a golden set) is, and how a check of one ends.

A package that reimplements published code offers `SUITES`, a tuple of `GoldenSuite`; `jfeval.verify` finds the sets under a folder and
runs them. No torch here: a suite imports what it needs inside its `check`.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jfeval.errors import UserError

Status: TypeAlias = Literal["ok", "FAIL", "not implemented"]


@dataclass(frozen=True, kw_only=True)
class GoldenResult:
    """How one set ended."""

    cases: int
    """How many recorded cases were compared; a set of 0 cases fails."""
    worst: float | None = None
    """Largest absolute difference, for sets of numbers; infinite for a wrong shape, or NaN where the other has none."""
    tolerance: float = 0.0
    """What `worst` may reach and still be ok."""
    mismatches: int = 0
    """How many compared fields differ, for sets of names, verdicts and whole numbers."""
    note: str = ""
    """The first difference, or why the set could not be checked."""
    aside: str = ""
    """What differs in fields that are recorded for information only; shown, and no failure."""
    implemented: bool = True

    @property
    def status(self) -> Status:
        """Return ok only where at least one case was compared and nothing differs."""
        if not self.implemented:
            return "not implemented"
        within = self.worst is None or self.worst <= self.tolerance  # false for NaN
        return "ok" if self.cases > 0 and self.mismatches == 0 and within else "FAIL"


@dataclass(frozen=True, kw_only=True)
class GoldenSuite:
    """One kind of golden set: how it is recognised and how it is checked."""

    name: str
    """For example ``geneval/cases``; the first column that ``jfeval verify`` prints."""
    recognise: Callable[[Path], bool]
    """True for a folder that holds this kind of set, by the names of its files; must not read them."""
    check: Callable[[Path], GoldenResult]
    """Compares the set with what this version computes. May raise on a file that cannot be read: the caller reports it as FAIL."""


def has_any(*names: str) -> Callable[[Path], bool]:
    """Build a `recognise` that is true for a folder with at least one of these files.

    One of several is enough on purpose: a set that lost a file is a set that fails, not one that is passed over.
    """
    return lambda folder: any((folder / name).is_file() for name in names)


def worst_difference(expected: ArrayLike, found: ArrayLike) -> float:
    """Return the largest absolute difference of two arrays, in float64.

    Infinite where shapes differ, or where one holds NaN or an infinity that the other does not hold at the same place; 0 for empty arrays.
    """
    a, b = np.asarray(expected, dtype=np.float64), np.asarray(found, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))


@dataclass
class Tally:
    """Collects the differences of one set: how many, the largest, and the first in words."""

    mismatches: int = 0
    worst: float = 0.0
    first: str = ""

    def equal(self, what: str, expected: object, found: object) -> None:
        """Compare values that must be the same, in type too: true is not 1."""
        if type(expected) is not type(found) or expected != found:
            self.differ(f"{what}: expected {_short(expected)}, found {_short(found)}")

    def close(self, what: str, expected: ArrayLike, found: ArrayLike, tolerance: float) -> None:
        """Compare numbers or arrays up to an absolute tolerance."""
        difference = worst_difference(expected, found)
        self.worst = max(self.worst, difference)
        if not difference <= tolerance:
            self.differ(f"{what}: differs by {difference:.3g}, allowed {tolerance:.3g}")

    def fields(self, what: str, expected: Iterable[str], compared: Iterable[str]) -> None:
        """Count every recorded field that is not compared, and every field to compare that is not recorded."""
        for name in sorted(set(expected) ^ set(compared)):
            self.differ(f"{what}: field {name!r} is {'missing' if name in compared else 'not one that is compared'}")

    def differ(self, what: str) -> None:
        """Count one difference."""
        self.mismatches += 1
        self.first = self.first or what

    def result(self, cases: int, *, numeric: bool, aside: str = "") -> GoldenResult:
        """Close the set; `numeric` shows the largest difference beside the count, `aside` what differs in fields for information."""
        return GoldenResult(
            cases=cases,
            worst=self.worst if numeric else None,
            tolerance=float("inf"),
            mismatches=self.mismatches,
            note=self.first,
            aside=aside,
        )


def json_file(path: Path) -> dict[str, Any]:
    """Read a recorded JSON object.

    Raises:
        UserError: The file is missing or not a JSON object.
    """
    return _object(_text(path), path.name)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Read recorded JSON Lines.

    Raises:
        UserError: The file is missing, or a line is not a JSON object.
    """
    lines = _text(path).removesuffix("\n").split("\n")
    return [_object(line, f"{path.name}, line {number}") for number, line in enumerate(lines, start=1)]


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: not an object")
    return found


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    return path.read_text(encoding="utf-8")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
