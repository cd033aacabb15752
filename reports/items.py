"""Items that two runs share, and the one score of an item that says how right it is."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from jfeval.schema import Score
from jfeval.store import Store

VERDICTS = ("correct", "score")
"""Names that benchmarks give to how right an item is, in [0, 1]."""

Key: TypeAlias = tuple[str, str, int]
"""Sample, task and which of the sample's images."""


def verdict_name(scores: Sequence[Score]) -> str:
    """Name the score that says how right an item is: a usual name where one is used, else the first whose values all lie in [0, 1].

    Returns:
        Empty where there is none: the benchmark's numbers are of the whole set, not of its items.
    """
    usual = next((name for name in VERDICTS if any(name in score.values for score in scores)), "")
    if usual or not scores:
        return usual
    return next((name for name in scores[0].values if all(0 <= score.values.get(name, -1.0) <= 1 for score in scores)), "")


def by_item(scores: Sequence[Score]) -> Mapping[Key, Score]:
    """Return scores by what they are of."""
    return {(score.sample_id, score.task, score.index): score for score in scores}


def same_items(one: Store, two: Store) -> bool:
    """Tell whether two runs asked the same things under the same seed, so that they can be paired item by item."""
    a, b = one.record(), two.record()
    return (a.benchmark, a.edition, a.seed) == (b.benchmark, b.edition, b.seed) and a.data_identity == b.data_identity
