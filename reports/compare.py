"""Two runs on the same items: paired differences, and the items whose verdict flipped."""

from collections.abc import Sequence
from dataclasses import dataclass

from jfeval.reports.status import status
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.tables import Group
from jfeval.reports.text import benchmark_label, label, one_line
from jfeval.schema import ImageRequest, Score
from jfeval.stats import Estimate, paired_difference
from jfeval.store import Store

MOST_COMPARED = 5
"""Runs that are compared with the best one of a group."""
MOST_FLIPS = 100
"""Flipped items that are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One run held against another."""

    differences: Table
    flips: Table


def comparisons(group: Group) -> list[Comparison]:
    """Compare the first run of a group with each further one that saw the same items, `MOST_COMPARED` at most."""
    if not group.complete:
        return []
    found = [compare(group.runs[0], other, group.protocol) for other in group.runs[1:]]
    return [one for one in found if one is not None][:MOST_COMPARED]


def compare(base: Store, other: Store, protocol: str) -> Comparison | None:
    """Pair the scores of two whole runs by item; None where they did not see the same data under the same seed.

    Args:
        base: What is compared with.
        other: Its difference from ``base`` is reported.
        protocol: The scorer.
    """
    one, two = base.record(), other.record()
    same = (one.benchmark, one.edition, one.seed, one.data_identity) == (two.benchmark, two.edition, two.seed, two.data_identity)
    if not same or not (status(one).complete and status(two).complete):
        return None
    first, second = ({(s.sample_id, s.task, s.index): s for s in run.scores(protocol)} for run in (base, other))
    pairs = [(first[key], second[key]) for key in first if key in second]
    names = [name for name in ("correct", *(next(iter(first.values()), _NOTHING).values)) if all(_has(p, name) for p in pairs)]
    if not pairs or not names:
        return None
    title = f"{_name(other)} minus {_name(base)}: {benchmark_label(one.benchmark)}, {one.edition} edition, protocol {protocol}"
    return Comparison(differences=_differences(pairs, names[0], title), flips=_flips(pairs, names[0], base, title))


_NOTHING = Score(sample_id="", task="", cluster="")


def _has(pair: tuple[Score, Score], name: str) -> bool:
    return all(name in score.values for score in pair)


def _name(run: Store) -> str:
    return f"{one_line(run.record().model, 60)} ({one_line(run.path.name, 60)})"


def _differences(pairs: Sequence[tuple[Score, Score]], name: str, title: str) -> Table:
    """Return one row per task and one over all items."""
    columns = (
        Column(key="task", label="task"),
        Column(key="difference", label="difference", kind="metric", detail=f"Mean of {label(name)}, second minus first."),
        Column(key="gained", label="gained", kind="count", detail="Items wrong in the first run and right in the second."),
        Column(key="lost", label="lost", kind="count", detail="Items right in the first run and wrong in the second."),
        Column(key="verdict", label="verdict", detail="Whether the 95 % interval leaves out zero."),
    )
    tasks = list(dict.fromkeys(a.task for a, _ in pairs if a.task))
    rows = [_row(label(task), [pair for pair in pairs if pair[0].task == task], name) for task in tasks] if len(tasks) > 1 else []
    rows.append(_row("all items", pairs, name))
    note = f"Mean of {label(name)}, paired by item; brackets: 95 % interval over prompts. All items together weigh tasks by their size."
    return Table(title=title, columns=columns, rows=tuple(rows), notes=(note,), totals=(len(rows) - 1,))


def _row(task: str, pairs: Sequence[tuple[Score, Score]], name: str) -> tuple[Cell, ...]:
    first, second = ([pair[k].values[name] for pair in pairs] for k in (0, 1))
    found: Estimate = paired_difference(first, second, [a.cluster for a, _ in pairs])
    gained, lost = (sum(b > a for a, b in zip(x, y, strict=True)) for x, y in ((first, second), (second, first)))
    verdict = "better" if found.ci_low > 0 else "worse" if found.ci_high < 0 else "not separated"
    return (
        Cell(value=task),
        Cell(value=found.value, low=found.ci_low, high=found.ci_high, n=found.n),
        Cell(value=gained),
        Cell(value=lost),
        Cell(value=verdict),
    )


def _flips(pairs: Sequence[tuple[Score, Score]], name: str, base: Store, title: str) -> Table:
    """List items whose verdict changed, losses first."""
    asked = {sample.id: sample.request for sample in base.samples()}
    flipped = sorted((p for p in pairs if p[0].values[name] != p[1].values[name]), key=lambda p: p[1].values[name] - p[0].values[name])
    columns = (
        Column(key="item", label="item"),
        Column(key="index", label="image", kind="count"),
        Column(key="change", label="change"),
        Column(key="prompt", label="prompt"),
        Column(key="reason", label="reason"),
    )
    rows = []
    for a, b in flipped[:MOST_FLIPS]:
        request = asked.get(a.sample_id)
        words = "" if request is None else request.prompt if isinstance(request, ImageRequest) else request.question
        lost = b.values[name] < a.values[name]
        cells = (a.sample_id, a.index, "lost" if lost else "gained", one_line(words, 200), one_line((b if lost else a).reason, 200))
        rows.append(tuple(Cell(value=value) for value in cells))
    notes = (f"{len(flipped)} items flipped{f'; the first {MOST_FLIPS} are listed' if len(flipped) > MOST_FLIPS else ''}.",)
    return Table(title=f"Flipped: {title}", columns=columns, rows=tuple(rows), notes=notes)
