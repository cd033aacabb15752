"""Curves of a sweep: how the headline number moves with one setting, as plain geometry that a template draws as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jfeval.reports.charts import SERIES, WIDTH
from jfeval.reports.table import Cell
from jfeval.reports.tables import Group
from jfeval.reports.text import flatten, label, one_line
from jfeval.schema import Metric
from jfeval.store import Store

_LEFT, _RIGHT, _TOP, _HEIGHT, _BOTTOM = 64, 24, 14, 240, 48
LEAST_POINTS = 3
"""A setting with fewer values makes no curve."""
_NOT_SETTINGS = ("weights", "model", "vae")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run on a curve, in chart units."""

    x: float
    y: float
    low: float | None
    high: float | None
    title: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """Runs that differ in one setting only."""

    series: int
    name: str
    points: tuple[Point, ...]

    @property
    def path(self) -> str:
        """Return the line through the points, as SVG path data."""
        return "M" + "L".join(f"{p.x} {p.y}" for p in self.points)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number against a setting."""

    title: str
    setting: str
    metric: str
    lines: tuple[Line, ...]
    left_out: int
    """Lines that were not drawn: more than `charts.SERIES` cannot be told apart."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = _TOP + _HEIGHT
    height: float = _TOP + _HEIGHT + _BOTTOM


def curves(group: Group) -> list[Curve]:
    """Draw a curve for every numeric setting that takes at least `LEAST_POINTS` values among runs that agree in everything else."""
    runs = [(run, headline, _settings(run)) for run in group.runs if (headline := _headline(run, group.protocol)) is not None]
    keys = dict.fromkeys(key for _, _, settings in runs for key in settings)
    varied = [key for key in keys if len({settings.get(key) for _, _, settings in runs}) > 1]
    found = []
    for key in varied:
        lines: dict[tuple[str, ...], list[tuple[float, Metric]]] = {}
        for _, metric, settings in runs:
            x = _number(settings.get(key))
            if x is not None:
                lines.setdefault(tuple(settings.get(other, "") for other in varied if other != key), []).append((x, metric))
        whole = {rest: sorted(points, key=lambda p: p[0]) for rest, points in lines.items() if len({x for x, _ in points}) >= LEAST_POINTS}
        if whole:
            others = [other for other in varied if other != key]
            found.append(_lay_out(group, key, {_name(others, rest): points for rest, points in sorted(whole.items())}))
    return found


def _headline(run: Store, protocol: str) -> Metric | None:
    return next((m for m in run.metrics(protocol) if m.headline), None)


def _settings(run: Store) -> dict[str, str]:
    """Return what may vary in a sweep: the model's name, its recipe, and the seed."""
    record = run.record()
    recipe = {key: value for key, value in flatten(record.model_identity).items() if key not in _NOT_SETTINGS and len(value) <= 24}
    return {"model": record.shown, **recipe, "seed": str(record.seed)}


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _name(keys: Sequence[str], values: Sequence[str]) -> str:
    """Name a line by what sets it apart."""
    return ", ".join(f"{label(key.rpartition('.')[2])} {one_line(value, 40)}" for key, value in zip(keys, values, strict=True) if value)


def _lay_out(group: Group, key: str, lines: Mapping[str, Sequence[tuple[float, Metric]]]) -> Curve:
    """Turn the metrics of a group into positions."""
    setting, metric = label(key.rpartition(".")[2]), label(next(iter(lines.values()))[0][1].name)
    cells = {name: [(x, _cell(metric)) for x, metric in points] for name, points in lines.items()}
    return lay_out_curve(f"{group.title}: {metric} against {setting}", setting, metric, cells)


def _cell(metric: Metric) -> Cell:
    return Cell(value=float(metric.value), low=metric.ci_low, high=metric.ci_high, n=metric.n)


def lay_out_curve(title: str, setting: str, metric: str, lines: Mapping[str, Sequence[tuple[float, Cell]]]) -> Curve:
    """Turn values into positions.

    Args:
        title: Of the curve.
        setting: Says what runs along the horizontal axis.
        metric: Says what runs along the vertical axis.
        lines: By name, places along the horizontal axis with finite values, in rising order and at least two different ones in all.
    """
    shown = dict(list(lines.items())[:SERIES])
    cells = [cell for points in shown.values() for _, cell in points]
    xs = sorted({x for points in shown.values() for x, _ in points})
    ends = [v for c in cells for v in (c.value, c.low, c.high) if isinstance(v, int | float) and math.isfinite(v)]
    y_ticks = _ticks(min(ends), max(ends))
    low, high = y_ticks[0], y_ticks[-1]
    pad = 16

    def across(x: float) -> float:
        return round(_LEFT + pad + (WIDTH - _LEFT - _RIGHT - 2 * pad) * (x - xs[0]) / (xs[-1] - xs[0]), 2)

    def up(y: float) -> float:
        return round(_TOP + _HEIGHT * (1 - (y - low) / (high - low)), 2)

    drawn = []
    for number, (name, points) in enumerate(shown.items()):
        marks = []
        for x, cell in points:
            ends_at = (None, None) if cell.low is None or cell.high is None else (up(cell.low), up(cell.high))
            words = f"{setting} {x:g}{', ' if name else ''}{name}: {metric} {cell.text()}"
            marks.append(Point(x=across(x), y=up(float(cell.value or 0.0)), low=ends_at[0], high=ends_at[1], title=words))
        drawn.append(Line(series=number, name=name, points=tuple(marks)))
    return Curve(
        title=title,
        setting=setting,
        metric=metric,
        lines=tuple(drawn),
        left_out=len(lines) - len(shown),
        x_ticks=tuple((across(x), f"{x:g}") for x in xs),
        y_ticks=tuple((up(y), f"{y:g}") for y in y_ticks),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return round values from just below ``low`` to just above ``high``.

    >>> _ticks(0.31, 0.62)
    [0.3, 0.4, 0.5, 0.6, 0.7]
    >>> _ticks(9.2, 13.9)
    [9.0, 10.0, 11.0, 12.0, 13.0, 14.0]
    >>> _ticks(0.5, 0.5)
    [0.49, 0.5, 0.51]
    """
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= 0.999 * rough)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(i * step, 10) for i in range(first, last + 1)]
