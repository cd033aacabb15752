"""GenEval's rows in the synthetic world: metadata in the official form, each row backed by a test scene that fulfils it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jfeval.benchmarks.shapes.language import CLEAR_RELATION, counted, with_article
from jfeval.benchmarks.shapes.scene import (
    RELATIONS,
    Color,
    Kind,
    Scene,
    Shape,
    Split,
    arrange,
    bucket,
    pick,
    relation_holds,
    scene_rng,
)
from jfeval.benchmarks.shapes.world import FULL, World
from jfeval.errors import UserError
from jfeval.schema import JsonObject

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
"""The official order. Source: djghosh13/geneval @ af4902f, prompts/evaluation_metadata.jsonl."""
HELD_OUT_TASKS = ("colors", "color_attr")


def most_per_task(world: World) -> int:
    """Return how many different prompts every task has: as many as there are classes and wordings, for one object without a colour."""
    return len(world.shapes) * len(world.wording.prefixes)


_Draft = tuple[JsonObject, Scene]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt."""

    metadata: JsonObject
    """tag, include, perhaps exclude, prompt: the official keys in the official order."""
    scene: Scene
    """A scene of the test bucket (of the held-out one, for held-out rows) that a perfect model might draw."""


def geneval_rows(seed: int, per_task: int | None = None, world: World = FULL) -> list[Row]:
    """Draw the prompts of one seed, all different, in the official order of tasks.

    Args:
        seed: Draws kinds, wordings and scenes.
        per_task: Rows of each of the six tasks, 1 to `most_per_task`, which is the default.
        world: Whose objects are asked for.

    Raises:
        UserError: `per_task` is out of range.
    """
    return [row for task in TASKS for row in _rows(seed, task, per_task, _Place(world, "test"))]


def heldout_rows(seed: int, per_task: int | None = None, world: World = FULL) -> list[Row]:
    """Draw prompts about the colour-shape pairs that training never shows: tasks colors and color_attr.

    Args:
        seed: Draws kinds, wordings and scenes.
        per_task: Rows of each task, 1 to `most_per_task`, which is the default.
        world: Whose objects are asked for.

    Raises:
        UserError: `per_task` is out of range.
    """
    return [row for task in HELD_OUT_TASKS for row in _rows(seed, task, per_task, _Place(world, "heldout"))]


@dataclass(frozen=True)
class _Place:
    """Where a prompt's scene is drawn from."""

    world: World
    split: Split

    @property
    def pairs(self) -> tuple[Kind, ...]:
        """List the colour-shape pairs that are asked for."""
        return tuple(sorted(self.world.held_out)) if self.split == "heldout" else self.world.seen

    def color(self, rng: np.random.Generator, shape: Shape) -> Color:
        """Draw a colour for a shape."""
        return pick(rng, [color for color, other in self.pairs if other == shape])


def _rows(seed: int, task: str, per_task: int | None, place: _Place) -> list[Row]:
    """Draw rows of one task until enough have different prompts; the plain official wording comes first where it suffices."""
    most, prefixes = most_per_task(place.world), place.world.wording.prefixes
    per_task = most if per_task is None else per_task
    if not 1 <= per_task <= most:
        raise UserError(f"per_task={per_task}: a task has 1 to {most} different prompts")
    rng = scene_rng(seed, f"geneval/{place.split}/{task}", 0)
    rows: dict[str, Row] = {}
    misses = 0
    while len(rows) < per_task:
        prefix = prefixes[0] if misses < _PATIENCE else prefixes[(misses - _PATIENCE) % len(prefixes)]
        metadata, scene = _MAKERS[task](rng, prefix, place)
        prompt = str(metadata["prompt"])
        if prompt in rows:
            misses += 1
        else:
            rows[prompt] = Row(metadata=metadata, scene=scene)
    return list(rows.values())


_PATIENCE = 200
"""Repeated prompts in the official wording before other wordings are drawn too."""


def _single_object(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    shape = pick(rng, place.world.shapes)
    scene = _scene(rng, lambda: [(place.color(rng, shape), shape)], place)
    return {"tag": "single_object", "include": [_item(shape)], "prompt": prefix + with_article(shape)}, scene


def _two_object(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    first, second = _two_shapes(rng, place.world)
    scene = _scene(rng, lambda: [(place.color(rng, first), first), (place.color(rng, second), second)], place)
    prompt = f"{prefix}{with_article(first)} and {with_article(second)}"
    return {"tag": "two_object", "include": [_item(first), _item(second)], "prompt": prompt}, scene


def _counting(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    shape, count = pick(rng, place.world.shapes), pick(rng, place.world.asked_counts)
    scene = _scene(rng, lambda: [(place.color(rng, shape), shape)] * count, place)
    metadata: JsonObject = {
        "tag": "counting",
        "include": [{"class": shape, "count": count}],
        "exclude": [{"class": shape, "count": count + 1}],
        "prompt": prefix + counted(shape, count),
    }
    return metadata, scene


def _colors(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    color, shape = pick(rng, place.pairs)
    scene = _scene(rng, lambda: [(color, shape)], place)
    return {"tag": "colors", "include": [_item(shape, color)], "prompt": prefix + with_article(f"{color} {shape}")}, scene


def _position(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    target, subject = _two_shapes(rng, place.world)
    relation = pick(rng, RELATIONS)
    scene = _scene(
        rng,
        lambda: [(place.color(rng, target), target), (place.color(rng, subject), subject)],
        place,
        lambda scene: relation_holds(scene.things[1], relation, scene.things[0], least=CLEAR_RELATION),
    )
    metadata: JsonObject = {
        "tag": "position",
        "include": [_item(target), {"class": subject, "count": 1, "position": [relation, 0]}],
        "prompt": f"{prefix}{with_article(subject)} {relation} {with_article(target)}",
    }
    return metadata, scene


def _color_attr(rng: np.random.Generator, prefix: str, place: _Place) -> _Draft:
    def kinds() -> list[Kind]:
        while True:
            first = pick(rng, place.pairs)
            second = pick(rng, place.world.seen if rng.random() < 0.5 else place.pairs)
            if first[0] != second[0] and first[1] != second[1]:
                return [first, second] if rng.random() < 0.5 else [second, first]

    scene = _scene(rng, kinds, place)
    (color, shape), (other_color, other_shape) = scene.kinds
    metadata: JsonObject = {
        "tag": "color_attr",
        "include": [_item(shape, color), _item(other_shape, other_color)],
        "prompt": f"{prefix}{with_article(f'{color} {shape}')} and {with_article(f'{other_color} {other_shape}')}",
    }
    return metadata, scene


_MAKERS: dict[str, Callable[[np.random.Generator, str, _Place], _Draft]] = {
    "single_object": _single_object,
    "two_object": _two_object,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}


def _scene(
    rng: np.random.Generator, kinds: Callable[[], list[Kind]], place: _Place, fulfils: Callable[[Scene], bool] | None = None
) -> Scene:
    """Draw scenes until one belongs to the split and fulfils the prompt."""
    while True:
        scene = arrange(rng, kinds(), place.world)
        if bucket(scene) == place.split and (fulfils is None or fulfils(scene)):
            return scene


def _two_shapes(rng: np.random.Generator, world: World) -> tuple[Shape, Shape]:
    first, second = rng.permutation(len(world.shapes))[:2]
    return world.shapes[first], world.shapes[second]


def _item(shape: Shape, color: Color | None = None) -> JsonObject:
    item: JsonObject = {"class": shape, "count": 1}
    return item if color is None else {**item, "color": color}
