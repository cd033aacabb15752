"""How far the places of objects in one set of scenes are from those in another: a kernel distance of maps of where something stands.

A scene becomes a map: a bump of one width at every object's centre, whatever the object is. Two maps are alike by a Gaussian kernel of
their distance, so that the distance of the sets sees how objects stand together, not only where objects are on average.

Source: kernels on sets of points through their mean embeddings: Muandet et al., "Learning from Distributions via Support Measure Machines"
(arXiv 1202.6504), section 3.2; the unbiased estimate and its error: `jfeval.benchmarks.scorers.kernel_distance`.
"""

import math
from collections.abc import Sequence

import numpy as np

from jfeval.benchmarks.scorers.kernel_distance import Kernel, KernelEstimate, paired_kernel_distance
from jfeval.errors import UserError

CANVAS = 64.0
BUMP = 8.0
"""Standard deviation of an object's bump and distance of the map's points, in pixels: half a small object."""

_AXIS = np.arange(0.0, CANVAS + BUMP, BUMP)
_GRID = np.stack(np.meshgrid(_AXIS, _AXIS, indexing="ij"), axis=-1).reshape(-1, 2)


def _gauss(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
    return np.exp(-np.clip(squares, 0, None) / 2)


GAUSS = Kernel(pairs=_gauss, own=lambda x: np.ones(len(x)))
"""Of maps: one object more, or one that stands elsewhere, is about one unit of distance."""


def layout_map(centres: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the map ``(81,)`` of a scene's object centres in pixels; one object away from the edges has length 1."""
    if not centres:
        return np.zeros(len(_GRID))
    offsets = _GRID[:, None] - np.asarray(centres, dtype=np.float64)
    return np.exp(-(offsets**2).sum(-1) / (2 * BUMP**2)).sum(1) / math.sqrt(math.pi)


def layout_distance(found: Sequence[Sequence[tuple[float, float]]], reference: Sequence[Sequence[tuple[float, float]]]) -> KernelEstimate:
    """Compare where objects stand in two sets of scenes, 0 where they stand alike; unbiased, so it may be below zero.

    Args:
        found: Each scene's object centres, pixels on a canvas of 64.
        reference: The same of its reference scene.

    Raises:
        UserError: Fewer than two scenes, or not one reference for each.
    """
    if len(found) < 2 or len(found) != len(reference):
        raise UserError(f"a distance of layouts needs at least 2 scenes with a reference each, got {len(found)} and {len(reference)}")
    ours, theirs = (np.stack([layout_map(centres) for centres in scenes]) for scenes in (found, reference))
    return paired_kernel_distance(ours, theirs, GAUSS)
