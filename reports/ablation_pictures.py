"""The drawn half of the ablation report: learning curves, and pictures of the same prompts by every variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jfeval.ablation import Row
from jfeval.reports.curves import Curve, lay_out_curve
from jfeval.reports.images import embed
from jfeval.reports.table import Cell
from jfeval.reports.text import one_line
from jfeval.schema import ImageRequest
from jfeval.store import Store

_PROMPTS = 8
_BUDGET = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Pictures by prompt and variant."""

    variants: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Each prompt with one data URI per variant, empty where there is no picture."""


def picture_grid(out: Path, variants: Sequence[str]) -> Grid | None:
    """Show the first picture of a few prompts, spread evenly, by every variant under the lowest seed that all of them have.

    Returns:
        None where the runs are not there, as on another machine.
    """
    runs = {name: _drawing_runs(out, name) for name in variants}
    drawing = {name: found for name, found in runs.items() if found}
    shared = set.intersection(*(set(found) for found in drawing.values())) if drawing else set()
    if not shared:
        return None
    stores = {name: found[min(shared)] for name, found in drawing.items()}
    samples = [s for s in next(iter(stores.values())).samples() if isinstance(s.request, ImageRequest)]
    chosen = samples[:: max(1, len(samples) // _PROMPTS)][:_PROMPTS]
    outputs = {name: store.outputs() for name, store in stores.items()}
    places = {
        (sample.id, name): (stores[name], outputs[name][sample.id].images[0])
        for sample in chosen
        for name in stores
        if sample.id in outputs[name] and outputs[name][sample.id].images
    }
    uris = embed({f"{s}\0{n}": partial(store.read_image, sha) for (s, n), (store, sha) in places.items()}, budget=_BUDGET)
    rows = [
        (one_line(s.request.prompt, 120), tuple(uris.get(f"{s.id}\0{name}", "") for name in stores))
        for s in chosen
        if isinstance(s.request, ImageRequest)
    ]
    return Grid(variants=tuple(stores), rows=tuple(rows))


def _drawing_runs(out: Path, variant: str) -> dict[int, Store]:
    """Find a variant's runs that drew pictures, by the training's seed: ``VARIANT-seedN/runs/BENCHMARK``."""
    found: dict[int, Store] = {}
    for run in sorted(out.glob(f"{variant}-seed*/runs/*")):
        store = Store(run)
        if store.exists() and any(isinstance(sample.request, ImageRequest) for sample in store.samples()):
            found.setdefault(int(run.parent.parent.name.rpartition("-seed")[2]), store)
    return found


def learning_curves(rows: Sequence[Row], metrics: Sequence[str], variants: Sequence[str]) -> list[Curve]:
    """Draw each metric against updates, a line per variant (the mean over seeds), where there are points before the end."""
    found = []
    for metric in metrics:
        lines: dict[str, list[tuple[float, Cell]]] = {}
        for name in variants:
            mine = [row for row in rows if row.metric == metric and row.variant == name]
            if any(not row.final for row in mine):
                lines[name] = _means(mine)
        if lines and max(len(points) for points in lines.values()) > 1:
            found.append(lay_out_curve(f"{metric} against updates", "updates", metric, lines))
    return found


def _means(rows: Sequence[Row]) -> list[tuple[float, Cell]]:
    by_step: dict[int, list[float]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row.value)
    return [(float(step), Cell(value=sum(values) / len(values), n=len(values))) for step, values in sorted(by_step.items())]
