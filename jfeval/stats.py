"""Error bars for means over items that come in clusters (four images of one prompt, questions about one image).

The intervals answer: how far would this number move if the benchmark had drawn other items of the same kind? They do not
describe the noise between two runs over the same items.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_AGRESTI_COULL_Z2 = 1.959963984540054**2


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard error and 95 % interval."""

    value: float
    se: float | None
    """Standard error; None with fewer than two clusters."""
    ci_low: float
    ci_high: float
    """With fewer than two clusters nothing is known about others, and the interval is all of [0, 1]."""
    n: int
    """Values that went in."""
    clusters: int
    """Independent clusters those values form."""
    df: float = math.nan
    """Degrees of freedom behind the interval; nan where there is none."""


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Estimate the mean of values in [0, 1] whose rows are independent between clusters only.

    With G clusters, n values and cluster sums of residuals S_g = sum over i in g of (x_i - mean)::

        se^2 = G / (G - 1) * sum_g S_g^2 / n^2,    interval = mean +- t(0.975, G - 1) * se, clipped to [0, 1]

    Where no cluster differs from another (all right, all wrong), se^2 is 0 and says nothing about unseen items. The interval
    is then the exact binomial (Clopper-Pearson) one for ``mean * G`` successes in G trials, and the standard error the one of
    Agresti and Coull on G trials, so that means over several tasks stay honest too.

    Source: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", J. Human Resources 50 (2015), equations
    10 to 12 for a regression on a constant, with their factor G / (G - 1); Miller, "Adding Error Bars to Evals" (2024),
    section 2.2; Clopper and Pearson, Biometrika 26 (1934); Agresti and Coull, The American Statistician 52 (1998).

    Args:
        values: One score per image or answer, each in [0, 1].
        clusters: The cluster of each value, in the same order.

    Raises:
        ValueError: Nothing to average, lengths differ, or a value is not finite.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"need as many clusters as values and at least one; got {len(values)} values, {len(clusters)} clusters")
    if not all(math.isfinite(value) for value in values):
        raise ValueError("cannot average values that are not finite")
    n = len(values)
    mean = math.fsum(values) / n
    sums: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums.setdefault(cluster, []).append(value - mean)
    groups = len(sums)
    spread = math.fsum(math.fsum(residuals) ** 2 for residuals in sums.values())
    if groups < 2:
        return Estimate(value=mean, se=None, ci_low=0.0, ci_high=1.0, n=n, clusters=groups)
    if spread <= n * n * 1e-24:  # rounding only
        low, high = binomial_interval(mean * groups, groups)
        se = _agresti_coull_se(mean * groups, groups)
        return Estimate(value=mean, se=se, ci_low=low, ci_high=high, n=n, clusters=groups, df=groups - 1)
    se = math.sqrt(groups / (groups - 1) * spread) / n
    low, high = t_interval(mean, se, groups - 1)
    return Estimate(value=mean, se=se, ci_low=low, ci_high=high, n=n, clusters=groups, df=groups - 1)


def paired_difference(first: Sequence[float], second: Sequence[float], clusters: Sequence[Hashable]) -> Estimate:
    """Estimate the mean of ``second - first`` over items that both were scored on; values lie in [0, 1], the difference in [-1, 1].

    Pairing removes what the items themselves contribute, so differences are told apart that the two intervals alone would not. The
    error is that of `clustered_mean`, on the differences. Where no item differs, the interval is what G clusters without a difference
    can exclude: the exact binomial bound for 0 of G, both ways.

    Source: Miller, "Adding Error Bars to Evals" (2024), section 4.2; see `clustered_mean`.

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
        return Estimate(value=0.0, se=0.0, ci_low=-bound, ci_high=bound, n=halves.n, clusters=halves.clusters, df=halves.df)
    low, high = 2 * halves.ci_low - 1, 2 * halves.ci_high - 1
    return Estimate(value=value, se=2 * halves.se, ci_low=low, ci_high=high, n=halves.n, clusters=halves.clusters, df=halves.df)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the unweighted mean of k independent strata, for example GenEval's overall over its tasks.

    ::

        se = sqrt(sum se_k^2) / k,    df = (sum se_k^2)^2 / sum (se_k^4 / df_k)

    Source: stratified sampling with fixed equal weights (Cochran, "Sampling Techniques", 1977, equation 5.7); degrees of freedom
    by Satterthwaite, Biometrics Bulletin 2 (1946).

    Raises:
        ValueError: No stratum is given.
    """
    if not estimates:
        raise ValueError("need at least one estimate to average")
    k = len(estimates)
    value = math.fsum(e.value for e in estimates) / k
    n, clusters = sum(e.n for e in estimates), sum(e.clusters for e in estimates)
    errors = [e.se for e in estimates]
    variances = [se * se for se in errors if se is not None]
    if len(variances) < k:
        return Estimate(value=value, se=None, ci_low=0.0, ci_high=1.0, n=n, clusters=clusters)
    total = math.fsum(variances)
    df = total**2 / math.fsum(v * v / max(e.df, 1.0) for v, e in zip(variances, estimates, strict=True))
    se = math.sqrt(total) / k
    low, high = t_interval(value, se, df)
    return Estimate(value=value, se=se, ci_low=low, ci_high=high, n=n, clusters=clusters, df=df)


def binomial_interval(successes: float, trials: float) -> tuple[float, float]:
    """Return the exact 95 % binomial interval; ``successes`` and ``trials`` need not be whole (effective sample sizes are not).

    Source: Clopper and Pearson, Biometrika 26 (1934), through quantiles of the beta distribution.
    """
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    successes = min(max(successes, 0.0), trials)
    low = 0.0 if successes <= 1e-9 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if trials - successes <= 1e-9 else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def t_interval(value: float, se: float, df: float) -> tuple[float, float]:
    """Return the 95 % interval of Student's t with ``df`` degrees of freedom, clipped to [0, 1]."""
    from scipy.special import stdtrit

    half = float(stdtrit(df, 1 - (1 - CONFIDENCE) / 2)) * se
    return max(0.0, value - half), min(1.0, value + half)


def _agresti_coull_se(successes: float, trials: float) -> float:
    shrunk_trials = trials + _AGRESTI_COULL_Z2
    p = (successes + _AGRESTI_COULL_Z2 / 2) / shrunk_trials
    return math.sqrt(p * (1 - p) / shrunk_trials)
