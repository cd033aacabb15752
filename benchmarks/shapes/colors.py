"""Names a colour from the palette, or refuses to: blends and off-palette colours have no name."""

import numpy as np

from jfeval.benchmarks.shapes.render import BACKGROUND, PALETTE
from jfeval.benchmarks.shapes.scene import COLORS

REACH = 24.0
"""Largest CIELAB distance from a palette colour that still bears its name; the palette's own colours are at least 41 apart."""
LEAD = 0.7
"""The nearest colour must be at most this share as far as the second nearest; a blend of two in equal parts has 1."""

_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB to CIELAB under D65.

    Args:
        rgb: Array (..., 3) in [0, 255].

    Returns:
        Float array (..., 3): L in [0, 100], a, b.

    Source: IEC 61966-2-1 (transfer curve and primaries), CIE 15:2004 (Lab).
    """
    values = np.asarray(rgb, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


PALETTE_LAB = to_lab(np.array([*(PALETTE[color] for color in COLORS), BACKGROUND]))
"""The ten colours in order, then the background; (11, 3)."""


def name_colors(rgb: np.ndarray) -> np.ndarray:
    """Name each colour.

    Args:
        rgb: Array (N, 3) in [0, 255].

    Returns:
        Int array (N,): index into `COLORS`, or -1 where the colour is none of the ten (the background, a blend, another hue).
    """
    distance = np.linalg.norm(to_lab(rgb)[:, None] - PALETTE_LAB, axis=-1)
    order = np.argsort(distance, axis=1)[:, :2]
    near, second = np.take_along_axis(distance, order, axis=1).T
    named = (near <= REACH) & (near <= LEAD * second) & (order[:, 0] < len(COLORS))
    return np.where(named, order[:, 0], -1)
