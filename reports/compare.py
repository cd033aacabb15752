"""Two runs on the same items: paired differences, and the items whose verdict flipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from jfeval.differences import holm, mcnemar, p_value, paired_difference, stratified_difference, verdict
from jfeval.reports.items import by_item, same_items, verdict_name
from jfeval.reports.naming import model_words
from jfeval.reports.status import status
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.tables import Group
from jfeval.reports.text import benchmark_label, flatten, label, one_line
from jfeval.schema import ImageRequest, Score
from jfeval.stats import Estimate
from jfeval.store import Store

MOST_COMPARED = 5
"""Comparisons that are shown of a group."""
MOST_FLIPS = 100
"""Flipped items that are listed; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One run held against another."""

    differences: Table
    flips: Table


Pair: TypeAlias = tuple[Score, Score]


def comparisons(group: Group) -> list[Comparison]:
    """Compare each run of a group with the best one that saw the same items, `MOST_COMPARED` at most."""
    if not group.complete:
        return []
    found: list[Comparison] = []
    for i, other in enumerate(group.runs):
        base = next((run for run in group.runs[:i] if same_items(run, other)), None)
        one = None if base is None else compare(base, other, group.protocol)
        found += [one] if one is not None else []
        if len(found) == MOST_COMPARED:
            break
    return found


def compare(base: Store, other: Store, protocol: str) -> Comparison | None:
    """Pair the scores of two whole runs by item; None where they did not see the same data under the same seed.

    Args:
        base: What is compared with.
        other: Its difference from ``base`` is reported.
        protocol: The scorer.
    """
    one, two = base.record(), other.record()
    if not same_items(base, other) or not (status(one).complete and status(two).complete) or why_not(base, other, protocol):
        return None
    return paired(base, other, protocol)


def why_not(base: Store, other: Store, protocol: str) -> str:
    """Say why two runs cannot be paired item by item; empty where they can.

    Another seed of the noise is no reason: the items are the same. In the synthetic world the seed draws the items as well, and is then
    part of the data's identity.
    """
    one, two = base.record(), other.record()
    for what in ("benchmark", "edition"):
        a, b = getattr(one, what), getattr(two, what)
        if a != b:
            return f"they are of another {what}: {one_line(a, 80)} and {one_line(b, 80)}"
    if one.data_identity != two.data_identity:
        a, b = flatten(one.data_identity), flatten(two.data_identity)
        changed = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
        listed = "; ".join(f"{key} {one_line(a.get(key, 'absent'), 70)} and {one_line(b.get(key, 'absent'), 70)}" for key in changed[:4])
        return f"they asked other things: {listed}"
    for run in (base, other):
        if protocol not in run.protocols():
            known = ", ".join(run.protocols()) or "none"
            return f"{run.path} is not scored under protocol {protocol} (stored: {known}); `jfeval score {run.path} --protocol {protocol}`"
    if not _common(base, other, protocol):
        return "they have no scored item in common"
    return ""


def paired(base: Store, other: Store, protocol: str) -> Comparison:
    """Compare what two runs have in common, after `why_not` found nothing against it."""
    pairs = _common(base, other, protocol)
    name = _compared(pairs)
    one = base.record()
    title = f"{_name(other)} minus {_name(base)}: {benchmark_label(one.benchmark)}, {one.edition} edition, protocol {protocol}"
    return Comparison(differences=_differences(pairs, name, title), flips=_flips(pairs, name, base, title))


def words(base: Store, other: Store, protocol: str) -> list[str]:
    """Say in lines what two comparable runs have in common, where they differ, and what cannot be told from them."""
    pairs = _common(base, other, protocol)
    name = _compared(pairs)
    changed = sum(a.values[name] != b.values[name] for a, b in pairs)
    lines = [f"{len(pairs)} scored items in common; {changed} differ ({changed / len(pairs):.1%})"]
    sizes = [len(run.scores(protocol)) for run in (base, other)]
    if sizes != [len(pairs)] * 2:
        lines.append(f"the runs have {sizes[0]} and {sizes[1]} scored items; only those in common are compared")
    one, two = base.record(), other.record()
    if one.fingerprint == two.fingerprint:
        batches = "" if one.batch_size == two.batch_size else f", batch size {one.batch_size} and {two.batch_size}"
        lines.append(f"both runs have the same fingerprint{batches}: what differs is float rounding, device or threads")
    if one.seed != two.seed:
        lines.append(f"the noise differs (seed {one.seed} and {two.seed}), the items do not")
    return lines


def _common(base: Store, other: Store, protocol: str) -> list[Pair]:
    """Pair the scores by item."""
    first, second = (by_item(run.scores(protocol)) for run in (base, other))
    pairs = [(first[key], second[key]) for key in first if key in second]
    name = _compared(pairs)
    return [(a, b) for a, b in pairs if name in a.values and name in b.values] if name else []


def _compared(pairs: Sequence[Pair]) -> str:
    """Return the score that is compared: how right an item is; empty where items have no such score."""
    return verdict_name([score for pair in pairs for score in pair])


def _name(run: Store) -> str:
    return f"{one_line(model_words(run.record()), 60)} ({one_line(run.path.name, 60)})"


def _differences(pairs: Sequence[Pair], name: str, title: str) -> Table:
    """Return one row per task and one over all items."""
    columns = (
        Column(key="task", label="task"),
        Column(key="difference", label="difference", kind="metric", detail=f"Mean of {label(name)}, second minus first."),
        Column(key="gained", label="gained", kind="count", detail="Items wrong in the first run and right in the second."),
        Column(key="lost", label="lost", kind="count", detail="Items right in the first run and wrong in the second."),
        Column(key="verdict", label="verdict", detail="Whether the 95 % interval leaves out zero."),
        Column(key="p", label="p", detail="Probability of so large a difference where there is none; tasks after Holm."),
    )
    tasks = list(dict.fromkeys(a.task for a, _ in pairs))
    by_task = [[pair for pair in pairs if pair[0].task == task] for task in tasks]
    found = [_difference(part, name) for part in by_task]
    whole = stratified_difference(found)
    rows: list[tuple[Cell, ...]] = []
    if len(tasks) > 1:
        adjusted = holm([p_value(one) for one in found])
        grid = zip(tasks, by_task, found, adjusted, strict=True)
        rows += [_row(label(task), part, one, p, name) for task, part, one, p in grid]
    rows.append(_row("all items", pairs, whole, p_value(whole), name))
    notes = [
        f"Mean of {label(name)}, paired over clusters (a prompt's images, an image's questions); brackets: 95 % interval over items.",
        "All items together weigh tasks by their size. p of tasks are adjusted for one another (Holm); a verdict that only its interval "
        "supports, and not the adjusted p, is one of several looked at.",
    ]
    exact = _mcnemar(pairs, name)
    if exact is not None:
        notes.append(f"McNemar's exact test over all items: p = {exact:.3g}.")
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes), totals=(len(rows) - 1,))


def _difference(pairs: Sequence[Pair], name: str) -> Estimate:
    first, second = ([pair[k].values[name] for pair in pairs] for k in (0, 1))
    return paired_difference(first, second, [a.cluster for a, _ in pairs])


def _mcnemar(pairs: Sequence[Pair], name: str) -> float | None:
    """Return its p; None where rows are not independent or not verdicts."""
    first, second = ([pair[k].values[name] for pair in pairs] for k in (0, 1))
    try:
        return mcnemar(first, second, [a.cluster for a, _ in pairs])
    except ValueError:
        return None


def _row(task: str, pairs: Sequence[Pair], found: Estimate, p: float | None, name: str) -> tuple[Cell, ...]:
    gained, lost = (sum(sign * (b.values[name] - a.values[name]) > 0 for a, b in pairs) for sign in (1, -1))
    return (
        Cell(value=task),
        Cell(value=found.value, low=found.ci_low, high=found.ci_high, n=found.n),
        Cell(value=gained),
        Cell(value=lost),
        Cell(value=verdict(found)),
        Cell(value=None if p is None else f"{p:.2g}"),
    )


def _flips(pairs: Sequence[Pair], name: str, base: Store, title: str) -> Table:
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
