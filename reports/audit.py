"""Printed numbers, asked how they can have come about: which are possible under which protocol, and how far apart two reports are."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.differences import half_unit
from jfeval.errors import UserError
from jfeval.reports.audit_rules import GENEVAL_IMAGES, GENEVAL_PROMPTS, READINGS, Span, noise_bound
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, one_line

_NEEDED = ("model", "benchmark", "metric", "value")
_MOST_ROWS = 100_000
_MOST_BYTES = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Printed:
    """One printed number."""

    line: int
    """Of the file, from 1."""
    model: str
    benchmark: str
    metric: str
    text: str
    """The number with the decimals that it is printed with."""
    source: str

    @property
    def value(self) -> float:
        """The number as printed."""
        return float(self.text)

    @property
    def scale(self) -> float:
        """100 for a number in percent."""
        return 1.0 if self.value <= 1 else 100.0

    @property
    def span(self) -> Span:
        """The fractions that round to it."""
        half = half_unit(self.text)
        return Span(low=(self.value - half) / self.scale, high=(self.value + half) / self.scale)

    @property
    def cut(self) -> Span:
        """The fractions that are it when further decimals are cut off."""
        return Span(low=self.value / self.scale, high=(self.value + 2 * half_unit(self.text)) / self.scale - 1e-12)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found."""

    table: Table
    """One row per number."""
    details: Table
    """The same, and how each number can have come about under each protocol."""
    patterns: tuple[str, ...]
    """What the numbers of one source say together."""
    impossible: int
    """Numbers that fit no protocol that is known here, or not the others of their own report."""
    summary: str


def read_table(path: Path) -> list[Printed]:
    """Read a CSV file of printed numbers.

    Raises:
        UserError: It is no such file; names the line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is larger than {_MOST_BYTES} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} lacks the column {missing[0]!r}; needed are {', '.join(_NEEDED)}, and source is welcome")
            rows = [_printed(path, reader.line_num, row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file: {error}") from error
    if not 0 < len(rows) <= _MOST_ROWS:
        raise UserError(f"{path} has {len(rows)} rows; expected 1 to {_MOST_ROWS}")
    return rows


def _printed(path: Path, line: int, row: Mapping[str, str | None]) -> Printed:
    text = (row["value"] or "").strip().removesuffix("%").strip()
    whole, _, decimals = text.partition(".")
    if not (whole.removeprefix("-").isdecimal() and (decimals.isdecimal() or not decimals) and text.isascii() and len(text) <= 30):
        raise UserError(f"{path}, line {line}: value {text[:40]!r} is not a number as it is printed, such as 0.63 or 88.0")
    names = {name: (row.get(name) or "").strip() for name in ("model", "benchmark", "metric", "source")}
    return Printed(line=line, text=text, **names)


def audit_table(rows: Sequence[Printed]) -> Audit:
    """Ask of every number under which protocols it is possible, alone and beside the others of its report."""
    columns = (
        Column(key="line", label="line", kind="count"),
        Column(key="model", label="model"),
        Column(key="metric", label="metric"),
        Column(key="printed", label="printed"),
        Column(key="finding", label="finding"),
    )
    how = Column(key="how", label="how it can come about")
    reports: dict[tuple[str, str, str], dict[str, Printed]] = {}
    for row in rows:
        reports.setdefault((row.model, row.benchmark, row.source), {})[row.metric] = row
    short, full, counts = [], [], {"possible": 0, "inconsistent": 0, "not checked": 0}
    for row in rows:
        beside = reports[row.model, row.benchmark, row.source]
        kind, finding, readings = _judge(row, beside)
        counts[kind] += 1
        metric = f"{benchmark_label(row.benchmark)} {one_line(row.metric, 60)}"
        cells = tuple(Cell(value=value) for value in (row.line, one_line(row.model, 60), metric, row.text, finding))
        short.append(cells)
        full.append((*cells, Cell(value=readings)))
    summary = (
        f"{len(rows)} numbers: {counts['possible']} possible under a protocol known here, {counts['inconsistent']} inconsistent, "
        f"{counts['not checked']} not checked (no rule is known for them)"
    )
    notes = ("Inconsistent is not wrong: another protocol, other rows, or another way of rounding may explain a number.",)
    table = Table(title="Printed numbers", columns=columns, rows=tuple(short), notes=notes)
    details = Table(title="Printed numbers", columns=(*columns, how), rows=tuple(full), notes=notes)
    return Audit(table=table, details=details, patterns=_patterns(rows), impossible=counts["inconsistent"], summary=summary)


def _judge(row: Printed, beside: Mapping[str, Printed]) -> tuple[str, str, str]:
    """Return the kind of finding, the finding, and the readings in words."""
    readings = READINGS.get((row.benchmark, row.metric))
    if readings is None:
        return "not checked", "not checked", ""
    fits = {reading.protocol: reading.explain(row.span) for reading in readings}
    possible = [f"{protocol}: {how}" for protocol, how in fits.items() if how]
    not_so = [protocol + _if_cut(row, protocol) for protocol, how in fits.items() if not how]
    without = f"inconsistent with {', with '.join(not_so)}" if not_so else ""
    words = "; ".join([*possible, *([without] if without else [])])
    contradiction = _contradiction(row, beside)
    if contradiction:
        return "inconsistent", contradiction, words
    if not possible:
        return "inconsistent", f"{without}; no other protocol is known here", words
    return "possible", f"possible; {without}" if without else "possible", words


def _if_cut(row: Printed, protocol: str) -> str:
    reading = next(reading for reading in READINGS[row.benchmark, row.metric] if reading.protocol == protocol)
    how = reading.explain(row.cut)
    return f" (unless cut off, not rounded: {how})" if how else ""


_FEWEST = 4
_CHANCE = 0.01


def _patterns(rows: Sequence[Printed]) -> tuple[str, ...]:
    """Say where all of a source's numbers of one metric fall on steps that few numbers fall on: that tells which protocol they are of.

    A number printed to one part in u is a share of n rows by chance with probability n / u, where that is less than 1.
    """
    groups: dict[tuple[str, str, str], list[Printed]] = {}
    for row in rows:
        groups.setdefault((row.source, row.benchmark, row.metric), []).append(row)
    found = []
    for (source, benchmark, metric), group in groups.items():
        for reading in READINGS.get((benchmark, metric), ()):
            chances = [min(1.0, reading.rows * (row.span.high - row.span.low)) for row in group]
            chance = math.prod(chances)
            fine = sum(one < 1 for one in chances)
            if reading.rows and fine >= _FEWEST and chance < _CHANCE and all(reading.explain(row.span) for row in group):
                name = f"{benchmark_label(benchmark)} {one_line(metric, 60)}"
                what = f"{one_line(source, 80) or 'one source'}: all {len(group)} numbers of {name}"
                found.append(f"{what} are shares of {reading.rows} rows ({reading.protocol}); by chance {chance:.2g}")
    return tuple(found)


# a number beside the others of its report


def _contradiction(row: Printed, beside: Mapping[str, Printed]) -> str:
    """Say how a number contradicts the others of its report; empty where it does not."""
    if row.benchmark == "geneval" and row.metric == "overall" and set(GENEVAL_PROMPTS) <= set(beside):
        return _geneval_overall(row, beside)
    prefix, _, name = row.metric.rpartition("_")
    if row.benchmark == "pope" and name == "f1":
        return _f1(row, *(beside.get(f"{prefix}_{part}" if prefix else part) for part in ("precision", "recall")))
    return ""


def _geneval_overall(row: Printed, beside: Mapping[str, Printed]) -> str:
    """The overall of six printed tasks is one of two means, within what rounding leaves open."""
    spans = {task: beside[task].span for task in GENEVAL_PROMPTS}
    images = GENEVAL_IMAGES * sum(GENEVAL_PROMPTS.values())
    weights = {
        "mean of six task means": dict.fromkeys(GENEVAL_PROMPTS, 1 / len(GENEVAL_PROMPTS)),
        "mean over images": {task: GENEVAL_IMAGES * prompts / images for task, prompts in GENEVAL_PROMPTS.items()},
    }
    means = {
        name: Span(
            low=math.fsum(w * spans[task].low for task, w in of.items()), high=math.fsum(w * spans[task].high for task, w in of.items())
        )
        for name, of in weights.items()
    }
    if any(row.span.meets(mean) for mean in means.values()):
        return ""
    given = "; ".join(f"{name} {mean.low * row.scale:.4f} to {mean.high * row.scale:.4f}" for name, mean in means.items())
    return f"inconsistent with the six tasks printed beside it ({given})"


def _f1(row: Printed, precision: Printed | None, recall: Printed | None) -> str:
    """F1 grows with precision and with recall."""
    if precision is None or recall is None:
        return ""

    def f1(p: float, r: float) -> float:
        return 2 * p * r / (p + r) if p + r > 0 else 0.0

    p, r = precision.span, recall.span
    found = Span(low=f1(max(p.low, 0.0), max(r.low, 0.0)), high=f1(p.high, r.high))
    if row.span.meets(found):
        return ""
    return f"inconsistent with the precision and recall printed beside it (F1 {found.low * row.scale:.3f} to {found.high * row.scale:.3f})"


# two reports


def apart(rows: Sequence[Printed], first: str, second: str) -> Table:
    """Say how far apart two models' numbers are, in standard errors over noise of their difference.

    The errors are bounds from above (`jfeval.reports.audit_rules.noise_bound`), so the distance is one from below.

    Raises:
        UserError: A model is not in the table, or they share no number.
    """
    by_model = {name: [row for row in rows if row.model == name] for name in (first, second)}
    for name, found in by_model.items():
        if not found:
            known = ", ".join(sorted({one_line(row.model, 60) for row in rows}))
            raise UserError(f"the table has no model {name!r}; it has {known}")
    other = {(row.benchmark, row.metric): row for row in by_model[second]}
    pairs = [(row, other[row.benchmark, row.metric]) for row in by_model[first] if (row.benchmark, row.metric) in other]
    if not pairs:
        raise UserError(f"{first} and {second} have no number of the same benchmark and metric")
    columns = (
        Column(key="metric", label="metric"),
        Column(key="first", label=one_line(first, 40)),
        Column(key="second", label=one_line(second, 40)),
        Column(key="difference", label="difference"),
        Column(key="apart", label="apart"),
    )
    body = [_apart(a, b, by_model) for a, b in pairs]
    notes = (
        "Distances are what is left of the difference after rounding, in standard errors of the difference of two runs on the same items; "
        "those errors are the largest that the figures allow.",
    )
    return Table(title=f"{one_line(first, 60)} and {one_line(second, 60)}", columns=columns, rows=tuple(body), notes=notes)


def _apart(a: Printed, b: Printed, by_model: Mapping[str, Sequence[Printed]]) -> tuple[Cell, ...]:
    metric = f"{benchmark_label(a.benchmark)} {one_line(a.metric, 60)}"
    scale = max(a.scale, b.scale)
    difference = (b.value / b.scale - a.value / a.scale) * scale
    return tuple(Cell(value=value) for value in (metric, a.text, b.text, f"{difference:+.4g}", _distance(a, b, by_model)))


def _distance(a: Printed, b: Printed, by_model: Mapping[str, Sequence[Printed]]) -> str:
    errors = []
    for row in (a, b):
        tasks = {
            one.metric: one.value / one.scale for one in by_model[row.model] if one.benchmark == row.benchmark and one.source == row.source
        }
        errors.append(noise_bound(row.benchmark, row.metric, row.value / row.scale, tasks))
    if any(error is None for error in errors):
        return "noise unknown"
    beyond = max(0.0, abs(b.span.middle - a.span.middle) - (a.span.high - a.span.low + b.span.high - b.span.low) / 2)
    if beyond <= 1e-12:
        return "not separated: rounding alone explains it"
    noise = math.hypot(*(error or 0.0 for error in errors))
    if noise == 0:
        return "differ: greedy answers have no noise, so data, prompts, scorer or weights differ"
    distance = beyond / noise
    return (
        f"at least {distance:.1f} standard errors of noise" if distance > 1.96 else f"not separated ({distance:.1f}; noise may explain it)"
    )
