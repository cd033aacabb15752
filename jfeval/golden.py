"""What a recorded set of outputs (a golden set) is, and how a check of one ends.

A package that reimplements published code offers `SUITES`, a tuple of `GoldenSuite`; `jfeval.verify` finds the sets under a folder and
runs them. No torch here: a suite imports what it needs inside its `check`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

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
