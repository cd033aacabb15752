"""The drawn half of the ablation report: learning curves, and pictures of the same prompts and noise by every variant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jfeval.reports.curves import Curve, lay_out_curve
from jfeval.reports.images import embed
from jfeval.reports.table import Cell
from jfeval.reports.text import one_line
from jfeval.schema import ImageRequest, Output, Sample
from jfeval.store import Store

PROMPTS = 6
"""Blocks of pictures: one prompt of every seed each."""
SEEDS = 6
"""Most columns of a block."""
_BUDGET = 6 * 2**20


@dataclass(frozen=True, kw_only=True)
class Block:
    """One prompt of every seed, drawn by every variant."""

    prompts: tuple[str, ...]
    """By column; the same wherever the trainings were asked the same prompts."""
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    """Each variant with one data URI per seed, empty where there is no picture."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Pictures with one seed per column: within a column prompt and noise are the same, and only the training differs."""

    seeds: tuple[int, ...]
    blocks: tuple[Block, ...]
    left_out: int
    """Seeds that are not shown."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """One variant's run under one seed."""

    store: Store
    samples: Sequence[Sample]
    outputs: Mapping[str, Output]


def picture_grid(out: Path, variants: Sequence[str]) -> Grid | None:
    """Show the first picture of a few prompts, spread evenly, by every variant under every seed that at least one of them has.

    Returns:
        None where the runs are not there, as on another machine.
    """
    runs = {name: _drawing_runs(out, name) for name in variants}
    names = [name for name, found in runs.items() if found]
    all_seeds = sorted({seed for found in runs.values() for seed in found})
    if not names:
        return None
    seeds = all_seeds[:SEEDS]
    asked = {seed: next(runs[name][seed].samples for name in names if seed in runs[name]) for seed in seeds}
    chosen = {seed: samples[:: max(1, len(samples) // PROMPTS)][:PROMPTS] for seed, samples in asked.items()}
    places = {
        (block, name, seed): partial(runs[name][seed].store.read_image, sha)
        for name in names
        for seed in seeds
        if seed in runs[name]
        for block, sample in enumerate(chosen[seed])
        if (sha := _first_picture(runs[name][seed], sample))
    }
    uris = embed({repr(place): read for place, read in places.items()}, budget=_BUDGET)
    blocks = [
        Block(
            prompts=tuple(_prompt(chosen[seed], block) for seed in seeds),
            rows=tuple((name, tuple(uris.get(repr((block, name, seed)), "") for seed in seeds)) for name in names),
        )
        for block in range(max(len(samples) for samples in chosen.values()))
    ]
    return Grid(seeds=tuple(seeds), blocks=tuple(blocks), left_out=len(all_seeds) - len(seeds))


def _prompt(samples: Sequence[Sample], place: int) -> str:
    request = samples[place].request if place < len(samples) else None
    return one_line(request.prompt, 120) if isinstance(request, ImageRequest) else ""


def _first_picture(run: _Drawn, sample: Sample) -> str:
    """Return the hash of a sample's first picture, where the run asked for the same and drew it."""
    output = run.outputs.get(sample.id)
    same = any(own.id == sample.id and own.request == sample.request for own in run.samples)
    return output.images[0] if same and output and output.images else ""


def _drawing_runs(out: Path, variant: str) -> dict[int, _Drawn]:
    """Find a variant's runs that drew pictures, by the training's seed: ``VARIANT-seedN/runs/BENCHMARK``; the first benchmark is shown."""
    found: dict[int, _Drawn] = {}
    for run in sorted(out.glob(f"{variant}-seed*/runs/*")):
        store, seed = Store(run), run.parent.parent.name.rpartition("-seed")[2]
        if not seed.isdigit() or int(seed) in found or not store.exists():
            continue
        samples = [sample for sample in store.samples() if isinstance(sample.request, ImageRequest)]
        if samples:
            found[int(seed)] = _Drawn(store=store, samples=samples, outputs=store.outputs())
    return found


Points = Mapping[int, Sequence[tuple[int, float]]]
"""Updates and scores by seed."""


def learning_curves(measured: Callable[[str, str], Points], metrics: Sequence[str], variants: Sequence[str]) -> list[Curve]:
    """Draw each metric against updates, a line per variant (the mean over seeds), where there are points before the end.

    Args:
        measured: Returns the points of a variant and a metric.
        metrics: One drawing each.
        variants: One line each.
    """
    found = []
    for metric in metrics:
        lines: dict[str, list[tuple[float, Cell]]] = {}
        for name in variants:
            if points := measured(name, metric):
                lines[name] = _means(points)
        if lines and max(len(points) for points in lines.values()) > 1:
            found.append(lay_out_curve(f"{metric} against updates", "updates", metric, lines))
    return found


def _means(points: Points) -> list[tuple[float, Cell]]:
    by_step: dict[int, list[float]] = {}
    for step, value in (point for seed in points.values() for point in seed):
        by_step.setdefault(step, []).append(value)
    return [(float(step), Cell(value=sum(values) / len(values), n=len(values))) for step, values in sorted(by_step.items())]
