"""The Frechet distance between two sets of features, through their means and covariances.

Features stream through `Accumulator`, so that memory is a few matrices of width x width whatever the number of images. The matrix square
root is taken by symmetric eigenvalues in float64, which rank-deficient covariances do not upset.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (arXiv 1706.08500), equation 6; Dowson and Landau, J. Multivariate
Analysis 12 (1982).
Differs: torch-fidelity 0.4.0 takes general eigenvalues of the product, clean-fid 0.1.35 and pytorch-fid 0.3.0 a general matrix square root,
the first two of float32 means where features are float32. Recorded results of all three are within 1e-6 of this one, relatively.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, eigvalsh

from jfeval.errors import UserError

RANK_TOLERANCE = 1e-12
"""Eigenvalues under this share of the largest are rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Mean and covariance of a set of features."""

    n: int
    mean: np.ndarray
    """``(D,)`` float64."""
    cov: np.ndarray
    """``(D, D)`` float64, divided by n - 1."""

    @property
    def width(self) -> int:
        """Number of features of one image."""
        return len(self.mean)


class Accumulator:
    """Adds up batches of features in one pass, without the loss of digits of a sum of squares.

    Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", Stanford STAN-CS-79-773.
    """

    def __init__(self) -> None:
        self.n = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def add(self, features: np.ndarray) -> None:
        """Add a batch ``(B, D)`` of any float type.

        Raises:
            UserError: It has another width than earlier ones, or a value is not finite.
        """
        batch = np.asarray(features, dtype=np.float64)
        if batch.ndim != 2:
            raise UserError(f"features come as (images, width), not as {batch.shape}")
        if not np.isfinite(batch).all():
            raise UserError(
                f"features of {int((~np.isfinite(batch)).any(axis=1).sum())} images are not finite; check the network's weights"
            )
        if len(batch):
            mean = batch.mean(axis=0)
            centred = batch - mean
            self._join(len(batch), mean, centred.T @ centred)

    def merge(self, other: "Accumulator") -> None:
        """Add everything that another one holds, for example another worker's."""
        if other.n:
            self._join(other.n, other._mean, other._scatter)

    def _join(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if not self.n:
            self.n, self._mean, self._scatter = n, mean.copy(), scatter.copy()
            return
        if mean.shape != self._mean.shape:
            raise UserError(f"features of width {len(mean)} cannot join features of width {len(self._mean)}: they are of another network")
        apart = mean - self._mean
        total = self.n + n
        self._scatter += scatter + np.outer(apart, apart) * (self.n * n / total)
        self._mean += apart * (n / total)
        self.n = total

    def moments(self) -> Moments:
        """Return what was added up.

        Raises:
            UserError: Fewer than two images: they have no covariance.
        """
        if self.n < 2:
            raise UserError(f"a covariance needs at least 2 images, got {self.n}")
        return Moments(n=self.n, mean=self._mean.copy(), cov=self._scatter / (self.n - 1))


def moments_of(batches: Iterable[np.ndarray]) -> Moments:
    """Add up batches of features ``(B, D)``."""
    accumulator = Accumulator()
    for batch in batches:
        accumulator.add(batch)
    return accumulator.moments()


def frechet_distance(a: Moments, b: Moments) -> float:
    """Return the squared Frechet distance of two Gaussians with these moments; symmetric in them.

    ::

        |m_a - m_b|^2 + tr S_a + tr S_b - 2 tr (L' S_a L)^(1/2),    S_b = L L'

    Rounding may leave a value a little below zero where both are the same.

    Raises:
        UserError: The two are of different width.
    """
    check_widths(a, b)
    left = factor(b.cov)
    values = eigvalsh(left.T @ a.cov @ left, check_finite=False)
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.cov) + np.trace(b.cov) - 2 * np.sqrt(np.clip(values, 0, None)).sum())


def factor(cov: np.ndarray) -> np.ndarray:
    """Return some L with ``L L' = cov``: Cholesky's where the matrix is positive definite, otherwise from its eigenvectors."""
    try:
        return np.asarray(cholesky(cov, lower=True, check_finite=False))
    except LinAlgError:
        values, vectors = eigh(cov, check_finite=False)
        return vectors * np.sqrt(np.clip(values, 0, None))


def check_widths(a: Moments, b: Moments) -> None:
    """Refuse moments of different networks."""
    if a.width != b.width:
        raise UserError(f"statistics of width {a.width} and {b.width} are of different networks or recipes; make both with the same one")
