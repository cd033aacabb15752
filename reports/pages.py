"""What the page shows of each benchmark: its boards, charts, comparisons, protocols, and samples that want a look."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jfeval.reports.charts import Chart, task_chart
from jfeval.reports.compare import Comparison, comparisons
from jfeval.reports.compare_paper import against_papers
from jfeval.reports.curves import Curve, curves
from jfeval.reports.naming import run_names
from jfeval.reports.overview import GROUPS
from jfeval.reports.recipe import recipe_tables
from jfeval.reports.samples import answers_table, failed_table, slowest_table
from jfeval.reports.sensitivity import Sensitivity, sensitivity
from jfeval.reports.status import status
from jfeval.reports.table import Table
from jfeval.reports.tables import Group, leaderboard_table, task_table
from jfeval.reports.text import benchmark_label
from jfeval.store import Store


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one group of comparable runs."""

    group: Group
    board: Table
    papers: tuple[Table, ...]
    """Measured minus printed, one table per run that may be held against papers."""
    curves: tuple[Curve, ...]
    chart: Chart | None
    tasks: tuple[Table, ...]
    compared: tuple[Comparison, ...]
    answers: Table | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One benchmark in one edition."""

    anchor: str
    title: str
    kind: str
    """Understanding or generation."""
    words: str
    sections: tuple[Section, ...]
    """Under the protocols that the runs asked for."""
    others: tuple[Section, ...]
    """Under protocols that they were scored by beside."""
    sensitivities: tuple[Sensitivity, ...]
    failed: Table | None
    slowest: Table | None
    recipes: tuple[Table, ...]
    runs: tuple[Store, ...]


def pages(groups: Sequence[Group]) -> list[Page]:
    """Put groups of one benchmark and edition together, benchmarks of understanding first."""
    keys = dict.fromkeys((group.benchmark, group.edition) for group in groups)
    found = [_page([group for group in groups if (group.benchmark, group.edition) == key]) for key in keys]
    return sorted(found, key=lambda page: GROUPS.index(page.kind))


def _page(groups: Sequence[Group]) -> Page:
    first = groups[0]
    runs = tuple({id(run): run for group in groups for run in group.runs}.values())
    name = f"{benchmark_label(first.benchmark)}, {first.edition} edition"
    return Page(
        anchor=f"benchmark-{re.sub(r'[^a-z0-9]+', '-', f'{first.benchmark} {first.edition}'.lower()).strip('-')}",
        title=name,
        kind=GROUPS[first.draws],
        words=first.words,
        sections=tuple(_section(group) for group in groups if group.primary),
        others=tuple(_section(group) for group in groups if not group.primary),
        sensitivities=tuple(one for run in runs if (one := sensitivity(run)) is not None),
        failed=failed_table(runs),
        slowest=slowest_table(runs),
        recipes=tuple(recipe_tables(runs)),
        runs=runs,
    )


def _section(group: Group) -> Section:
    """Collect the tables and the charts of a group; one that is shown beside others has its board alone."""
    primary = group.primary
    papers = [against_papers(run) for run in group.runs if primary and status(run.record()).complete]
    names = run_names([run.record() for run in group.runs])
    return Section(
        group=group,
        board=leaderboard_table(group),
        papers=tuple(table for table in papers if table is not None),
        curves=tuple(curves(group)) if primary else (),
        chart=task_chart(group) if primary else None,
        tasks=tuple(task_table(run, group.protocol, name=name) for run, name in zip(group.runs, names, strict=True)) if primary else (),
        compared=tuple(comparisons(group)) if primary else (),
        answers=answers_table(group) if primary else None,
    )
