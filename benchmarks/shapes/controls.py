"""Pictures whose score is known beforehand: they show that the oracle and the rules measure what they say.

True renders must score nearly 1; renders of other prompts, noise, and scenes whose every object is malformed must score nearly 0,
but for what is right by chance (another prompt's picture may well hold the one circle that was asked).
"""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from jfeval.benchmarks.shapes.render import PALETTE, blank, render, shape_mask
from jfeval.benchmarks.shapes.rows import Row
from jfeval.benchmarks.shapes.scene import CANVAS, COLORS, SHAPES, SIZES, Color, Shape, Thing, pick, scene_rng

Control: TypeAlias = Literal["true", "shuffled", "noise", "half", "blended", "merged"]
CONTROLS: tuple[Control, ...] = get_args(Control)
MALFORMED: tuple[Control, ...] = ("half", "blended", "merged")

Cut: TypeAlias = Literal["left", "right", "top", "bottom"]
_ALL_CUTS: tuple[Cut, ...] = get_args(Cut)
_FEWER_CUTS: dict[Shape, tuple[Cut, ...]] = {"triangle": ("left", "right", "bottom"), "crescent": ("top", "bottom")}
_CUTS: dict[Shape, tuple[Cut, ...]] = {shape: _FEWER_CUTS.get(shape, _ALL_CUTS) for shape in SHAPES}
"""Halves that can be kept: not the top of a triangle, which is a triangle, nor the back of a crescent, which is a shorter crescent."""


def control_images(rows: Sequence[Row], control: Control, *, seed: int = 0) -> list[Image.Image]:
    """Draw one picture for each row.

    Args:
        rows: The prompts with their scenes.
        control: ``true``: the row's scene. ``shuffled``: the scene of another row, whose prompt differs. ``noise``: uniform noise.
            ``half``: each object cut in two and one half kept. ``blended``: each object's colour runs into another's.
            ``merged``: each object grown together with another shape of its colour.
        seed: Draws what is left to chance.
    """
    rng = scene_rng(seed, f"control/{control}", 0)
    if control == "true":
        return [render(row.scene) for row in rows]
    if control == "shuffled":
        shift = int(rng.integers(1, len(rows))) if len(rows) > 1 else 0
        return [render(row.scene) for row in [*rows[shift:], *rows[:shift]]]
    if control == "noise":
        sides = [row.scene.world.canvas for row in rows]
        return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for side in sides]
    return [malformed(row.scene.things, control, rng) for row in rows]


def control_scores(rows: Sequence[Row], correct: Callable[[Row, Image.Image], bool], *, seed: int = 0) -> dict[Control, dict[str, float]]:
    """Score every control.

    Args:
        rows: The prompts with their scenes.
        correct: Judges one picture for one row, by the detector and rules that runs use.
        seed: Draws what the controls leave to chance.

    Returns:
        For each control the share of correct pictures by task, and ``overall``, the mean of the tasks.
    """
    table: dict[Control, dict[str, float]] = {}
    for control in CONTROLS:
        verdicts: dict[str, list[bool]] = {}
        for row, image in zip(rows, control_images(rows, control, seed=seed), strict=True):
            verdicts.setdefault(str(row.metadata["tag"]), []).append(correct(row, image))
        tasks = {task: fmean(values) for task, values in verdicts.items()}
        table[control] = {**tasks, "overall": fmean(tasks.values())}
    return table


def malformed(things: Sequence[Thing], control: Control, rng: np.random.Generator) -> Image.Image:
    """Draw objects none of which is well-formed, each where the true one would be."""
    canvas = blank().astype(np.float64)
    for thing in things:
        alpha = place(shape_mask(thing.shape, SIZES[thing.size]), thing.x, thing.y)
        paint = np.broadcast_to(np.asarray(PALETTE[thing.color], np.float64), canvas.shape)
        if control == "half":
            alpha = alpha * _half(pick(rng, _CUTS[thing.shape]), thing.x, thing.y)
        elif control == "blended":
            paint = _run_into(thing, rng)
        else:
            alpha = np.maximum(alpha, _outgrowth(thing, rng))
        canvas += alpha[..., None] * (paint - canvas)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))


def place(mask: np.ndarray, x: int, y: int) -> np.ndarray:
    """Put a square mask of odd side on the empty canvas, centred on a pixel; what lies outside is lost. Float array (64, 64)."""
    radius = mask.shape[0] // 2
    wide = np.zeros((CANVAS + 2 * radius, CANVAS + 2 * radius))
    wide[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return wide[radius : radius + CANVAS, radius : radius + CANVAS]


def _half(keep: Cut, x: int, y: int) -> np.ndarray:
    """Return 1 on the side of the centre that is kept, (64, 64)."""
    rows, columns = np.mgrid[:CANVAS, :CANVAS]
    return {"left": columns <= x, "right": columns >= x, "top": rows <= y, "bottom": rows >= y}[keep].astype(np.float64)


def _run_into(thing: Thing, rng: np.random.Generator) -> np.ndarray:
    """Return paint that is the object's colour on the left, another on the right, and runs over in the middle third, (64, 64, 3)."""
    others: list[Color] = [color for color in COLORS if color != thing.color]
    other = pick(rng, others)
    mass = shape_mask(thing.shape, SIZES[thing.size]).sum(0)
    middle = thing.x - thing.radius + mass @ np.arange(len(mass)) / mass.sum()
    part = np.clip(3 * (np.arange(CANVAS) - middle) / SIZES[thing.size] + 0.5, 0, 1)[None, :, None]
    paint = (1 - part) * np.asarray(PALETTE[thing.color], np.float64) + part * np.asarray(PALETTE[other], np.float64)
    return np.broadcast_to(paint, (CANVAS, CANVAS, 3))


def _outgrowth(thing: Thing, rng: np.random.Generator) -> np.ndarray:
    """Return the mask of another shape half a diameter away, towards the middle of the canvas, (64, 64)."""
    shape = pick(rng, [shape for shape in SHAPES if shape != thing.shape])
    step = round(SIZES[thing.size] * 0.5)
    towards = [(step if thing.x < CANVAS // 2 else -step, 0), (0, step if thing.y < CANVAS // 2 else -step)]
    dx, dy = pick(rng, towards)
    return place(shape_mask(shape, SIZES[thing.size]), thing.x + dx, thing.y + dy)
