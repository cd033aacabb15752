"""Two runs whose numbers are distances of whole sets: paired by how much each item's image bears on the distance."""

from collections.abc import Sequence

from jfeval.differences import holm, influence_difference, p_value
from jfeval.errors import UserError
from jfeval.reports.naming import model_words
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, label, one_line
from jfeval.schema import Metric, Score
from jfeval.stats import Estimate
from jfeval.store import Store

INFLUENCE = "influence"
"""Score of an image: its influence on the run's distance, mean 0."""
_CORRECTED = "_corrected"


def compare_sets(base: Store, other: Store, protocol: str) -> Table | None:
    """Compare the distances of two runs on the same items; None where they are not such runs, or have too few images for an error.

    Args:
        base: What is compared with.
        other: Its difference from ``base`` is reported.
        protocol: The scorer.

    Raises:
        UserError: The runs were held against different references, or do not hold the same images.
    """
    one, two = base.record(), other.record()
    if (one.benchmark, one.edition, one.data_identity) != (two.benchmark, two.edition, two.data_identity):
        return None
    if any(protocol not in run.protocols() for run in (base, other)):
        return None
    first, second = (_by_item(run.scores(protocol)) for run in (base, other))
    if not _all_have(first) or not _all_have(second):
        return None
    if first.keys() != second.keys():
        common = len(first.keys() & second.keys())
        raise UserError(
            f"{base.path} holds {len(first)} images and {other.path} {len(second)}, {common} of them of the same items: distances of sets "
            "are paired where both drew the same items; finish both runs"
        )
    references = [run.record().judge_identity.get("reference") for run in (base, other)]
    if references[0] != references[1]:
        raise UserError(f"the runs were held against different references: {_short(references[0])} and {_short(references[1])}")
    keys = sorted(first)
    influences = [[scores[key].values[INFLUENCE] for key in keys] for scores in (first, second)]
    found: list[tuple[str, Metric, Metric, Estimate]] = []
    for a, b in _distances(base.metrics(protocol), other.metrics(protocol)):
        found.append((a.name, a, b, influence_difference(b.value - a.value, *influences)))
    return _table(base, other, protocol, found)


def _table(base: Store, other: Store, protocol: str, found: Sequence[tuple[str, Metric, Metric, Estimate]]) -> Table:
    columns = (
        Column(key="number", label="number"),
        Column(key="first", label="first", kind="number"),
        Column(key="second", label="second", kind="number"),
        Column(key="difference", label="difference", kind="number", detail="Second minus first; below 0 the second is nearer."),
        Column(key="interval", label="95 % interval"),
        Column(key="verdict", label="verdict", detail="Whether the interval leaves out zero."),
        Column(key="p", label="p", detail="Probability of so large a difference where there is none, after Holm."),
    )
    adjusted = holm([p_value(estimate) for *_, estimate in found])
    rows = []
    for (name, a, b, estimate), p in zip(found, adjusted, strict=True):
        interval = f"[{estimate.ci_low:.4f}, {estimate.ci_high:.4f}]"
        cells = (label(name), a.value, b.value, estimate.value, interval, _verdict(estimate), None if p is None else f"{p:.2g}")
        rows.append(tuple(Cell(value=value) for value in cells))
    record = base.record()
    title = f"{_name(other)} minus {_name(base)}: {benchmark_label(record.benchmark)}, {record.edition} edition, protocol {protocol}"
    notes = (
        f"{found[0][3].n} images of each run, paired by item: the error is that of the difference of their influences. The error of the "
        "reference, which both share, is not in it.",
    )
    return Table(title=title, columns=columns, rows=tuple(rows), notes=notes)


def _distances(first: Sequence[Metric], second: Sequence[Metric]) -> list[tuple[Metric, Metric]]:
    """Pair the headline distance, and the same without its bias."""
    head = next(metric for metric in first if metric.headline)
    by_name = {metric.name: metric for metric in second if not metric.task}
    wanted = (head.name, head.name + _CORRECTED)
    return [(metric, by_name[metric.name]) for metric in first if metric.name in wanted and not metric.task and metric.name in by_name]


def _verdict(estimate: Estimate) -> str:
    return "nearer" if estimate.ci_high < 0 else "farther" if estimate.ci_low > 0 else "not separated"


def _by_item(scores: Sequence[Score]) -> dict[tuple[str, int], Score]:
    return {(score.sample_id, score.index): score for score in scores}


def _all_have(scores: dict[tuple[str, int], Score]) -> bool:
    return bool(scores) and all(INFLUENCE in score.values for score in scores.values())


def _name(run: Store) -> str:
    return f"{one_line(model_words(run.record()), 60)} ({one_line(run.path.name, 60)})"


def _short(value: object) -> str:
    return one_line(str(value), 80)
