"""One table over all benchmarks: models down, headline numbers across, understanding beside generation."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jfeval.reports.naming import difference_words, differences, model_words, withheld
from jfeval.reports.separation import NOTE, Standings
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.tables import Group, group_runs, metric_cell
from jfeval.reports.text import benchmark_label, edition_words, label
from jfeval.schema import Metric, RunRecord
from jfeval.store import Store

GROUPS = ("Understanding", "Generation")


@dataclass
class _Row:
    """One model under one seed."""

    record: RunRecord
    cells: dict[int, Cell] = field(default_factory=dict)


def overview(stores: Sequence[Store]) -> list[Table]:
    """Return one table per edition that has whole runs of more than one benchmark; every other run stands in its own table alone."""
    return overview_of(group_runs(stores))


def overview_of(groups: Sequence[Group]) -> list[Table]:
    """Return what `overview` does, of runs that are grouped already."""
    found = []
    for edition in dict.fromkeys(group.edition for group in groups):
        own = [group for group in groups if group.edition == edition and group.complete and group.primary]
        own = sorted(own, key=lambda group: group.draws)
        if len({group.benchmark for group in own}) > 1:
            found.append(_table(own))
    return found


def _table(groups: Sequence[Group]) -> Table:
    rows: dict[tuple[str, int], _Row] = {}
    columns = []
    for place, group in enumerate(groups):
        headlines = [next((m for m in run.metrics(group.protocol) if m.headline), None) for run in group.runs]
        columns.append(_column(group, next((m for m in headlines if m is not None), None)))
        standings = Standings(group.runs, group.protocol, [not withheld(run.record()) for run in group.runs]).of(headlines)
        for run, metric, standing in zip(group.runs, headlines, standings, strict=True):
            if metric is not None:
                cell = replace(metric_cell(metric), standing=standing)
                _row_for(rows, run.record(), place).cells[place] = cell
    ordered = sorted(rows.values(), key=lambda row: (-len(row.cells), model_words(row.record), row.record.seed, row.record.name))
    differing = differences([row.record for row in ordered])
    lines = []
    for row in ordered:
        cells = [Cell(value=model_words(row.record)), Cell(value=row.record.seed)]
        cells += [row.cells.get(place, Cell()) for place in range(len(groups))]
        lines.append((*cells, *([Cell(value=difference_words(row.record, differing))] if differing else [])))
    first = [Column(key="model", label="model"), Column(key="seed", label="seed", kind="count", aside=True)]
    last = [Column(key="differs", label="differs in", aside=True)] if differing else []
    edition = groups[0].edition
    notes = [
        f"{edition_words(edition, *dict.fromkeys(group.benchmark for group in groups))}.",
        "Headline number of each benchmark under the protocol that was asked for. Brackets: 95 % interval.",
        "No mean over benchmarks is given: their scales differ.",
    ]
    notes += [NOTE] if any(cell.standing for line in lines for cell in line) else []
    title = f"All benchmarks, {edition} edition"
    return Table(title=title, columns=(*first, *columns, *last), rows=tuple(lines), notes=tuple(notes))


def _column(group: Group, metric: Metric | None) -> Column:
    """Name a benchmark's column by what sets it apart, and say in full what it holds."""
    name = benchmark_label(group.benchmark)
    number = "" if metric is None else metric.name
    detail = f"{number} under protocol {group.protocol}. {'' if metric is None else metric.detail}".strip()
    if metric is not None and metric.better == "lower":
        detail += " Lower is better."
    apart = f", {label(group.number)}" if group.number else ""
    key = ".".join(part for part in (group.benchmark, group.protocol, group.number) if part)
    return Column(key=key, label=f"{name} ({group.protocol}{apart})", kind="metric", detail=detail, group=GROUPS[group.draws])


def _row_for(rows: dict[tuple[str, int], _Row], record: RunRecord, place: int) -> _Row:
    """Find the row of a run's model, settings and seed; a second run of the same kind gets a row of its own."""
    identity = json.dumps([model_words(record), record.seed, record.model_identity], sort_keys=True)
    turn = 0
    while (identity, turn) in rows and place in rows[identity, turn].cells:
        turn += 1
    return rows.setdefault((identity, turn), _Row(record=record))
