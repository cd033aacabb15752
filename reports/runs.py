"""Stored runs for people who work in a notebook: pandas frames, tables and the report, from run folders."""

from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError
from jfeval.reports import build
from jfeval.reports.frames import metrics_frame, samples_frame
from jfeval.reports.table import Table
from jfeval.reports.tables import leaderboard
from jfeval.store import Store

if TYPE_CHECKING:
    import pandas as pd


class Runs(Sequence[Store]):
    """Any number of stored runs."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = tuple(stores)

    def __len__(self) -> int:
        return len(self._stores)

    def __getitem__(self, index: int) -> Store:  # pyright: ignore[reportIncompatibleMethodOverride]  no slices
        return self._stores[index]

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores)

    def __repr__(self) -> str:
        return f"Runs({', '.join(store.path.name for store in self)})"

    @property
    def metrics(self) -> "pd.DataFrame":
        """One row per metric of every run; see `frames.METRIC_COLUMNS`."""
        return metrics_frame(self)

    @property
    def samples(self) -> "pd.DataFrame":
        """One row per judged image or answer of every run; see `frames.samples_frame`."""
        return samples_frame(self)

    @property
    def leaderboard(self) -> list[Table]:
        """One table per benchmark, edition, protocol and wholeness; each has ``to_frame``, ``to_markdown``, ``to_csv``."""
        return leaderboard(self)

    def report(self, out: str | Path) -> Path:
        """Write the HTML report."""
        return build.write_report(self, Path(out))


def load_runs(*patterns: str | Path) -> Runs:
    """Open run folders by path or pattern, in the order of their names.

    >>> load_runs("runs/*").metrics.query("headline")[["model", "seed", "value"]]  # doctest: +SKIP

    Raises:
        UserError: A pattern finds no run.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = [Path(path) for path in sorted(glob(str(pattern))) if Store(Path(path)).exists()]  # noqa: PTH207 - may be absolute
        if not paths:
            raise UserError(f"no run folder matches {str(pattern)!r}; a run is a folder that `jfeval run` wrote")
        found.update(dict.fromkeys(paths))
    return Runs([Store.open(path) for path in found])
