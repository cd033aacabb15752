"""Writes the report: one self-contained HTML file for any number of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.reports.gallery import build_gallery
from jfeval.reports.html import environment, island, policy, script_of, static
from jfeval.reports.images import BUDGET
from jfeval.reports.naming import run_names, withheld
from jfeval.reports.overview import GROUPS, overview_of
from jfeval.reports.pages import pages
from jfeval.reports.samples import ANSWER_KINDS
from jfeval.reports.status import Status, status
from jfeval.reports.table import Cell
from jfeval.reports.tables import NOT_RANKED, group_runs
from jfeval.reports.text import benchmark_label, edition_words, flatten, label, one_line
from jfeval.schema import Metric, RunRecord
from jfeval.store import Store

MOST_FACTS = 6
"""Numbers in the summary of a single run, beside the headline."""


@dataclass(frozen=True, kw_only=True)
class Banner:
    """A warning about one run, at the top of the page."""

    name: str
    status: Status


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One number or setting in the summary of a single run."""

    name: str
    cell: Cell
    detail: str = ""


def write_report(stores: Sequence[Store], out: Path) -> Path:
    """Write one HTML file that needs nothing beside it; the same runs give the same bytes, in whatever order they are named.

    Where the runs lie in the page's folder or beside it, its thumbnails link to the full pictures.

    Args:
        stores: The runs to show.
        out: The file to write; its folder is made.

    Returns:
        The file's path.

    Raises:
        UserError: There is no run to show, or the file cannot be written.
    """
    page = render_report(stores, beside=out.parent)
    try:
        write_atomically(out, page.encode("utf-8"))
    except OSError as error:
        raise UserError(f"cannot write the report to {out}: {error.strerror or error}; name another file with --out.") from error
    return out


def render_report(stores: Sequence[Store], *, budget: int = BUDGET, beside: Path | None = None) -> str:
    """Return the report's HTML.

    Args:
        stores: The runs to show.
        budget: Most characters that the embedded pictures may take.
        beside: Folder that the page is written into, from which full pictures are linked; None links none.

    Raises:
        UserError: There is no run to show.
    """
    if not stores:
        raise UserError("no run to report on; name at least one run folder, for example `jfeval report runs/*`.")
    groups = group_runs(stores)
    parts = pages(groups)
    ordered = [run for part in parts for run in part.runs]
    records = [store.record() for store in ordered]
    gallery = build_gallery(ordered, budget=budget, beside=beside)
    style, script = static("report.css", "gallery.css"), script_of("base.js", "tables.js", "gallery.js", "viewer.js", "start.js")
    shown = [store for store in ordered if not withheld(store.record())]
    single = shown[0] if len(shown) == 1 else ordered[0] if len(ordered) == 1 else None
    names = run_names(records)
    return (
        environment()
        .get_template("report.html")
        .render(
            policy=policy(style, script),
            style=style,
            script=script,
            island=island(gallery.data),
            gallery=gallery,
            title=_title([store.record() for store in shown] or records),
            kicker=_kicker(records),
            editions=_edition_lines(records),
            headline=_headline(single) if single else None,
            facts=_facts(single) if single else [],
            banners=[
                Banner(name=_name(r, name), status=status(r)) for r, name in zip(records, names, strict=True) if not status(r).complete
            ],
            overview=overview_of(groups),
            kinds=[(kind, own) for kind in GROUPS if (own := [page for page in parts if page.kind == kind])],
            pages=parts,
            version=", ".join(sorted({one_line(str(r.provenance.get("jfeval", "")), 40) for r in records} - {""})),
        )
    )


def _kicker(records: Sequence[RunRecord]) -> str:
    """Say above the title which benchmarks the page is about."""
    editions = dict.fromkeys(record.edition for record in records)
    names = {edition: dict.fromkeys(benchmark_label(r.benchmark) for r in records if r.edition == edition) for edition in editions}
    return "; ".join(f"{', '.join(names[edition])}, {edition} edition" for edition in editions)


def _edition_lines(records: Sequence[RunRecord]) -> list[str]:
    """Say of each edition what its numbers may be compared with."""
    editions = dict.fromkeys(record.edition for record in records)
    return [edition_words(edition, *dict.fromkeys(r.benchmark for r in records if r.edition == edition)) for edition in editions]


def _name(record: RunRecord, name: str) -> str:
    """Name a run with its benchmark."""
    return f"{benchmark_label(record.benchmark)} {record.edition}, {name}"


def _title(records: Sequence[RunRecord]) -> str:
    """Name the page."""
    models = list(dict.fromkeys(one_line(record.shown, 80) for record in records))
    names = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    return names if len(records) == 1 else f"{names}: {len(records)} runs"


def _headline(store: Store) -> Fact | None:
    """Return the number by which a single run is quoted."""
    metric = next((m for m in store.metrics() if m.headline), None)
    return None if metric is None else _metric_fact(metric)


def _facts(store: Store) -> list[Fact]:
    """Return the other numbers over all tasks, the counts, and the settings that people ask for first."""
    record = store.record()
    left_out = (*NOT_RANKED, *ANSWER_KINDS)
    facts = [_metric_fact(m) for m in store.metrics() if not m.task and not m.headline and m.name not in left_out][:MOST_FACTS]
    counts = record.counts
    asked = f"{counts.finished} of {counts.available}" if not status(record).complete else str(counts.finished)
    facts.append(
        Fact(name="prompts", cell=Cell(value=asked), detail=f"{counts.asked} asked, {counts.finished} finished, {counts.failed} failed")
    )
    recipe = flatten(record.model_identity)
    named = {key.rpartition(".")[2]: value for key, value in recipe.items() if len(value) <= 16}
    facts += [
        Fact(name=label(key), cell=Cell(value=named[key]))
        for key in ("guidance_scale", "num_steps", "time_shift", "steps", "solver", "dtype")
        if key in named
    ]
    return [*facts, Fact(name="seed", cell=Cell(value=record.seed))]


def _metric_fact(metric: Metric) -> Fact:
    """Turn a metric into a summary entry."""
    cell = Cell(value=float(metric.value), low=metric.ci_low, high=metric.ci_high, n=metric.n)
    return Fact(name=label(metric.name), cell=cell, detail=metric.detail)
