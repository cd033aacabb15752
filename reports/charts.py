"""Charts as plain geometry: where every bar, dot and whisker goes. A template draws them as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jfeval.reports.naming import run_names
from jfeval.reports.table import Cell
from jfeval.reports.tables import Group, main_metrics
from jfeval.reports.text import label, one_line, width
from jfeval.schema import Metric

WIDTH = 640
"""Width of a chart in its own units; the page scales it."""

_RIGHT, _TOP, _BOTTOM = 112, 10, 28
_LEFT, _MOST_LEFT, _LETTER, _MOST_NAME = 128, 250, 7.4, 32
"""Room for the rows' names, and about how wide a letter of them is."""
_BAR_ROW, _DOT_ROW, _GAP = 34, 15, 14
SERIES = 6
"""Runs drawn in one chart at most: more cannot be told apart by colour and mark."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One value with its whisker, in chart units."""

    series: int
    x: float
    y: float
    low: float | None
    high: float | None
    text: str
    """The value as the tables show it."""
    n: int | None
    title: str
    """The mark in words, for pointers and screen readers."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One labelled line of a chart."""

    label: str
    y: float
    """Middle of the row."""
    total: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A horizontal chart of values with 95 % intervals."""

    title: str
    series: tuple[str, ...]
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    """Position and text of the grid lines."""
    left: float
    right: float
    top: float
    bottom: float
    height: float

    @property
    def single(self) -> bool:
        """True when there is one run: bars instead of dots."""
        return len(self.series) == 1


def task_chart(group: Group) -> Chart | None:
    """Lay out a group's tasks and their number over all tasks or the headline, one mark per run; None when the group has no task numbers.

    Runs beyond `SERIES` are left to the tables.
    """
    runs = group.runs[:SERIES]
    names = run_names([run.record() for run in runs])
    metrics = [run.metrics(group.protocol) for run in runs]
    numbers = [main_metrics(one) for one in metrics]
    headlines = [_total(one) for one in metrics]
    lines: list[tuple[str, bool, list[Cell]]] = []
    for task in [*dict.fromkeys(task for one in numbers for task in one), ""]:
        found = [one.get(task) for one in numbers] if task else headlines
        cells = [Cell() if m is None else Cell(value=float(m.value), low=m.ci_low, high=m.ci_high, n=m.n) for m in found]
        name = next((label(m.task or m.name) for m in found if m is not None), "")
        if name:
            lines.append((one_line(name, _MOST_NAME), not task, cells))
    if not any(not total for _, total, _ in lines):
        return None
    return _lay_out(f"{group.title}: tasks", names, lines)


def _total(metrics: Sequence[Metric]) -> Metric | None:
    """Return what tasks are drawn beside: the same number over all tasks, else the headline."""
    names = {metric.name for metric in main_metrics(metrics).values()}
    same = next((metric for metric in metrics if metric.name in names and not metric.task), None)
    return same or next((metric for metric in metrics if metric.headline), None)


def _lay_out(title: str, names: Sequence[str], lines: Sequence[tuple[str, bool, Sequence[Cell]]]) -> Chart:
    """Turn values into positions."""
    values = [v for _, _, cells in lines for c in cells for v in (c.value, c.high) if isinstance(v, float) and math.isfinite(v)]
    end = _axis_end(max(values, default=1.0))
    left = round(min(max(_LEFT, 16 + _LETTER * max(width(name) for name, _, _ in lines)), _MOST_LEFT))
    span = WIDTH - left - _RIGHT

    def place(value: float) -> float:
        return round(left + span * min(max(value / end, 0.0), 1.0), 2)

    step = _BAR_ROW if len(names) == 1 else len(names) * _DOT_ROW + _GAP
    rows, y = [], float(_TOP)
    for name, total, cells in lines:
        y += 8 if total else 0
        marks = []
        for i, cell in enumerate(cells):
            if not isinstance(cell.value, float):
                continue
            middle = y + step / 2 if len(names) == 1 else y + _GAP / 2 + (i + 0.5) * _DOT_ROW
            low, high = (None, None) if cell.low is None or cell.high is None else (place(cell.low), place(cell.high))
            words = f"{names[i]}: {name} {cell.text()}" + ("" if cell.n is None else f", n = {cell.n}")
            marks.append(Mark(series=i, x=place(cell.value), y=middle, low=low, high=high, text=cell.number(), n=cell.n, title=words))
        rows.append(Row(label=name, y=y + step / 2, total=total, marks=tuple(marks)))
        y += step
    ticks = tuple((place(end * i / 4), f"{end * i / 4:.3g}") for i in range(5))
    return Chart(
        title=title,
        series=tuple(names),
        rows=tuple(rows),
        ticks=ticks,
        left=left,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=y + 4,
        height=y + _BOTTOM,
    )


def _axis_end(largest: float) -> float:
    """Return where the axis ends: at 1 for fractions, else at the next 1, 2 or 5 times a power of ten.

    >>> _axis_end(0.4), _axis_end(9.51), _axis_end(24.0)
    (1.0, 10.0, 50.0)
    """
    if largest <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= largest)
