"""MMBench's verdicts and tables: rows alone (vanilla) and rows that agree under every rotation of their options (circular).

A question of N options comes as N rows whose options are rotated; row ``index + k * 1,000,000`` is rotation k. The rows are scored as
they are stored, never rotated here, and a question's group is whatever rows of it are present.

Source: Liu et al., "MMBench" (arXiv 2307.06281), section 4.2 (CircularEval); open-compass/VLMEvalKit @ e8e78f05,
dataset/utils/multiple_choice.py (mcq_circular_eval, mcq_vanilla_eval, report_acc).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jfeval.stats import Estimate, clustered_mean

ROTATION = 1_000_000
"""Distance between the indices of two rotations. Source: VLMEvalKit @ e8e78f05, mcq_circular_eval."""

L2_ABBREVIATIONS = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
"""The six L2 abilities. Source: VLMEvalKit @ e8e78f05, dataset/utils/multiple_choice.py, MMB_abbrs."""

Way: TypeAlias = Literal["circular", "vanilla_all_rows", "vanilla_base_rows"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, kw_only=True)
class RowVerdict:
    """One scored row."""

    index: int
    """As in the data; its rotation included."""
    l2: str
    category: str
    """One of twenty leaf abilities."""
    hit: float
    """1 where it is right, 0 where it is not; of a guess, how likely it is right."""
    cluster: str
    """Rows of one cluster (those about one image) are not independent."""


@dataclass(frozen=True, kw_only=True)
class AccuracyTable:
    """Accuracy one way, as shares in [0, 1]."""

    overall: Estimate
    l2: dict[str, Estimate]
    """By the abbreviation of the L2 ability."""
    category: dict[str, Estimate]
    """By leaf ability."""


def group_of(index: int) -> int:
    """Return the question that a row belongs to: the index of its base row."""
    return index % ROTATION


def is_base(index: int) -> bool:
    """Tell whether a row is its question's first one, whose labels the group is reported under."""
    return index < ROTATION


def circular_hits(rows: Iterable[RowVerdict]) -> dict[int, float]:
    """Return for each question whether every row of it that is present is right; of guesses, how likely that is."""
    hits: dict[int, float] = {}
    for row in rows:
        hits[group_of(row.index)] = row.hit * hits.get(group_of(row.index), 1.0)
    return hits


def counted(rows: Sequence[RowVerdict], way: Way) -> list[tuple[RowVerdict, float]]:
    """List what a table averages: rows with their verdict.

    Circular accuracy is over base rows, each with the verdict of its group; a group without a base row is left out, as in the
    published scorer.
    """
    if way == "circular":
        hits = circular_hits(rows)
        return [(row, hits[row.index]) for row in rows if is_base(row.index)]
    return [(row, row.hit) for row in rows if way == "vanilla_all_rows" or is_base(row.index)]


def accuracy_table(rows: Sequence[RowVerdict], way: Way) -> AccuracyTable | None:
    """Return accuracy overall and by ability, with intervals over clusters; None where no row counts."""
    verdicts = counted(rows, way)
    if not verdicts:
        return None
    l2: dict[str, list[tuple[RowVerdict, float]]] = {}
    category: dict[str, list[tuple[RowVerdict, float]]] = {}
    for row, hit in verdicts:
        l2.setdefault(l2_name(row.l2), []).append((row, hit))
        category.setdefault(row.category, []).append((row, hit))
    return AccuracyTable(
        overall=_estimate(verdicts),
        l2={name: _estimate(l2[name]) for name in sorted(l2)},
        category={name: _estimate(category[name]) for name in sorted(category)},
    )


def l2_name(l2: str) -> str:
    """Return the short name of an L2 ability; one that is not among the six keeps its own."""
    return L2_ABBREVIATIONS.get(l2, l2)


def _estimate(verdicts: Sequence[tuple[RowVerdict, float]]) -> Estimate:
    return clustered_mean([float(hit) for _, hit in verdicts], [row.cluster for row, _ in verdicts])
