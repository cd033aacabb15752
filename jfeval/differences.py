"""Is there a difference? Between two runs on the same items, and between a measured number and a printed one.

What a test does not find is not shown to be nothing: the word is "not separated", never "tied".
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jfeval.stats import CONFIDENCE, Estimate, agresti_coull_se, binomial_interval, clustered_mean, satterthwaite, t_interval

Verdict: TypeAlias = Literal["better", "worse", "not separated"]


def paired_difference(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Estimate the mean of ``second - first`` over items that both were scored on; values lie in [0, 1], the difference in [-1, 1].

    Pairing removes what the items themselves contribute, so differences are told apart that the two intervals alone would not. The unit
    is the cluster (the prompt of several images, the image of several questions), never the row: the error is that of
    `jfeval.stats.clustered_mean`, on the differences. Where no item differs, the interval is what G clusters without a difference can
    exclude: the exact binomial bound for 0 of G, both ways.

    Args:
        first: One score per item.
        second: The other's, in the same order.
        clusters: The cluster of each item.

    Source: Miller, "Adding Error Bars to Evals" (2024), section 4.2; see `jfeval.stats.clustered_mean`.

    Raises:
        ValueError: Nothing to compare, or lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"cannot pair {len(first)} values with {len(second)}")
    halves = clustered_mean([(1 + b - a) / 2 for a, b in zip(first, second, strict=True)], clusters)
    value = 2 * halves.value - 1
    if halves.clusters < 2 or halves.se is None:
        return Estimate(value=value, se=None, ci_low=-1.0, ci_high=1.0, n=halves.n, clusters=halves.clusters)
    if all(a == b for a, b in zip(first, second, strict=True)):
        bound = binomial_interval(0.0, halves.clusters)[1]
        return Estimate(value=0.0, se=0.0, ci_low=-bound, ci_high=bound, n=halves.n, clusters=halves.clusters, df=halves.clusters - 1)
    low, high = 2 * halves.ci_low - 1, 2 * halves.ci_high - 1
    return Estimate(value=value, se=2 * halves.se, ci_low=low, ci_high=high, n=halves.n, clusters=halves.clusters, df=halves.df)


def influence_difference(difference: float, first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimate how far two numbers of whole sets lie apart, from what each item's output bears on either of them.

    With IF the influence function of the number (mean 0 over the items), to first order::

        se = sd(IF_second - IF_first) / sqrt(n),    interval: Student's with n - 1 degrees of freedom

    What both owe to the item, to the reference and to chance in the choice of items cancels in the difference.

    Args:
        difference: Second minus first.
        first: One influence per item.
        second: The other's, in the same order.

    Source: Hampel, JASA 69 (1974), on the influence function as the first-order expansion of a statistic.

    Raises:
        ValueError: Lengths differ, or there are fewer than two items.
    """
    from scipy.special import stdtrit

    n = len(first)
    if n != len(second) or n < 2:
        raise ValueError(f"need as many influences on both sides and at least two; got {n} and {len(second)}")
    apart = [b - a for a, b in zip(first, second, strict=True)]
    mean = math.fsum(apart) / n
    se = math.sqrt(math.fsum((value - mean) ** 2 for value in apart) / (n - 1) / n)
    half = float(stdtrit(n - 1, 1 - (1 - CONFIDENCE) / 2)) * se
    return Estimate(value=difference, se=se, ci_low=difference - half, ci_high=difference + half, n=n, clusters=n, df=n - 1)


def stratified_difference(differences: Sequence[Estimate]) -> Estimate:
    """Put the paired differences of tasks together into that of all items; tasks are of fixed sizes, and weigh by them.

    Differences between tasks are part of the benchmark's design and no source of error. A task in which no item differs is given the
    variance of Agresti and Coull for none of its G clusters, not zero::

        se^2 = sum_k (n_k / n)^2 se_k^2,    degrees of freedom by Satterthwaite

    Source: Cochran, "Sampling Techniques" (1977), equation 5.7; Agresti and Coull, The American Statistician 52 (1998).

    Args:
        differences: One `paired_difference` a task.

    Raises:
        ValueError: None is given.
    """
    if not differences:
        raise ValueError("need at least one difference")
    if len(differences) == 1:
        return differences[0]
    n, clusters = sum(one.n for one in differences), sum(one.clusters for one in differences)
    value = math.fsum(one.n * one.value for one in differences) / n
    if all(one.se == 0 for one in differences):
        bound = binomial_interval(0.0, clusters)[1]
        return Estimate(value=0.0, se=0.0, ci_low=-bound, ci_high=bound, n=n, clusters=clusters, df=clusters - 1)
    variances = [(one.n / n * (one.se or agresti_coull_se(0.0, one.clusters))) ** 2 for one in differences if one.se is not None]
    if len(variances) < len(differences):
        return Estimate(value=value, se=None, ci_low=-1.0, ci_high=1.0, n=n, clusters=clusters)
    total, df = satterthwaite(variances, [one.df for one in differences])
    se = math.sqrt(total)
    low, high = t_interval(value, se, df, floor=-1.0)
    return Estimate(value=value, se=se, ci_low=low, ci_high=high, n=n, clusters=clusters, df=df)


def p_value(difference: Estimate) -> float | None:
    """Return the two-sided probability of a difference at least so large where there is none, by Student's t; None where unknown."""
    from scipy.special import stdtr

    if difference.se is None or math.isnan(difference.df):
        return None
    if difference.se == 0:
        return 1.0 if difference.value == 0 else 0.0
    return float(2 * stdtr(difference.df, -abs(difference.value) / difference.se))


def verdict(difference: Estimate) -> Verdict:
    """Say whether the 95 % interval leaves out zero, and on which side."""
    return "better" if difference.ci_low > 0 else "worse" if difference.ci_high < 0 else "not separated"


def mcnemar(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return the exact two-sided p of McNemar's test on right and wrong answers.

    With b items right in the second run alone and c in the first alone, b is binomial(b + c, 1/2) where the runs do not differ.

    Source: McNemar, Psychometrika 12 (1947); the exact form is the sign test on the b + c discordant pairs.

    Raises:
        ValueError: A cluster has several rows, which are not independent (use `paired_difference`); or a value is not 0 or 1.
    """
    if len(set(clusters)) < len(clusters):
        raise ValueError("McNemar's test needs independent rows, and a cluster here has several; use the paired difference over clusters")
    if any(value not in (0.0, 1.0) for value in (*first, *second)):
        raise ValueError("McNemar's test is about right and wrong; a value is neither 0 nor 1")
    from scipy.special import bdtr

    gained = sum(b > a for a, b in zip(first, second, strict=True))
    lost = sum(a > b for a, b in zip(first, second, strict=True))
    if gained == lost:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for being looked at together, such as those of one column; None stays, and does not count.

    Source: Holm, Scandinavian J. Statistics 6 (1979): the i-th smallest of m (from 0) times m - i, made monotone, at most 1.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return adjusted


@dataclass(frozen=True, kw_only=True)
class Against:
    """A measured number held against a printed one."""

    difference: float
    """Measured minus printed."""
    rounding: float
    """Half a unit of the printed number's last place."""
    noise: float | None
    """Standard error of the difference of two runs on the same items; None where nothing was drawn twice."""
    verdict: Literal["reproduced", "above", "below", "unknown"]
    """``reproduced`` where rounding and 95 % of the noise explain the difference; ``unknown`` where the noise is not known and rounding
    alone does not explain it."""


def half_unit(printed: str) -> float:
    """Return half a unit of the last place that a number is printed with.

    >>> half_unit("0.63"), half_unit("88.0"), half_unit("88")
    (0.005, 0.05, 0.5)
    """
    _, _, decimals = printed.strip().partition(".")
    return 0.5 / 10 ** len(decimals)


def against_printed(value: float, se_seed: float | None, printed: str, *, scale: float = 1.0) -> Against:
    """Ask whether a measurement reproduces a printed number on the same items.

    The printed number is one run with noise of its own, so the difference of the two has sqrt(2) times the noise of one; the items are the
    same, so how they were drawn does not matter. Rounding is added to what the noise may explain::

        reproduced  if  |value - printed| <= rounding + 1.96 * sqrt(2) * se_seed

    Args:
        value: The measurement.
        se_seed: Its standard error over noise (`jfeval.stats.seed_error`); 0 for a model without noise.
        printed: The number as it is printed, with its decimals.
        scale: What the printed number is divided by to be on the measurement's scale.
    """
    difference, rounding = value - float(printed) / scale, half_unit(printed) / scale
    noise = None if se_seed is None else math.sqrt(2) * se_seed
    beyond = abs(difference) - rounding
    if beyond <= 1e-12 or (noise is not None and beyond <= _z() * noise):
        found: Literal["reproduced", "above", "below", "unknown"] = "reproduced"
    elif noise is None:
        found = "unknown"
    else:
        found = "above" if difference > 0 else "below"
    return Against(difference=difference, rounding=rounding, noise=noise, verdict=found)


def _z() -> float:
    from scipy.special import ndtri

    return float(ndtri(1 - (1 - CONFIDENCE) / 2))
