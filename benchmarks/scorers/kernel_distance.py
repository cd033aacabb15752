"""Kernel distances: the squared maximum mean discrepancy of two sets of rows, without bias; with the cubic kernel it is KID.

Source: Binkowski et al., "Demystifying MMD GANs" (arXiv 1801.01401), section 3; kernel ``(x.y / width + 1)^3``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from jfeval.errors import UserError

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
"""Source: torch-fidelity 0.4.0, defaults kid_subsets, kid_subset_size, rng_seed."""

_BLOCK = 2048


class Chooser(Protocol):
    """A numpy generator of the old kind, which the published libraries draw with."""

    def choice(self, a: int, size: int, replace: bool) -> np.ndarray:
        """Draw numbers below ``a``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """How alike two rows are: symmetric and positive definite."""

    pairs: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Rows ``(N, D)`` and ``(M, D)`` to ``(N, M)``."""
    own: Callable[[np.ndarray], np.ndarray]
    """Rows ``(N, D)`` to each one's likeness with itself, ``(N,)``."""


CUBIC = Kernel(
    pairs=lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3,
    own=lambda x: ((x * x).sum(axis=1) / x.shape[1] + 1) ** 3,
)
"""Of the kernel Inception distance. Source: torch-fidelity 0.4.0, metric_kid.py, defaults kid_degree, kid_gamma, kid_coef0."""


@dataclass(frozen=True, kw_only=True)
class KernelEstimate:
    """An unbiased estimate over all images, with its standard error; it may be below zero."""

    value: float
    se: float
    n: int
    reference_n: int


def kid_of_subsets(
    a: np.ndarray, b: np.ndarray, *, subsets: int, size: int, rng: Chooser, first: Literal["a", "b"] = "a"
) -> tuple[float, float]:
    """Return mean and population standard deviation over random subsets, as libraries print them.

    The deviation is between overlapping subsets and no error bar; `kernel_distance` gives one.

    Args:
        a: Features ``(N, D)``.
        b: Features ``(M, D)``.
        subsets: How many.
        size: Rows of each set in a subset.
        rng: torch-fidelity: ``RandomState(2020)``, set a drawn first; clean-fid: numpy's global state, set b drawn first.
        first: Which set each subset draws first.

    Source: torch-fidelity 0.4.0, metric_kid.py, kid_features_to_metric; clean-fid 0.1.35, fid.py, kernel_distance.

    Raises:
        UserError: A set is smaller than a subset.
    """
    _check(a, b)
    if not 2 <= size <= min(len(a), len(b)):
        raise UserError(f"subsets of {size} images cannot be drawn from {len(a)} and {len(b)}; give a smaller subset size")
    x, y = a.astype(np.float64), b.astype(np.float64)
    values = []
    for _ in range(subsets):
        chosen = {}
        for name in (first, "b" if first == "a" else "a"):
            chosen[name] = rng.choice(len(x) if name == "a" else len(y), size, replace=False)
        values.append(_unbiased(x[chosen["a"]], y[chosen["b"]]))
    return float(np.mean(values)), float(np.std(values))


def kernel_distance(a: np.ndarray, b: np.ndarray, kernel: Kernel = CUBIC) -> KernelEstimate:
    """Estimate the squared discrepancy from all pairs, in blocks, with its standard error.

    With k~ the kernel less its means over either argument (Hoeffding's second-order part), so that two sets of one distribution, where the
    first-order terms h vanish, have an error too::

        h_a(x) = 2 (E k(x, a') - E k(x, b))
        SE^2   = var h_a / n + var h_b / m + 2 E k~_aa^2 / n^2 + 2 E k~_bb^2 / m^2 + 4 E k~_ab^2 / (n m)

    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 13 (2012), lemma 6; Hoeffding, Annals of Mathematical Statistics 19 (1948),
    section 5.
    """
    _check(a, b)
    x, y = a.astype(np.float64), b.astype(np.float64)
    n, m = len(x), len(y)
    xx, yy = (_row_sums(z, z, kernel) - kernel.own(z) for z in (x, y))
    xy, yx = _row_sums(x, y, kernel), _row_sums(y, x, kernel)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m)
    here, there = 2 * (xx / (n - 1) - xy / m), 2 * (yy / (m - 1) - yx / n)
    first = float(here.var(ddof=1)) / n + float(there.var(ddof=1)) / m
    own_x, own_y = xx / (n - 1), yy / (m - 1)
    second = 2 * _centred_square(x, x, own_x, own_x, kernel) / n**2 + 2 * _centred_square(y, y, own_y, own_y, kernel) / m**2
    second += 4 * _centred_square(x, y, xy / m, yx / n, kernel) / (n * m)
    return KernelEstimate(value=float(value), se=math.sqrt(first + second), n=n, reference_n=m)


def paired_kernel_distance(a: np.ndarray, b: np.ndarray, kernel: Kernel = CUBIC) -> KernelEstimate:
    """Estimate the same from rows that belong together, such as an image and its prompt's reference image.

    Pairs are left out of the comparison of the two sets, so that what they share makes no bias; identical sets are at 0 exactly. With
    h_ij = k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(a_j, b_i) and r_i its mean over j::

        value = mean of h_ij over i != j,    SE^2 = 4 (var r - s / n) / n + 2 s / n^2,    s = E (h_ij - r_i - r_j + value)^2

    var r holds s / n of noise, which is taken off, and never more than it has.

    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 13 (2012), equation 4 (the U-statistic over pairs); Hoeffding as above.

    Raises:
        UserError: The sets are of different size.
    """
    _check(a, b)
    if len(a) != len(b):
        raise UserError(f"pairs need as many rows on each side, got {len(a)} and {len(b)}")
    x, y = a.astype(np.float64), b.astype(np.float64)
    n, cross = len(x), kernel.pairs(x, y)
    h = kernel.pairs(x, x) + kernel.pairs(y, y) - cross - cross.T
    np.fill_diagonal(h, 0.0)
    rows = h.sum(axis=1) / (n - 1)
    value = float(rows.mean())
    rest = h - rows[:, None] - rows + value
    np.fill_diagonal(rest, 0.0)
    second = float((rest**2).sum()) / (n * (n - 1))
    variance = 4 * max(float(rows.var(ddof=1)) - second / n, 0.0) / n + 2 * second / n**2
    return KernelEstimate(value=value, se=math.sqrt(variance), n=n, reference_n=n)


def _unbiased(x: np.ndarray, y: np.ndarray) -> float:
    size = len(x)
    within = sum((CUBIC.pairs(z, z).sum() - CUBIC.own(z).sum()) for z in (x, y)) / (size * (size - 1))
    return float(within - 2 * CUBIC.pairs(x, y).mean())


def _row_sums(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Sum each row of the kernel matrix, a block at a time."""
    sums = np.zeros(len(x))
    for rows, columns in _blocks(len(x), len(y)):
        sums[rows] += kernel.pairs(x[rows], y[columns]).sum(axis=1)
    return sums


def _centred_square(x: np.ndarray, y: np.ndarray, over_y: np.ndarray, over_x: np.ndarray, kernel: Kernel) -> float:
    """Return the mean square of the kernel less its means; of pairs of different rows where both sets are one."""
    total, mean, same = 0.0, over_y.mean(), x is y
    for rows, columns in _blocks(len(x), len(y)):
        centred = kernel.pairs(x[rows], y[columns]) - over_y[rows, None] - over_x[columns] + mean
        if same and rows == columns:
            np.fill_diagonal(centred, 0.0)
        total += float((centred**2).sum())
    return total / (len(x) * (len(y) - same))


def _blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, rows, _BLOCK):
        for other in range(0, columns, _BLOCK):
            yield slice(start, start + _BLOCK), slice(other, other + _BLOCK)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise UserError(f"need two sets of at least 2 features of one width, got {a.shape} and {b.shape}")
