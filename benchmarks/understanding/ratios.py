"""Numbers that are ratios of counts (accuracy, precision, recall, F1, yes-ratio), with intervals that respect clusters.

With rows i that contribute ``top_i`` and ``bottom_i``, the number is R = sum top / sum bottom, and a cluster g moves it by::

    u_g = sum over i in g of (top_i - R * bottom_i) / sum bottom,      se^2 = G / (G - 1) * sum_g u_g^2

For a plain mean (bottom_i = 1) this is `jfeval.stats.clustered_mean`. The mean of several such numbers over the same images (POPE's splits
share images and questions) has the mean of their u_g, so that what they share is not counted as independent.

Source: Taylor linearisation of a ratio (Cochran, "Sampling Techniques", 1977, section 6.3) with cluster totals (Cameron and Miller,
J. Human Resources 50, 2015, equations 10 to 12).
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jfeval.stats import Estimate, binomial_interval, interval_of

Row = tuple[float, float, Hashable]
"""Top, bottom and cluster of one row."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio, and how far each cluster moves it."""

    value: float
    """0 where the bottom is 0: nothing was there to count."""
    n: int
    """Rows that the bottom counts."""
    moves: Mapping[Hashable, float]
    """u_g of every cluster."""
    counted: frozenset[Hashable]
    """Clusters that the bottom counts."""


def ratio(rows: Iterable[Row]) -> Ratio:
    """Divide the sum of tops by the sum of bottoms."""
    return ratio_of_counts(Counter(rows))


def ratio_of_counts(rows: Mapping[Row, int]) -> Ratio:
    """Divide the sum of tops by the sum of bottoms, each row standing for as many as its count says."""
    total = math.fsum(count * bottom for (_, bottom, _), count in rows.items())
    value = math.fsum(count * top for (top, _, _), count in rows.items()) / total if total else 0.0
    moves: dict[Hashable, float] = {}
    for (top, bottom, cluster), count in rows.items():
        moves[cluster] = moves.get(cluster, 0.0) + (count * (top - value * bottom) / total if total else 0.0)
    counted = {row: count for row, count in rows.items() if row[1]}
    return Ratio(value=value, n=sum(counted.values()), moves=moves, counted=frozenset(cluster for _, _, cluster in counted))


def mean_ratio(ratios: Sequence[Ratio]) -> Ratio:
    """Return the unweighted mean of ratios whose clusters may be shared.

    Raises:
        ValueError: None is given.
    """
    if not ratios:
        raise ValueError("need at least one ratio to average")
    moves: dict[Hashable, float] = {}
    for one in ratios:
        for cluster, move in one.moves.items():
            moves[cluster] = moves.get(cluster, 0.0) + move / len(ratios)
    value = math.fsum(one.value for one in ratios) / len(ratios)
    counted = frozenset[Hashable]().union(*(one.counted for one in ratios))
    return Ratio(value=value, n=sum(one.n for one in ratios), moves=moves, counted=counted)


def estimate(found: Ratio) -> Estimate:
    """Give a ratio its standard error and 95 % interval, clipped to [0, 1].

    Where no cluster moves it (all right, all wrong) the interval is the exact binomial one over the clusters counted; with fewer than two
    of them it is all of [0, 1].
    """
    counted, spread = len(found.counted), math.fsum(move * move for move in found.moves.values())
    if counted < 2:
        return Estimate(value=found.value, se=None, ci_low=0.0, ci_high=1.0, n=found.n, clusters=counted)
    if spread <= 1e-24:  # rounding only
        low, high = binomial_interval(found.value * counted, counted)
        return Estimate(value=found.value, se=None, ci_low=low, ci_high=high, n=found.n, clusters=counted)
    se = math.sqrt(counted / (counted - 1) * spread)
    low, high = interval_of(found.value, se, counted - 1)
    return Estimate(value=found.value, se=se, ci_low=low, ci_high=high, n=found.n, clusters=counted, df=counted - 1)
