"""Error bars for the Frechet distance: its standard error by the influence function, and its finite-sample bias.

FID_n, what is printed everywhere, lies above the distance of the two distributions by about width / n of its size, and says nothing of its
own noise. Both follow from how the distance changes with one more image. With m, S the generated and m_r, S_r the reference moments,
S_r = L L', M = L' S L = V diag(r^2) V', T = L M^(-1/2) L' (the optimal transport map, T S T = S_r) and z_i = squares of the entries of
``diag(r)^(-1/2) V' L' (x - m)``::

    IF(x)  = 2 (x - m).(m - m_r) + (x - m)' (I - T) (x - m) - tr(S (I - T)),    SE^2 = var IF / n
    bias_n = (tr S + E[sum_ij z_i z_j / (r_i + r_j)] / 2 - sum_i r_i / 4) / n + O(1 / n^2)

The second line is the expectation of the second-order term of the expansion (the derivative of the square root's divided differences). What
it leaves, of order 1 / n^2, is removed by the same estimate on two halves of the data: (4 c_n - c_(n/2)) / 3. The derivation and the
measured coverage stand in docs/fid.md. The percentile bootstrap is not used: resampling adds the finite-sample bias a second time.

Source: von Mises, Annals of Mathematical Statistics 18 (1947); Hampel, JASA 69 (1974) for influence functions; Olkin and Pukelsheim, Linear
Algebra and its Applications 48 (1982) for T; Bhatia, "Matrix Analysis" (1997), theorem V.3.3 for the derivative of a matrix function.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.linalg import eigh
from scipy.special import stdtrit

from jfeval.benchmarks.scorers.frechet import RANK_TOLERANCE, Accumulator, Moments, check_widths, factor, frechet_distance
from jfeval.errors import UserError
from jfeval.stats import CONFIDENCE

LEAST_RATIO = 5
"""Images per feature below which no interval is given: the expansion does not hold there."""


class Batches(Protocol):
    """Features ``(B, D)`` in parts, gone through several times: arrays in memory, mapped from a file, or read anew at each pass."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Begin a pass."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FrechetEstimate:
    """A Frechet distance with what is known about its error."""

    value: float
    """FID_n, as papers print it: the distance of the moments of these images."""
    se: float | None
    """Standard error of the value and of the corrected value; None with fewer than 5 images per feature."""
    corrected: float | None
    """The value without its finite-sample bias: an estimate of the distance of the distributions."""
    n: int
    reference_n: int
    width: int
    influence: np.ndarray
    """``(n,)``: each generated image's influence, mean 0; its standard deviation / sqrt(n) is the generated side's error."""
    reference_sampled: bool
    """Whether the reference counts as a sample, whose error is in ``se``, or as given once and for all."""

    def interval(self, centre: float) -> tuple[float, float] | None:
        """Return the 95 % interval about the value or the corrected value; near 0 it reaches below."""
        if self.se is None:
            return None
        half = float(stdtrit(self.n - 1, 1 - (1 - CONFIDENCE) / 2)) * self.se
        return centre - half, centre + half


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """One side's expansion: from a feature to its influence, and to its part of the bias."""

    here: Moments
    shift: np.ndarray
    """Twice the difference of the means."""
    rays: np.ndarray
    """``(D, D)``, with T = rays rays'."""
    roots: np.ndarray
    """r, ``(D,)``; 0 where there is no spread."""
    weights: np.ndarray
    """``1 / (r_i + r_j)``."""

    def terms(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return each row's influence and its second-order term."""
        centred = np.asarray(batch, dtype=np.float64) - self.here.mean
        z = (centred @ self.rays) ** 2
        influence = centred @ self.shift + (centred**2).sum(axis=1) - z.sum(axis=1)
        return influence, np.einsum("bi,ij,bj->b", z, self.weights, z, optimize=True)

    def bias(self, second_order: float) -> float:
        """Return the finite-sample bias that this side adds, from the mean second-order term."""
        return float(np.trace(self.here.cov) + second_order / 2 - self.roots.sum() / 4) / self.here.n


def estimate_frechet(generated: Batches, reference: Moments | Batches) -> FrechetEstimate:
    """Estimate the distance of generated features to a reference, with its error.

    Args:
        generated: Features of the generated images.
        reference: Moments that count as given (error of the generated side only), or features that are a sample (error of both).

    Raises:
        UserError: Widths differ, or fewer than two images.
    """
    halves = _Halves(generated)
    others = None if isinstance(reference, Moments) else _Halves(reference)
    given = reference if isinstance(reference, Moments) else others.whole  # pyright: ignore[reportOptionalMemberAccess]
    a, b = halves.whole, given
    check_widths(a, b)
    value = frechet_distance(a, b)
    sides = 1 if others is None else 2
    common = {"value": value, "n": a.n, "reference_n": b.n, "width": a.width, "reference_sampled": sides == 2}
    if min(a.n, b.n if others else a.n) < LEAST_RATIO * a.width:
        return FrechetEstimate(se=None, corrected=None, influence=np.zeros(0), **common)  # pyright: ignore[reportArgumentType]
    influence, bias = _expand(a, b, halves.rows())
    variance = float(influence.var(ddof=1)) / a.n
    if others is not None:
        far, far_bias = _expand(b, a, others.rows())
        variance += float(far.var(ddof=1)) / b.n
        bias += far_bias
    half_values = [_half(halves, others, given, which) for which in (0, 1)]
    corrected = (4 * (value - bias) - math.fsum(half_values) / 2) / 3
    return FrechetEstimate(se=math.sqrt(variance), corrected=corrected, influence=influence - influence.mean(), **common)  # pyright: ignore[reportArgumentType]


def paired_difference(a: FrechetEstimate, b: FrechetEstimate) -> tuple[float, float]:
    """Compare two models on the same prompts: difference of the values, and its standard error by IF_A - IF_B.

    The error of a reference that both share cancels to first order only in part and is left out, so give both the same one.

    Raises:
        UserError: One has no error bar, or they are of different numbers of images.
    """
    if a.se is None or b.se is None or len(a.influence) != len(b.influence):
        raise UserError(f"two models are paired on the same prompts, at least {LEAST_RATIO} images per feature; got {a.n} and {b.n} images")
    spread = a.influence - b.influence
    return a.value - b.value, float(spread.std(ddof=1)) / math.sqrt(len(spread))


class _Halves:
    """Features with the moments of all and of every second one."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        parts = (Accumulator(), Accumulator())
        place = 0
        for batch in batches:
            for which in (0, 1):
                parts[which].add(batch[(which - place) % 2 :: 2])
            place += len(batch)
        whole = Accumulator()
        for part in parts:
            whole.merge(part)
        self.whole = whole.moments()
        self._parts = parts

    def part(self, which: int) -> Moments:
        return self._parts[which].moments()

    def rows(self, which: int | None = None) -> Iterator[np.ndarray]:
        """Go through all rows, or through the even (0) or odd (1) ones, counted over all batches."""
        place = 0
        for batch in self.batches:
            yield batch if which is None else batch[(which - place) % 2 :: 2]
            place += len(batch)


def _half(halves: _Halves, others: _Halves | None, given: Moments, which: int) -> float:
    """Return the corrected value of one half of the data."""
    a, b = halves.part(which), given if others is None else others.part(which)
    value = frechet_distance(a, b) - _expand(a, b, halves.rows(which))[1]
    return value if others is None else value - _expand(b, a, others.rows(which))[1]


def _expand(here: Moments, there: Moments, rows: Iterator[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return each row's influence on the distance, and the bias that this side adds."""
    side = _side(here, there)
    influences, total = [], 0.0
    for batch in rows:
        influence, second = side.terms(batch)
        influences.append(influence)
        total += float(second.sum())
    return np.concatenate(influences), side.bias(total / here.n)


def _side(here: Moments, there: Moments) -> _Side:
    left = factor(there.cov)
    squares, vectors = eigh(left.T @ here.cov @ left, check_finite=False)
    real = squares > RANK_TOLERANCE * max(float(squares[-1]), np.finfo(float).tiny)
    roots = np.sqrt(np.where(real, squares, 0.0))
    rays = left @ vectors * np.where(real, 1 / np.sqrt(np.where(real, roots, 1.0)), 0.0)
    sums = roots[:, None] + roots
    weights = np.where(sums > 0, 1 / np.where(sums > 0, sums, 1.0), 0.0)
    return _Side(here=here, shift=2 * (here.mean - there.mean), rays=rays, roots=roots, weights=weights)
