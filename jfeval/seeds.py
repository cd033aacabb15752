"""Comparing two training configurations where the unit is the training seed: prompts are many, but trainings are few.

Two variants are paired by seed (the same data order and noise). The claim is always of one form: the mean difference exceeds a
threshold, ``margin`` for a superiority claim and ``-margin`` for non-inferiority.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["supported", "contradicted", "not resolved"]

LEAST_PAIRS = 6
"""With fewer pairs no outcome can pass a sign-flip test at 2.5 % on one side: 1 / 2**5 > 0.025 >= 1 / 2**6."""
LEVEL = 0.025
"""One-sided level, so that the two directions together err in 5 % of cases."""
POWER = 0.8
_MOST_PAIRS = 40
"""So many are enumerated, each half of them for itself: 2**20 patterns."""
_DRAWS = 100_000


@dataclass(frozen=True, kw_only=True)
class SeedComparison:
    """One configuration held against another."""

    differences: tuple[float, ...]
    """By seed, in the order given."""
    threshold: float
    mean: float
    ci_low: float | None
    ci_high: float | None
    """95 % interval of Student's t over seeds; None with fewer than two."""
    p_above: float
    """Of the sign-flip test that the mean difference does not exceed the threshold."""
    p_below: float
    """The same in the other direction."""
    smallest: float | None
    """The smallest difference from the threshold that this many seeds would have shown with a power of 80 %; None with fewer than two."""
    verdict: Verdict


def compare_seeds(differences: Sequence[float], *, threshold: float = 0.0) -> SeedComparison:
    """Judge whether the mean difference exceeds a threshold.

    With fewer than `LEAST_PAIRS` pairs the verdict is "not resolved", whatever the numbers.

    Args:
        differences: One per seed.
        threshold: See the module's docstring.

    Raises:
        ValueError: There is no difference, or one is not finite.
    """
    if not differences or not all(math.isfinite(d) for d in differences):
        raise ValueError(f"need at least one difference, all finite; got {list(differences)}")
    n, mean = len(differences), math.fsum(differences) / len(differences)
    shifted = [d - threshold for d in differences]
    above, below = sign_flip(shifted), sign_flip([-d for d in shifted])
    verdict: Verdict = "not resolved"
    if n >= LEAST_PAIRS:
        verdict = "supported" if above <= LEVEL else "contradicted" if below <= LEVEL else "not resolved"
    half, smallest = _spread(differences)
    return SeedComparison(
        differences=tuple(differences),
        threshold=threshold,
        mean=mean,
        ci_low=None if half is None else mean - half,
        ci_high=None if half is None else mean + half,
        p_above=above,
        p_below=below,
        smallest=smallest,
        verdict=verdict,
    )


def sign_flip(differences: Sequence[float]) -> float:
    """Return the one-sided p-value that the mean of symmetric, independent differences is not above zero.

    It is the share of the 2^n patterns of signs whose sum is at least the observed one; the observed pattern counts, so p >= 2^-n. It is
    exact up to 40 differences. Of more, 100,000 patterns are drawn from a fixed seed, and p = (1 + hits) / (1 + draws), which errs on the
    safe side. Source: Fisher, "The Design of Experiments" (1935), section 21; Phipson and Smyth, arXiv 1603.05766 (drawn patterns).

    >>> sign_flip([1.0, 2.0, 3.0])
    0.125
    """
    sizes = np.abs(np.asarray(differences, np.float64))
    least = float(np.sum(differences)) - 1e-12 * max(1.0, float(sizes.sum()))
    if len(sizes) > _MOST_PAIRS:
        return _drawn_flips(sizes, least)
    half = len(sizes) // 2
    one, other = _all_sums(sizes[:half]), np.sort(_all_sums(sizes[half:]))
    hits = one.size * other.size - int(np.searchsorted(other, least - one).sum())
    return hits / 2 ** len(sizes)


def _all_sums(sizes: np.ndarray) -> np.ndarray:
    """Return the sums under every pattern of signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def _drawn_flips(sizes: np.ndarray, least: float) -> float:
    """Return the p-value of drawn patterns whose sum is at least ``least``."""
    rng, sums = np.random.default_rng(0), np.zeros(_DRAWS)
    for size in sizes:
        sums += np.where(rng.integers(0, 2, _DRAWS, dtype=np.int8), size, -size)
    return (1 + int(np.count_nonzero(sums >= least))) / (1 + _DRAWS)


def _spread(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Return half the 95 % interval and the smallest detectable difference, ``(t_0.975 + t_0.8) s / sqrt(n)``.

    Source: Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1988), with t for the normal at n - 1 degrees of freedom.
    """
    n = len(differences)
    if n < 2:
        return None, None
    from scipy.special import stdtrit

    error = float(np.std(differences, ddof=1)) / math.sqrt(n)
    high, power = float(stdtrit(n - 1, 1 - LEVEL)), float(stdtrit(n - 1, POWER))
    return high * error, (high + power) * error


def crossed_bootstrap(differences: Sequence[Sequence[float]], *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the grand mean of differences (seeds, prompts), both drawn anew.

    Seeds and prompts are crossed (every seed saw every prompt), so each is resampled on its own: how far would the difference move under
    other seeds *and* other prompts? With few seeds the interval is too short, as a bootstrap of few units is, and no test:
    ``tests/perf/crossed_coverage.py`` measures how often it holds the truth. Source: Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1 (2007), sections 3 and 4.

    Raises:
        ValueError: Rows differ in length, or there is nothing.
    """
    table = np.asarray(differences, np.float64)
    if table.ndim != 2 or not table.size:
        raise ValueError(f"need a table of differences, seeds by prompts; got the shape {table.shape}")
    rng = np.random.default_rng(seed)
    rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in table.shape)
    means = ((rows @ table) * columns).sum(1) / table.size
    low, high = np.quantile(means, [LEVEL, 1 - LEVEL])
    return float(low), float(high)
