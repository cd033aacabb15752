"""Writes the report: one self-contained HTML file for any number of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.reports.charts import Chart, task_chart
from jfeval.reports.compare import Comparison, comparisons
from jfeval.reports.curves import Curve, curves
from jfeval.reports.gallery import build_gallery
from jfeval.reports.html import environment, island, policy, static
from jfeval.reports.images import BUDGET
from jfeval.reports.sensitivity import sensitivity
from jfeval.reports.status import Status, status
from jfeval.reports.table import Cell, Table
from jfeval.reports.tables import NOT_RANKED, Group, group_runs, leaderboard_table, recipe_tables, task_table, withheld
from jfeval.reports.text import benchmark_label, edition_words, flatten, label, one_line
from jfeval.schema import Metric, RunRecord
from jfeval.store import Store


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one group of comparable runs."""

    group: Group
    board: Table
    curves: tuple[Curve, ...]
    chart: Chart | None
    tasks: tuple[Table, ...]
    compared: tuple[Comparison, ...]


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

    Args:
        stores: The runs to show.
        out: The file to write; its folder is made.

    Returns:
        The file's path.

    Raises:
        UserError: There is no run to show, or the file cannot be written.
    """
    page = render_report(stores)
    try:
        write_atomically(out, page.encode("utf-8"))
    except OSError as error:
        raise UserError(f"cannot write the report to {out}: {error.strerror or error}; name another file with --out.") from error
    return out


def render_report(stores: Sequence[Store], *, budget: int = BUDGET) -> str:
    """Return the report's HTML.

    Args:
        stores: The runs to show.
        budget: Most characters that the embedded pictures may take.

    Raises:
        UserError: There is no run to show.
    """
    if not stores:
        raise UserError("no run to report on; name at least one run folder, for example `jfeval report runs/*`.")
    groups = group_runs(stores)
    ordered = list({id(run): run for group in groups for run in group.runs}.values())
    records = [store.record() for store in ordered]
    gallery = build_gallery(ordered, budget=budget)
    style, script = static("report.css"), static("report.js")
    shown = [store for store in ordered if not withheld(store.record())]
    single = shown[0] if len(shown) == 1 else ordered[0] if len(ordered) == 1 else None
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
            kicker=", ".join(dict.fromkeys(f"{benchmark_label(r.benchmark)}, {r.edition} edition" for r in records)),
            editions=list(dict.fromkeys(edition_words(r.edition, r.benchmark) for r in records)),
            headline=_headline(single) if single else None,
            facts=_facts(single) if single else [],
            banners=[Banner(name=_name(r), status=status(r)) for r in records if not status(r).complete],
            sections=[_section(group) for group in groups],
            sensitivities=[one for store in ordered if (one := sensitivity(store)) is not None],
            recipes=recipe_tables(ordered),
            version=", ".join(sorted({one_line(str(r.provenance.get("jfeval", "")), 40) for r in records} - {""})),
        )
    )


def _section(group: Group) -> Section:
    """Collect the tables and the charts of a group."""
    return Section(
        group=group,
        board=leaderboard_table(group),
        curves=tuple(curves(group)),
        chart=task_chart(group),
        tasks=tuple(task_table(run, group.protocol) for run in group.runs),
        compared=tuple(comparisons(group)),
    )


def _name(record: RunRecord) -> str:
    """Name a run in a few words."""
    return f"{one_line(record.model, 120)}, {benchmark_label(record.benchmark)} {record.edition}, seed {record.seed}"


def _title(records: Sequence[RunRecord]) -> str:
    """Name the page."""
    models = list(dict.fromkeys(one_line(record.model, 80) for record in records))
    names = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    return names if len(records) == 1 else f"{names}: {len(records)} runs"


def _headline(store: Store) -> Fact | None:
    """Return the number by which a single run is quoted."""
    metric = next((m for m in store.metrics() if m.headline), None)
    return None if metric is None else _metric_fact(metric)


def _facts(store: Store) -> list[Fact]:
    """Return the other numbers over all tasks, the counts, and the settings that people ask for first."""
    record = store.record()
    facts = [_metric_fact(m) for m in store.metrics() if not m.task and not m.headline and m.name not in NOT_RANKED]
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
