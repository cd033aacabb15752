"""Which runs of a leaderboard's column are best, or cannot be told from the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from jfeval.differences import paired_difference, stratified_difference, verdict
from jfeval.reports.items import Key, by_item, same_items
from jfeval.schema import Metric, Score
from jfeval.store import Store

Standing: TypeAlias = Literal["", "best", "near"]
"""``near``: not separated from the best one."""

NOTE = (
    "● best of its column, where not all are equal; ○ not separated from it: the 95 % interval of the difference holds zero. Paired item "
    "by item where both runs saw the same items and the number is a mean over them; else taken as independent, which separates less."
)
_Z = 1.959963984540054
_SAME = 1e-9

Column: TypeAlias = Sequence[Metric | None]


class Standings:
    """Compares the runs of a group, reading each run's scores once.

    Args:
        runs: Every run of a table.
        protocol: Whose numbers they are.
        ranked: Whether each run may be ranked at all.
    """

    def __init__(self, runs: Sequence[Store], protocol: str, ranked: Sequence[bool]) -> None:
        self._runs, self._protocol, self._ranked = runs, protocol, ranked
        self._scores: dict[int, Mapping[Key, Score]] = {}

    def of(self, column: Column) -> list[Standing]:
        """Return each run's standing in one number; all empty where fewer than two can be ranked by it, or all are equal."""
        found: list[Standing] = [""] * len(column)
        known = {i: m for i, m in enumerate(column) if m is not None and self._ranked[i] and math.isfinite(m.value)}
        if len({m.value for m in known.values()}) < 2 or any(m.better == "neither" for m in known.values()):
            return found
        sign = -1 if any(metric.better == "lower" for metric in known.values()) else 1
        best = max(known, key=lambda i: (sign * known[i].value, -i))
        for i, metric in known.items():
            if metric.value == known[best].value:
                found[i] = "best"
            elif not self._separated(best, known[best], i, metric):
                found[i] = "near"
        return found

    def _separated(self, i: int, one: Metric, j: int, two: Metric) -> bool:
        if same_items(self._runs[i], self._runs[j]):
            paired = _paired(one, two, self._items(i), self._items(j))
            if paired is not None:
                return paired
        if one.se is None or two.se is None:
            return False
        return abs(one.value - two.value) > _Z * math.hypot(one.se, two.se)

    def _items(self, i: int) -> Mapping[Key, Score]:
        if i not in self._scores:
            self._scores[i] = by_item(self._runs[i].scores(self._protocol))
        return self._scores[i]


def _paired(one: Metric, two: Metric, first: Mapping[Key, Score], second: Mapping[Key, Score]) -> bool | None:
    """Tell two numbers apart by their items; None where a number is no mean over items, or of tasks' means."""
    pairs = [(score, second[key]) for key, score in first.items() if key in second and one.task in ("", score.task)]
    if not pairs:
        return None
    names = [name for name in pairs[0][0].values if all(name in s.values and 0 <= s.values[name] <= 1 for pair in pairs for s in pair)]
    tasks = list(dict.fromkeys(a.task for a, _ in pairs))
    by_task = [[pair for pair in pairs if pair[0].task == task] for task in tasks]
    for name in names:
        for strata in ([pairs], by_task):
            if all(abs(_mean(strata, name, side) - metric.value) < _SAME for side, metric in ((0, one), (1, two))):
                found = [paired_difference(*_values(part, name), [a.cluster for a, _ in part]) for part in strata]
                equal = [replace(one, n=1) for one in found]  # strata weigh by n, and the mean of tasks weighs tasks alike
                return verdict(stratified_difference(equal)) != "not separated"
    return None


def _values(pairs: Sequence[tuple[Score, Score]], name: str) -> tuple[list[float], list[float]]:
    return [a.values[name] for a, _ in pairs], [b.values[name] for _, b in pairs]


def _mean(strata: Sequence[Sequence[tuple[Score, Score]]], name: str, side: int) -> float:
    """Return the mean of the strata's means."""
    return math.fsum(math.fsum(pair[side].values[name] for pair in part) / len(part) for part in strata) / len(strata)
