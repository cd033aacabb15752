"""Measures the oracle's error rate on damaged renders; run as a module, it prints the table of docs/shapes.md.

The damage is of the kinds a generative model does: soft edges, a decoder's low resolution, grain, ringing (JPEG), shifted colours and
wavy outlines. An object is right when class and colour are right, the score passes 0.3, and the box is within 2 pixels.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage

from jfeval.benchmarks.shapes.oracle import Detection, detect
from jfeval.benchmarks.shapes.render import TrueBox, render_array, true_boxes
from jfeval.benchmarks.shapes.scene import CANVAS, Scene, sample_scene, scene_rng

Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From an image uint8 (64, 64, 3) to pixels, not yet rounded or clipped."""

_BOX_LIMIT = 2.0


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """How the oracle read a set of images; shares of true objects."""

    objects: int
    right: float
    """Class and colour right, found at all, box within 2 pixels."""
    counting: float
    """The same with a score above 0.9, as counting rows ask."""
    box: float
    """The same as `right`, with the box within 1 pixel."""
    extra: float
    """Detections that are none of the true objects, as a share of true objects."""


def blur(sigma: float) -> Damage:
    """Soften edges by a Gaussian of this many pixels."""
    return lambda image, _rng: ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0))


def grain(level: float) -> Damage:
    """Add Gaussian noise of this standard deviation, in levels of 255, to every value."""
    return lambda image, rng: image + rng.normal(0, level, image.shape)


def tint(level: float) -> Damage:
    """Shift each channel of the whole image by up to this many levels."""
    return lambda image, rng: image + rng.uniform(-level, level, 3)


def jpeg(quality: int) -> Damage:
    """Compress and decode, with the colour channels at half resolution as is usual."""

    def damage(image: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
        return np.asarray(Image.open(buffer), np.float64)

    return damage


def half_resolution(image: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Go down to 32x32 and back up, bicubic, which also rings."""
    small = Image.fromarray(image).resize((CANVAS // 2, CANVAS // 2), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), np.float64)


def wavy(amplitude: float) -> Damage:
    """Displace pixels by a smooth random field of this standard deviation in pixels, then soften a little."""

    def damage(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        field = ndimage.gaussian_filter(rng.normal(size=(2, CANVAS, CANVAS)), (0, 4, 4))
        places = np.mgrid[:CANVAS, :CANVAS] + amplitude * field / field.std()
        moved = [ndimage.map_coordinates(image[..., k].astype(np.float64), places, order=1, mode="nearest") for k in range(3)]
        return ndimage.gaussian_filter(np.stack(moved, -1), (0.5, 0.5, 0))

    return damage


def together(*damages: Damage) -> Damage:
    """Do several damages one after the other."""

    def damage(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for one in damages:
            image = _pixels(one(image, rng))
        return image

    return damage


DAMAGES: dict[str, Damage] = {
    "none (clean render)": lambda image, _rng: image,
    "blur, sigma 0.5": blur(0.5),
    "blur, sigma 0.7": blur(0.7),
    "blur, sigma 1.0": blur(1.0),
    "blur, sigma 1.3": blur(1.3),
    "half resolution": half_resolution,
    "noise, sd 8": grain(8),
    "noise, sd 16": grain(16),
    "JPEG, quality 90": jpeg(90),
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 50": jpeg(50),
    "colours off by up to 15": tint(15),
    "wavy outlines, sd 0.5 px": wavy(0.5),
    "wavy outlines, sd 0.8 px": wavy(0.8),
    "blur 0.7, noise 6, colours 10": together(blur(0.7), grain(6), tint(10)),
}


def measure(scenes: Sequence[Scene], damage: Damage, *, seed: int = 0) -> ErrorRates:
    """Damage the render of each scene and compare what the oracle sees with the truth."""
    rng = scene_rng(seed, "damage", 0)
    objects = right = counting = box = extra = 0
    for scene in scenes:
        found = detect(Image.fromarray(_pixels(damage(render_array(scene), rng))))
        for thing, truth in zip(scene.things, true_boxes(scene), strict=True):
            objects += 1
            match = next((one for one in found if one.kind == thing.kind and _off(one, truth) <= _BOX_LIMIT), None)
            if match is not None:
                found.remove(match)
                right += 1
                counting += match.score > 0.9
                box += _off(match, truth) <= 1
        extra += len(found)
    return ErrorRates(objects=objects, right=right / objects, counting=counting / objects, box=box / objects, extra=extra / objects)


def table(scenes: Sequence[Scene]) -> str:
    """Measure every damage and lay the rates out as a Markdown table."""
    lines = ["| damage | objects right | score > 0.9 | box within 1 px | extra |", "|---|---:|---:|---:|---:|"]
    for name, damage in DAMAGES.items():
        rates = measure(scenes, damage)
        lines.append(f"| {name} | {rates.right:.2%} | {rates.counting:.2%} | {rates.box:.2%} | {rates.extra:.2%} |")
    return "\n".join(lines)


def _off(found: Detection, truth: TrueBox) -> float:
    """Return the largest difference of a side of the box, in pixels."""
    return max(abs(a - b) for a, b in zip(found.box, (truth.x0, truth.y0, truth.x1, truth.y1), strict=True))


def _pixels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.stdout.write(table([sample_scene(scene_rng(1, "robustness", i), "test") for i in range(1000)]) + "\n")
