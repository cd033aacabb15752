"""The oracle detector of the synthetic world: finds and names well-formed objects from pixels alone.

An object is one connected region that is clearly not background, of one palette colour, whose outline is one of the eight shapes.
Anything else (half a shape, two shapes grown together, a blend of colours, a blob) is not reported, so that it counts as nothing.

The score of a detection is the agreement of its outline with the ideal shape, scaled so that GenEval's two thresholds mean
something here: above 0.9 (counting rows) lies a well-formed object, from 0.3 (all other rows) one that is damaged but plain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from jfeval.benchmarks.shapes.colors import name_colors
from jfeval.benchmarks.shapes.matching import DECOY, agreement, sharpen
from jfeval.benchmarks.shapes.render import BACKGROUND
from jfeval.benchmarks.shapes.scene import CANVAS, COLORS, SHAPES, Color, Kind, Shape
from jfeval.errors import BadRequest
from jfeval.schema import JsonObject, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1

CONTRAST = 48.0
"""RGB distance from the background at which a pixel belongs to something; the palette's faintest colour, pink, is 118 away."""
OFF_LINE = 60.0
"""RGB distance from the line between background and the object's colour at which a pixel is something else."""
MIN_PIXELS = 40
"""Regions with fewer pixels are stray marks; the smallest true object, a small crescent, covers 86 at least half."""
CORE_SHARE = 0.12
"""Least share of a region's inner pixels that a colour must hold for a part in that colour to be looked for."""
LEAST_SCORE = 0.3
"""Detections below are not reported. Source: djghosh13/geneval @ af4902f, evaluation/evaluate_images.py, option threshold."""
PURITY = 0.7
"""Least share of an object's inner pixels that must bear its colour's name."""
DIAMETERS = (11.0, 33.0)
"""Sizes of cell that count as an object; true ones have 17, 21 or 25 pixels."""
LEAD = 0.02
"""Least agreement by which the best shape must beat the second."""
AGREEMENT: dict[Shape, tuple[float, float]] = {
    "circle": (0.89, 0.91),
    "square": (0.87, 0.89),
    "triangle": (0.79, 0.84),
    "star": (0.76, 0.81),
    "heart": (0.875, 0.90),
    "cross": (0.78, 0.83),
    "ring": (0.75, 0.81),
    "crescent": (0.75, 0.81),
}
"""Agreement that scores 0.3 and 0.9: above the nearest other shape and what half shapes reach; see docs/shapes.md."""
LOCAL_ERROR = (0.7, 0.55)
"""Worst error over 3x3 pixels that scores 0.3 and 0.9: a piece of that size is missing or added."""

_EIGHT = np.ones((3, 3), dtype=bool)
_BORDER = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """One well-formed object."""

    shape: Shape
    color: Color
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels; x1 and y1 are the last pixel + 1. Tight around what is covered at least half."""
    score: float
    mask: np.ndarray
    """Pixels covered at least half, bool (H, W)."""

    @property
    def kind(self) -> Kind:
        """What it is: colour and shape."""
        return self.color, self.shape


class OracleDetector:
    """Judge of generated images of a synthetic world, in the place of GenEval's Mask2Former and CLIP."""

    name = "oracle"

    def __init__(self, canvas: int = CANVAS) -> None:
        """Look at pictures of so many pixels a side; objects are of the same sizes in every world."""
        self.image_size = canvas

    def identity(self) -> JsonObject:
        """Return what can change an observation."""
        seen: JsonObject = {"judge": self.name, "version": VERSION, "classes": list(SHAPES), "colors": list(COLORS)}
        return seen if self.image_size == CANVAS else {**seen, "canvas": self.image_size}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:  # noqa: ARG002 - sees pixels only
        """Report the objects of each image: boxes with scores and colours, by class, best first."""
        return tuple(observation(image, self.image_size) for image in images)


def observation(image: "Image", canvas: int = CANVAS) -> JsonObject:
    """Look at one image.

    Args:
        image: Square image.
        canvas: Its side.

    Returns:
        ``{"width", "height", "detections": {class: [[x0, y0, x1, y1, score], ...]}, "colors": {class: [colour, ...]}}``

    Raises:
        BadRequest: The image is of another size.
    """
    found = detect(image, canvas)
    detections: dict[str, list] = {}
    colors: dict[str, list] = {}
    for one in found:
        detections.setdefault(one.shape, []).append([*one.box, round(one.score, 4)])
        colors.setdefault(one.shape, []).append(one.color)
    return {"width": image.width, "height": image.height, "detections": detections, "colors": colors}  # pyright: ignore[reportReturnType]


def detect(image: "Image", canvas: int = CANVAS) -> list[Detection]:
    """Find the well-formed objects of an image of `canvas` pixels a side, best score first.

    Raises:
        BadRequest: The image is of another size.
    """
    if image.size != (canvas, canvas):
        width, height = image.size
        raise BadRequest(
            f"the oracle detector reads images of {canvas}x{canvas} pixels, not {width}x{height}; "
            "resize them, or use the official edition for photographs"
        )
    rgb = np.asarray(image.convert("RGB"), np.float64)
    labels, count = _regions(np.linalg.norm(rgb - BACKGROUND, axis=-1) > CONTRAST, _EIGHT)
    found: list[Detection] = []
    for number, place in enumerate(ndimage.find_objects(labels, count), start=1):
        rows, columns = (slice(max(s.start - _BORDER, 0), s.stop + _BORDER) for s in place)
        inside = labels[rows, columns] == number
        if inside.sum() < MIN_PIXELS:
            continue
        other = (labels[rows, columns] != 0) & ~inside
        found.extend(_objects(rgb[rows, columns], inside, other, (columns.start, rows.start), canvas))
    return sorted(found, key=lambda one: -one.score)


def _objects(rgb: np.ndarray, inside: np.ndarray, other: np.ndarray, corner: tuple[int, int], canvas: int) -> list[Detection]:
    """Name the objects of one connected region: usually one; several where clean objects of different colours touch.

    Args:
        rgb: The region with a border, (H, W, 3).
        inside: Pixels of the region, (H, W).
        other: Pixels of other regions, (H, W).
        corner: x and y of the patch in the image.
        canvas: Side of the image.
    """
    eroded = _eroded(inside)
    core = eroded if eroded.any() else inside
    names = np.full(inside.shape, -1)
    names[core] = name_colors(rgb[core])
    counts = np.bincount(names[core] + 1, minlength=len(COLORS) + 1)[1:]
    colors = [int(i) for i in np.flatnonzero(counts > CORE_SHARE * core.sum())]
    means = np.array([np.median(rgb[names == i], axis=0) for i in colors])
    found = []
    for i, alpha in zip(colors, _layers(rgb, means), strict=True):
        part = np.where(other, 0, alpha)
        if len(colors) > 1:
            part = _largest(part)
        solid = core & (part >= 0.5)
        if solid.sum() and (names[solid] == i).mean() >= PURITY:
            one = _object(part, COLORS[i], corner, canvas)
            if one is not None:
                found.append(one)
    return found


def _eroded(mask: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_erosion(mask, _EIGHT), dtype=bool)


def _layers(rgb: np.ndarray, colors: np.ndarray) -> list[np.ndarray]:
    """Split a patch into one soft mask per colour: how far each pixel lies from background to colour, 0 where another colour fits better.

    Args:
        rgb: Patch (H, W, 3).
        colors: The colours present, (K, 3).

    Returns:
        K masks (H, W) in [0, 1].
    """
    away = rgb - BACKGROUND
    alphas, residuals = [], []
    for color in colors:
        line = color - BACKGROUND
        alpha = away @ line / (line @ line)
        alphas.append(np.clip(alpha, 0, 1))
        residuals.append(np.linalg.norm(away - np.clip(alpha, 0, 1.2)[..., None] * line, axis=-1))
    if not alphas:
        return []
    best = np.argmin(residuals, axis=0)
    return [np.where((best == k) & (residuals[k] < OFF_LINE), alpha, 0) for k, alpha in enumerate(alphas)]


def _regions(marked: np.ndarray, structure: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Number the connected regions of a mask from 1; the structure says which neighbours connect (None: the four nearest)."""
    labels = np.zeros(marked.shape, dtype=np.int32)
    count = ndimage.label(marked, structure, output=labels)
    return labels, int(count)  # pyright: ignore[reportArgumentType]


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected part of a soft mask with its soft edge."""
    labels, count = _regions(mask >= 0.5, None)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    keep = ndimage.binary_dilation(labels == 1 + int(sizes.argmax()), _EIGHT)
    return np.where(keep, mask, 0)


def _object(alpha: np.ndarray, color: Color, corner: tuple[int, int], canvas: int) -> Detection | None:
    """Name the shape of a soft mask; None where it is none, or not well-formed."""
    mask = sharpen(alpha)
    rows, columns = np.nonzero(alpha >= 0.5)
    if len(rows) < MIN_PIXELS:
        return None
    values, extents, worst = agreement(mask)
    second, best = (int(i) for i in np.argsort(values)[-2:])
    if best == DECOY:
        return None
    score = min(_ramp(values[best], *AGREEMENT[SHAPES[best]], 1.0), _ramp(worst[best], *LOCAL_ERROR, 0.0))
    diameter = float(np.sqrt(extents[best].prod()))
    if score < LEAST_SCORE or values[best] - values[second] < LEAD or not DIAMETERS[0] <= diameter <= DIAMETERS[1]:
        return None
    x, y = corner
    full = np.zeros((canvas, canvas), dtype=bool)
    full[rows + y, columns + x] = True
    box = (float(columns.min() + x), float(rows.min() + y), float(columns.max() + 1 + x), float(rows.max() + 1 + y))
    return Detection(shape=SHAPES[best], color=color, box=box, score=score, mask=full)


def _ramp(value: float, low: float, high: float, ideal: float) -> float:
    """Map a quality to a score: 0.3 at low, 0.9 at high, 1 at the ideal, straight lines between; 0 beyond low."""
    return float(np.interp((value - low) / (ideal - low), [0, (high - low) / (ideal - low), 1], [LEAST_SCORE, 0.9, 1.0], left=0.0))
