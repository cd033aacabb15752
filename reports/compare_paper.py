"""A run's numbers held against what papers print on the same items."""

import csv
from collections.abc import Iterator, Mapping
from importlib.resources import files

from jfeval.differences import Against, against_printed
from jfeval.reports.paper import PLACES
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, one_line
from jfeval.store import Store

_WORDS = {
    "reproduced": "reproduced: rounding and noise explain it",
    "above": "above, by more than rounding and noise explain",
    "below": "below, by more than rounding and noise explain",
    "unknown": "differs; how much noise explains is not known",
}
NOTE = (
    "Beyond the printed number's rounding, two runs of one model over the same items differ by up to 1.96 * sqrt(2) * se_seed. "
    "That says nothing about other items."
)


def against_papers(store: Store, model: str = "") -> Table | None:
    """Hold a run of the official edition against printed numbers; None where nothing is printed that it can be held against.

    Args:
        store: The run.
        model: Only this row of the papers; empty for all.
    """
    record = store.record()
    if record.edition != "official":
        return None
    rows: list[tuple[Cell, ...]] = []
    for protocol in store.protocols():
        measured = {(metric.name, metric.task): metric for metric in store.metrics(protocol)}
        for printed in _printed(record.benchmark, model):
            place = PLACES[printed["benchmark"], printed["metric"]]
            metric = measured.get((place.name, place.task))
            if place.protocol != protocol or metric is None:
                continue
            found = against_printed(metric.value, metric.se_seed, printed["value"], scale=place.scale)
            rows.append(_row(printed, metric.value, found, place.scale))
    if not rows:
        return None
    columns = (
        Column(key="model", label="printed for"),
        Column(key="metric", label="metric"),
        Column(key="printed", label="printed"),
        Column(key="measured", label="measured"),
        Column(key="difference", label="difference"),
        Column(key="noise", label="noise of two runs"),
        Column(key="verdict", label="verdict"),
        Column(key="source", label="source"),
    )
    return Table(title=f"{benchmark_label(record.benchmark)} against papers", columns=columns, rows=tuple(rows), notes=(NOTE,))


def _row(printed: Mapping[str, str], measured: float, found: Against, scale: float) -> tuple[Cell, ...]:
    decimals = max(len(printed["value"].partition(".")[2]), 1) + 1
    noise = "–" if found.noise is None else f"{found.noise * scale:.{decimals}f}"
    values = (
        one_line(printed["model"], 60),
        one_line(printed["metric"], 60),
        printed["value"],
        f"{measured * scale:.{decimals}f}",
        f"{found.difference * scale:+.{decimals}f}",
        noise,
        _WORDS[found.verdict],
        one_line(printed["source"], 80),
    )
    return tuple(Cell(value=value) for value in values)


def _printed(benchmark: str, model: str) -> Iterator[Mapping[str, str]]:
    with (files("jfeval.reports") / "paper_results.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["benchmark"] == benchmark and (benchmark, row["metric"]) in PLACES and model in ("", row["model"]):
                yield row
