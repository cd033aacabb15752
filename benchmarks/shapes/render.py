"""Draws scenes: flat, anti-aliased shapes in ten colours on one neutral grey, and the ground truth boxes and masks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from jfeval.benchmarks.shapes.scene import CANVAS, SIZES, Color, Scene, Shape, Thing

BACKGROUND: tuple[int, int, int] = (150, 150, 150)

PALETTE: dict[Color, tuple[int, int, int]] = {
    "red": (216, 30, 36),
    "orange": (250, 130, 10),
    "yellow": (252, 226, 40),
    "green": (30, 150, 60),
    "blue": (20, 105, 230),
    "purple": (128, 30, 160),
    "pink": (255, 150, 205),
    "brown": (112, 62, 26),
    "black": (18, 18, 20),
    "white": (250, 250, 248),
}
"""Far from each other and from the background in CIELAB; the least distance is measured in the tests."""

_SUBSAMPLES = 8

Grid = np.ndarray
_Inside = Callable[[Grid, Grid], Grid]


def _polygon(corners: list[tuple[float, float]]) -> _Inside:
    """Return the even-odd test of a polygon, for arrays of points."""

    def inside(u: Grid, v: Grid) -> Grid:
        odd = np.zeros(u.shape, dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            crosses = (y0 > v) != (y1 > v)
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= crosses & (u < (x1 - x0) * (v - y0) / (y1 - y0) + x0)
        return odd

    return inside


def _star_corners(outer: float = 1.06, inner: float = 0.5, down: float = 0.08) -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, outer, inner)
    return [(float(r * np.cos(a)), float(r * np.sin(a)) + down) for r, a in zip(radii, angles, strict=True)]


def _heart(u: Grid, v: Grid) -> Grid:
    """Test the sextic heart curve (x^2 + y^2 - 1)^3 = x^2 y^3, scaled into the cell."""
    x, y = 1.14 * u, -1.12 * v + 0.12
    return (x**2 + y**2 - 1) ** 3 - x**2 * y**3 <= 0


_INSIDE: dict[Shape, _Inside] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.9,
    "triangle": _polygon([(0.0, -0.95), (1.0, 0.85), (-1.0, 0.85)]),
    "star": _polygon(_star_corners()),
    "heart": _heart,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.34) & (np.maximum(abs(u), abs(v)) <= 0.97),
    "ring": lambda u, v: (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.5**2),
    "crescent": lambda u, v: ((u - 0.12) ** 2 + v**2 <= 1) & ((u - 0.62) ** 2 + v**2 >= 0.78**2),
}
"""Each shape in its cell: u to the right and v downwards, both in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class TrueBox:
    """Where an object of a scene is: tight box of the pixels it covers at least half, x1 and y1 being the last pixel + 1."""

    x0: int
    y0: int
    x1: int
    y1: int


@cache
def shape_mask(shape: Shape, size: int, subsamples: int = _SUBSAMPLES) -> np.ndarray:
    """Return the coverage of each pixel of a shape's square cell.

    Args:
        shape: Which shape.
        size: Side of the cell in pixels.
        subsamples: Points along each side of a pixel that are tested.

    Returns:
        Read-only float32 array (size, size) in [0, 1].
    """
    steps = size * subsamples
    axis = (np.arange(steps) + 0.5) * 2 / steps - 1
    hit = _INSIDE[shape](axis[None, :].repeat(steps, 0), axis[:, None].repeat(steps, 1))
    mask = hit.reshape(size, subsamples, size, subsamples).mean((1, 3), dtype=np.float32)
    mask.setflags(write=False)
    return mask


@cache
def _patch(shape: Shape, size: int, color: Color) -> np.ndarray:
    """Return a shape in its cell on the background, uint8 (size, size, 3)."""
    alpha = shape_mask(shape, size)[..., None]
    mixed = alpha * np.asarray(PALETTE[color], np.float32) + (1 - alpha) * np.asarray(BACKGROUND, np.float32)
    return np.rint(mixed).astype(np.uint8)


def _cell(thing: Thing) -> tuple[slice, slice]:
    return slice(thing.y - thing.radius, thing.y + thing.radius + 1), slice(thing.x - thing.radius, thing.x + thing.radius + 1)


def blank(canvas: int = CANVAS) -> np.ndarray:
    """Return the empty background, uint8 (canvas, canvas, 3)."""
    return np.full((canvas, canvas, 3), BACKGROUND, np.uint8)


def render_array(scene: Scene) -> np.ndarray:
    """Draw a scene as uint8 (H, W, 3), H = W = 64 in the full world."""
    canvas = blank(scene.world.canvas)
    for thing in scene.things:
        canvas[_cell(thing)] = _patch(thing.shape, SIZES[thing.size], thing.color)
    return canvas


def render(scene: Scene) -> Image.Image:
    """Draw a scene as an RGB image."""
    return Image.fromarray(render_array(scene))


def render_png(scene: Scene) -> bytes:
    """Draw a scene as the bytes of a PNG file."""
    buffer = BytesIO()
    render(scene).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def true_masks(scene: Scene) -> np.ndarray:
    """Return which pixels each object covers at least half, bool (objects, H, W)."""
    side = scene.world.canvas
    masks = np.zeros((len(scene.things), side, side), dtype=bool)
    for mask, thing in zip(masks, scene.things, strict=True):
        mask[_cell(thing)] = shape_mask(thing.shape, SIZES[thing.size]) >= 0.5
    return masks


def true_boxes(scene: Scene) -> list[TrueBox]:
    """Return the tight box of each object, in the scene's order."""
    boxes = []
    for thing in scene.things:
        rows, columns = np.nonzero(shape_mask(thing.shape, SIZES[thing.size]) >= 0.5)
        left, top = thing.x - thing.radius, thing.y - thing.radius
        boxes.append(
            TrueBox(x0=left + int(columns.min()), y0=top + int(rows.min()), x1=left + int(columns.max()) + 1, y1=top + int(rows.max()) + 1)
        )
    return boxes


def contact_sheet(images: list[Image.Image], *, columns: int = 8, scale: int = 3) -> Image.Image:
    """Lay images out in a grid, enlarged without smoothing, for a person to look at."""
    rows = -(-len(images) // columns)
    side = max(image.width for image in images) * scale
    step = side + 4
    sheet = Image.new("RGB", (columns * step, rows * step), (255, 255, 255))
    for i, image in enumerate(images):
        big = image.resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(big, (i % columns * step + 2, i // columns * step + 2))
    return sheet
