"""Error bars for means over items that come in clusters (four images of one prompt, questions about one image).

Two questions have two errors. ``se`` (over items): how far would this number move if the benchmark had drawn other items of the same
kind? Every interval here is of this sort. ``se_seed``: how far would it move if the same items were drawn again with other noise? It says
whether a number is reproduced; see `jfeval.differences.against_printed`.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_AGRESTI_COULL_Z2 = 1.959963984540054**2
_EDGE = 0.2
"""Nearer than this to 0 or 1, a mean's distribution is too skewed for Student's t; see `interval_of`."""


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
    se_seed: float | None = None
    """Standard error over noise, the items being the same; None where nothing was drawn more than once."""


def clustered_mean(values: Sequence[float], clusters: Sequence[Hashable], *, repeats: Sequence[Hashable] | None = None) -> Estimate:
    """Estimate the mean of values in [0, 1] whose rows are independent between clusters only.

    With G clusters, n values and cluster sums of residuals S_g = sum over i in g of (x_i - mean)::

        se^2 = G / (G - 1) * sum_g S_g^2 / n^2,    interval: `interval_of` with G - 1 degrees of freedom

    Where no cluster differs from another (all right, all wrong), se^2 is 0 and says nothing about unseen items. The interval
    is then the exact binomial (Clopper-Pearson) one for ``mean * G`` successes in G trials, and the standard error the one of
    Agresti and Coull on G trials, so that means over several tasks stay honest too.

    Source: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", J. Human Resources 50 (2015), equations
    10 to 12 for a regression on a constant, with their factor G / (G - 1); Miller, "Adding Error Bars to Evals" (2024),
    section 2.2; Clopper and Pearson, Biometrika 26 (1934); Agresti and Coull, The American Statistician 52 (1998).

    Args:
        values: One score per image or answer, each in [0, 1].
        clusters: The cluster of each value, in the same order.
        repeats: The item of each value, where rows of one item differ by noise alone; gives ``se_seed``.

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
    se_seed = None if repeats is None else seed_error(values, repeats)
    spread = math.fsum(math.fsum(residuals) ** 2 for residuals in sums.values())
    if groups < 2:
        return Estimate(value=mean, se=None, ci_low=0.0, ci_high=1.0, n=n, clusters=groups, se_seed=se_seed)
    if spread <= n * n * 1e-24:  # rounding only
        low, high = binomial_interval(mean * groups, groups)
        se = agresti_coull_se(mean * groups, groups)
        return Estimate(value=mean, se=se, ci_low=low, ci_high=high, n=n, clusters=groups, df=groups - 1, se_seed=se_seed)
    se = math.sqrt(groups / (groups - 1) * spread) / n
    low, high = interval_of(mean, se, groups - 1)
    return Estimate(value=mean, se=se, ci_low=low, ci_high=high, n=n, clusters=groups, df=groups - 1, se_seed=se_seed)


def seed_error(values: Sequence[float], repeats: Sequence[Hashable]) -> float | None:
    """Return the standard error of a mean over noise alone: every item stays, and each of its rows is drawn again.

    With m_i rows of item i and their variance s_i^2 (divisor m_i - 1)::

        se_seed^2 = sum_i m_i * s_i^2 / n^2

    An item with a single row is given the mean variance of the others.

    Source: the variance within strata of a stratified sample (Cochran, "Sampling Techniques", 1977, equation 5.6), items being strata.

    Returns:
        None where no item has two rows.
    """
    rows: dict[Hashable, list[float]] = {}
    for value, item in zip(values, repeats, strict=True):
        rows.setdefault(item, []).append(value)
    known = [(len(found), _variance(found)) for found in rows.values() if len(found) > 1]
    if not known:
        return None
    singles = len(rows) - len(known)
    usual = math.fsum(variance for _, variance in known) / len(known)
    return math.sqrt(math.fsum(size * variance for size, variance in known) + singles * usual) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def mean_of(estimates: Sequence[Estimate], weights: Sequence[float] | None = None) -> Estimate:
    """Estimate the weighted mean of k independent strata, for example GenEval's overall over its tasks.

    ::

        se = sqrt(sum w_k^2 se_k^2),    df = (sum w_k^2 se_k^2)^2 / sum (w_k^4 se_k^4 / df_k),    sum w_k = 1

    Source: stratified sampling with fixed weights (Cochran, "Sampling Techniques", 1977, equation 5.7); degrees of freedom by
    Satterthwaite, Biometrics Bulletin 2 (1946).

    Args:
        estimates: One for each stratum.
        weights: Positive, of any scale; None for equal ones.

    Raises:
        ValueError: No stratum is given, or weights that do not fit.
    """
    if not estimates:
        raise ValueError("need at least one estimate to average")
    if weights is not None and (len(weights) != len(estimates) or min(weights) <= 0):
        raise ValueError(f"need a positive weight for each of {len(estimates)} estimates, got {list(weights)}")
    w = weights or [1.0] * len(estimates)
    whole = math.fsum(w)
    value = math.fsum(weight * e.value for weight, e in zip(w, estimates, strict=True)) / whole
    n, clusters = sum(e.n for e in estimates), sum(e.clusters for e in estimates)
    of_seed = [(weight * e.se_seed) ** 2 for weight, e in zip(w, estimates, strict=True) if e.se_seed is not None]
    se_seed = math.sqrt(math.fsum(of_seed)) / whole if len(of_seed) == len(estimates) else None
    variances = [(weight * e.se) ** 2 for weight, e in zip(w, estimates, strict=True) if e.se is not None]
    if len(variances) < len(estimates):
        return Estimate(value=value, se=None, ci_low=0.0, ci_high=1.0, n=n, clusters=clusters, se_seed=se_seed)
    total, df = satterthwaite(variances, [e.df for e in estimates])
    se = math.sqrt(total) / whole
    low, high = interval_of(value, se, df)
    return Estimate(value=value, se=se, ci_low=low, ci_high=high, n=n, clusters=clusters, df=df, se_seed=se_seed)


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> tuple[float, float]:
    """Return the sum of independent estimated variances, and how many degrees of freedom that sum has.

    Source: Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    total = math.fsum(variances)
    return total, total**2 / math.fsum(v * v / max(df, 1.0) for v, df in zip(variances, dfs, strict=True))


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


def interval_of(value: float, se: float, df: float) -> tuple[float, float]:
    """Return the 95 % interval of a mean of values in [0, 1].

    Between 0.2 and 0.8 it is Student's. Nearer to 0 or 1 that one is too short on the far side (it covers 88 to 92 % at 0.97 where the
    images of a prompt are alike). There it is Wilson's score interval for the sample size that this standard error is worth
    (the design-effect n), with Student's quantile; it covers 93 to 97 %. ``tests/perf/coverage.py`` measures both::

        m = value * (1 - value) / se^2,    t = t(0.975, df)
        (value + t^2 / 2m +- t * sqrt(value * (1 - value) / m + t^2 / 4m^2)) / (1 + t^2 / m)

    Source: Wilson, J. American Statistical Association 22 (1927); for complex samples Dean and Pagano, J. Survey Statistics and
    Methodology 3 (2015), section 2.
    """
    from scipy.special import stdtrit

    if se <= 0 or not 0 < value < 1 or min(value, 1 - value) > _EDGE - 1e-9:
        return t_interval(value, se, df)
    t = float(stdtrit(df, 1 - (1 - CONFIDENCE) / 2))
    m = value * (1 - value) / (se * se)
    middle, half = value + t * t / (2 * m), t * math.sqrt(value * (1 - value) / m + (t / (2 * m)) ** 2)
    return max(0.0, (middle - half) / (1 + t * t / m)), min(1.0, (middle + half) / (1 + t * t / m))


def t_interval(value: float, se: float, df: float, *, floor: float = 0.0) -> tuple[float, float]:
    """Return the 95 % interval of Student's t with ``df`` degrees of freedom, clipped to [``floor``, 1]."""
    from scipy.special import stdtrit

    half = float(stdtrit(df, 1 - (1 - CONFIDENCE) / 2)) * se
    return max(floor, value - half), min(1.0, value + half)


def agresti_coull_se(successes: float, trials: float) -> float:
    """Return the standard error of a share as if two more successes and two more failures had been seen, about: never zero."""
    shrunk_trials = trials + _AGRESTI_COULL_Z2
    p = (successes + _AGRESTI_COULL_Z2 / 2) / shrunk_trials
    return math.sqrt(p * (1 - p) / shrunk_trials)
