"""Fits the eight ideal shapes to a soft mask: exact coverage at any size and place, from summed-area tables."""

from functools import cache

import numpy as np

from jfeval.benchmarks.shapes.render import shape_mask
from jfeval.benchmarks.shapes.scene import SHAPES

_GRID = 240
"""Cells across the high-resolution master of each shape."""
DECOY = len(SHAPES)
"""Index of a ninth outline, the left half of a ring: it is no object, but so like a crescent that it must be told from one."""
MOST_STRETCH = 1.12
"""Most that a shape may be wider or taller than it should be, as a ratio, and still be fitted."""


def _masters() -> np.ndarray:
    """Return the eight shapes and the decoy at high resolution, (9, 240, 240)."""
    masters = np.stack([shape_mask(shape, _GRID, 2) for shape in SHAPES]).astype(np.float64)
    half_ring = masters[SHAPES.index("ring")] * (np.arange(_GRID) < _GRID // 2)
    return np.concatenate([masters, half_ring[None]])


@cache
def _tables() -> np.ndarray:
    """Return the summed-area table of each shape over [-1, 1]^2, float64 (9, 241, 241)."""
    return np.pad(_masters().cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))


@cache
def _moments() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return area as a share of the cell (9,), centroid in [-1, 1]^2 (9, 2), and the ratio of the spreads in x and y (9,)."""
    axis = (np.arange(_GRID) + 0.5) * 2 / _GRID - 1
    rows = [_spread(master, axis, axis) for master in _masters()]
    area, centre, spread = (np.array(column) for column in zip(*rows, strict=True))
    return area / _GRID**2, centre, spread[:, 0] / spread[:, 1]


def _spread(mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the area, centroid and standard deviations (both x first) of a soft mask."""
    area = mask.sum()
    wx, wy = mask.sum(0) / area, mask.sum(1) / area
    centre = np.array([wx @ x, wy @ y])
    return float(area), centre, np.sqrt(np.array([wx @ (x - centre[0]) ** 2, wy @ (y - centre[1]) ** 2]))


def coverage(shape: np.ndarray, centre: np.ndarray, extent: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw shapes with exact pixel coverage.

    Args:
        shape: Index into `SHAPES`, or `DECOY`, (N,).
        centre: Centre of the shape's cell in pixels of the patch, x first, pixel i spanning [i, i + 1]; (N, 2).
        extent: Width and height of the shape's cell in pixels, (N, 2).
        size: Height and width of the patch.

    Returns:
        Float array (N, height, width) in [0, 1].
    """
    height, width = size
    columns = _steps(centre[:, 0], extent[:, 0], width)
    rows = _steps(centre[:, 1], extent[:, 1], height)
    low_x, low_y = np.minimum(columns.astype(int), _GRID - 1), np.minimum(rows.astype(int), _GRID - 1)
    part_x, part_y = (columns - low_x)[:, None, :], (rows - low_y)[:, :, None]
    table, which = _tables(), shape[:, None, None]
    y, x = low_y[:, :, None], low_x[:, None, :]
    upper = table[which, y, x] * (1 - part_x) + table[which, y, x + 1] * part_x
    lower = table[which, y + 1, x] * (1 - part_x) + table[which, y + 1, x + 1] * part_x
    corner = upper * (1 - part_y) + lower * part_y
    cells = np.diff(np.diff(corner, axis=1), axis=2)
    return cells * (extent.prod(1) / _GRID**2)[:, None, None]


def _steps(centre: np.ndarray, extent: np.ndarray, count: int) -> np.ndarray:
    """Return the pixel borders along one axis in table steps, clipped to the table; (N, count + 1)."""
    borders = np.arange(count + 1)[None] - centre[:, None]
    return np.clip((borders / extent[:, None] + 0.5) * _GRID, 0, _GRID)


def fit(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find where and how large each shape must be to have the mask's area, centroid and (within limits) proportions.

    Args:
        mask: Soft mask (height, width) in [0, 1] with some area.

    Returns:
        Centres (9, 2) and extents (9, 2) as `coverage` takes them.
    """
    height, width = mask.shape
    area, centre, spread = _spread(mask, np.arange(width) + 0.5, np.arange(height) + 0.5)
    shares, centroids, ratios = _moments()
    stretch = np.sqrt(np.clip(spread[0] / max(spread[1], 1e-6) / ratios, 1 / MOST_STRETCH, MOST_STRETCH))
    extent = np.sqrt(area / shares)[:, None] * np.stack([stretch, 1 / stretch], -1)
    return centre - centroids * extent / 2, extent


def soften(masks: np.ndarray) -> np.ndarray:
    """Blur masks (..., H, W) a little, as a decoder does to an edge: the kernel (1, 6, 1) / 8 along both axes."""
    for axis in (-1, -2):
        padded = np.moveaxis(masks, axis, -1)
        padded = np.concatenate([padded[..., :1], padded, padded[..., -1:]], -1)
        masks = np.moveaxis((padded[..., :-2] + 6 * padded[..., 1:-1] + padded[..., 2:]) / 8, -1, axis)
    return masks


def sharpen(masks: np.ndarray) -> np.ndarray:
    """Double the contrast about one half and clip, so that faint halos and soft edges weigh less; values stay in [0, 1]."""
    return np.clip(2 * masks - 0.5, 0, 1)


def agreement(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare a soft mask with the best fit of each shape.

    Args:
        mask: Sharpened soft mask (H, W) in [0, 1] with some area and an empty border.

    Returns:
        Soft intersection over union sum(min) / sum(max) with each of the eight shapes and the decoy, (9,) in [0, 1]; their extents
        (9, 2); and the largest mean error over any 3x3 pixels, (9,) in [0, 1]: small for soft or wavy edges, large where a piece is
        missing or added.
    """
    centre, extent = fit(mask)
    ideals = sharpen(soften(coverage(np.arange(len(centre)), centre, extent, mask.shape)))
    error = np.abs(mask - ideals)
    table = np.pad(error, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    worst = (table[:, 3:, 3:] - table[:, :-3, 3:] - table[:, 3:, :-3] + table[:, :-3, :-3]).max((1, 2)) / 9
    return np.minimum(mask, ideals).sum((1, 2)) / np.maximum(mask, ideals).sum((1, 2)), extent, worst
