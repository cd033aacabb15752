"""How far the objects in one set of scenes are from those in another: total variation of counts, colours and shapes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from jfeval.errors import UserError
from jfeval.stats import CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A total variation distance in [0, 1] with its standard error by the influence function."""

    value: float
    se: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval, cut to [0, 1]."""
        half = float(ndtri(1 - (1 - CONFIDENCE) / 2)) * self.se
        return max(0.0, self.value - half), min(1.0, self.value + half)


def total_variation(found: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]]) -> Variation:
    """Compare two pooled distributions over names.

    ::

        TV = sum_k |p_k - q_k| / 2,    p_k = sum_i c_ik / sum_i c_i

    The reference counts as given. Where p_k and q_k are near each other the absolute value adds a bias of order 1 / sqrt(n) that the
    interval does not hold; sets drawn from one distribution do not reach 0.

    Args:
        found: Each image's counts by name; an image may have none.
        reference: The same of the reference images.

    Raises:
        UserError: Nothing at all was counted on the reference's side.
    """
    names = sorted({name for row in (*found, *reference) for name in row})
    counts, wanted = (np.array([[row.get(name, 0.0) for name in names] for row in rows], dtype=float) for rows in (found, reference))
    if not len(found) or not wanted.sum():
        raise UserError("a total variation needs images, and something counted in the reference")
    if not counts.sum():
        return Variation(value=1.0, se=0.0, n=len(found))
    p, q = counts.sum(0) / counts.sum(), wanted.sum(0) / wanted.sum()
    influence = (counts - counts.sum(1, keepdims=True) * p) @ np.sign(p - q) / (2 * counts.sum() / len(found))
    se = float(influence.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Variation(value=float(np.abs(p - q).sum() / 2), se=se, n=len(found))
