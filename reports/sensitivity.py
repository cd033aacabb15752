"""A run under several protocols: its numbers side by side, and the answers whose verdict depends on who scores them."""

from dataclasses import dataclass

from jfeval.reports.naming import run_names
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, label, one_line
from jfeval.schema import ImageRequest
from jfeval.sensitivity import changed_verdicts, side_by_side
from jfeval.store import Store

MOST_CHANGED = 200
"""Answers that are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What the choice of a protocol does to one run."""

    numbers: Table
    changed: Table


def sensitivity(store: Store) -> Sensitivity | None:
    """Compare the protocols that a run was scored under; None where it is fewer than two."""
    protocols = store.protocols()
    if len(protocols) < 2:
        return None
    record = store.record()
    title = f"{benchmark_label(record.benchmark)}, {record.edition} edition: {run_names([record])[0]}"
    return Sensitivity(numbers=_numbers(store, protocols, title), changed=_changed(store, protocols, title))


def _numbers(store: Store, protocols: list[str], title: str) -> Table:
    columns = (
        Column(key="number", label="number"),
        *(Column(key=name, label=name, kind="metric", detail=f"Under protocol {name}.") for name in protocols),
        Column(key="spread", label="spread", kind="number", detail="Largest value minus smallest."),
    )
    rows = []
    for one in side_by_side({name: store.metrics(name) for name in protocols}):
        words = label(one.name) if not one.task else label(one.task if one.name == "task" else f"{one.name}, {one.task}")
        cells = []
        for name in protocols:
            metric = one.found.get(name)
            quoted = "headline" if metric is not None and metric.headline else ""
            cells.append(Cell() if metric is None else Cell(value=metric.value, low=metric.ci_low, high=metric.ci_high, mark=quoted))
        rows.append((Cell(value=words), *cells, Cell(value=one.spread)))
    notes = (
        "The same stored outputs under each protocol: differences are the scorers' alone. Brackets: 95 % interval.",
        "The number that a protocol's results are usually quoted by is marked as its headline.",
    )
    return Table(title=f"Protocols side by side: {title}", columns=columns, rows=tuple(rows), notes=notes)


def _changed(store: Store, protocols: list[str], title: str) -> Table:
    changed, total = changed_verdicts({name: store.scores(name) for name in protocols})
    asked = {sample.id: sample.request for sample in store.samples()}
    outputs = store.outputs()
    columns = (
        Column(key="item", label="item"),
        Column(key="asked", label="asked"),
        Column(key="answer", label="answer"),
        Column(key="right", label="right under"),
        Column(key="wrong", label="wrong under"),
    )
    rows = []
    for one in changed[:MOST_CHANGED]:
        request, output = asked.get(one.sample_id), outputs.get(one.sample_id)
        words = "" if request is None else request.prompt if isinstance(request, ImageRequest) else request.question
        said = f"image {one.index}" if isinstance(request, ImageRequest) else repr(output.text if output else "")
        cells = (one.sample_id, one_line(words, 200), one_line(said, 200), ", ".join(one.right) or "none", ", ".join(one.wrong))
        rows.append(tuple(Cell(value=value) for value in cells))
    listed = f"; the first {MOST_CHANGED} are listed" if len(changed) > MOST_CHANGED else ""
    note = f"{len(changed)} of {total} answers change their verdict between protocols{listed}."
    return Table(title=f"Changed verdicts: {title}", columns=columns, rows=tuple(rows), notes=(note,))
