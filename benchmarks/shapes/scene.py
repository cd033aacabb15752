"""What a picture of a synthetic world holds: a few coloured flat shapes on a square canvas, and which split they belong to.

A scene is decided by its content alone: `bucket` hashes a canonical key, so a scene is a training scene or a test scene under every
seed and in every program. Scenes of two or more kinds of object are keyed by their composition (the multiset of colour-shape pairs),
so a test composition is never seen in training in any layout. A world's held-out colour-shape pairs are in neither.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np

from jfeval.benchmarks.shapes.world import (
    CANVAS,
    CELL,
    COLORS,
    FULL,
    GAP,
    HELD_OUT_PAIRS,
    MARGIN,
    SEEN_PAIRS,
    SHAPES,
    SIZES,
    Color,
    Kind,
    Shape,
    Size,
    World,
)

__all__ = [
    "CANVAS",
    "CELL",
    "COLORS",
    "GAP",
    "HELD_OUT_PAIRS",
    "MARGIN",
    "RELATIONS",
    "SEEN_PAIRS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Color",
    "Kind",
    "Relation",
    "Scene",
    "Shape",
    "Size",
    "Split",
    "Thing",
    "arrange",
    "bucket",
    "pick",
    "relation_holds",
    "sample_scene",
    "scene_key",
    "scene_rng",
]

Split: TypeAlias = Literal["train", "test", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

Relation: TypeAlias = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)

_HELD_OUT_COUNT_SHARES = (0.4, 0.5, 0.1)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene."""

    shape: Shape
    color: Color
    size: Size
    x: int
    """Centre pixel, from the left."""
    y: int
    """Centre pixel, from the top."""

    @property
    def kind(self) -> Kind:
        """What it is: colour and shape."""
        return self.color, self.shape

    @property
    def radius(self) -> int:
        """Pixels between the centre and the edge of the object's square cell."""
        return SIZES[self.size] // 2


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects that do not overlap, on the fixed background."""

    things: tuple[Thing, ...]
    world: World = field(default=FULL, repr=False)
    """Whose rules it follows."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Colour and shape of each object."""
        return tuple(thing.kind for thing in self.things)


def pick(rng: np.random.Generator, options: Sequence[T], shares: Sequence[float] | None = None) -> T:
    """Draw one of the options, uniformly or by shares that add up to one."""
    if shares is None:
        return options[int(rng.integers(len(options)))]
    mark = rng.random()
    for option, share in zip(options, shares, strict=True):
        mark -= share
        if mark < 0:
            return option
    return options[-1]


def scene_rng(seed: int, stream: str, index: int) -> np.random.Generator:
    """Build the generator of one scene, which depends on nothing but (seed, stream, index)."""
    digest = hashlib.sha256(f"shapes/{stream}/{seed}/{index}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def scene_key(scene: Scene) -> str:
    """Return the canonical text that decides the split.

    The sorted colour-shape pairs where there are two or more different ones; otherwise the one pair with the layout,
    because the pairs alone are too few to divide.
    """
    names = sorted(f"{color} {shape}" for color, shape in scene.kinds)
    if len(set(names)) > 1:
        return "+".join(names)
    places = sorted(f"{thing.size}@{thing.x // CELL},{thing.y // CELL}" for thing in scene.things)
    return f"{len(names)} {names[0]}: {' '.join(places)}"


def bucket(scene: Scene) -> Split:
    """Return the only split this scene may appear in."""
    if not scene.world.held_out.isdisjoint(scene.kinds):
        return "heldout"
    number = int.from_bytes(hashlib.sha256(scene_key(scene).encode()).digest()[:8], "big")
    return "test" if number % 100 < scene.world.test_percent else "train"


def sample_scene(rng: np.random.Generator, split: Split, world: World = FULL) -> Scene:
    """Draw a scene of the split, with the mix of counts and sizes that training uses."""
    while True:
        kinds = _held_out_kinds(rng, world) if split == "heldout" else _seen_kinds(rng, world)
        scene = arrange(rng, kinds, world)
        if bucket(scene) == split:
            return scene


def arrange(rng: np.random.Generator, kinds: Sequence[Kind], world: World = FULL) -> Scene:
    """Give each object a size and a place: inside the margin, with at least `GAP` pixels between any two.

    Args:
        rng: Draws sizes and places.
        kinds: Colour-shape pairs, at most five in the full world; the objects keep this order.
        world: Its canvas and sizes.
    """
    if not 1 <= len(kinds) <= world.most_objects:
        raise ValueError(f"a scene holds 1 to {world.most_objects} objects, not {len(kinds)}")
    while True:
        sizes: list[Size] = [pick(rng, world.sizes, world.size_shares[len(kinds) - 1]) for _ in kinds]
        places = _places(rng, sizes, world)
        if places is not None:
            break
    things = (
        Thing(color=color, shape=shape, size=size, x=x, y=y) for (color, shape), size, (x, y) in zip(kinds, sizes, places, strict=True)
    )
    return Scene(things=tuple(things), world=world)


def relation_holds(subject: Thing, relation: Relation, target: Thing, *, least: float = 0.5) -> bool:
    """Tell whether one object stands in a relation to another by GenEval's rule, on the cells of the objects.

    Args:
        subject: The object spoken of.
        relation: What is claimed.
        target: The object it is claimed towards.
        least: The smallest cosine between the offset and the relation's direction; GenEval's own is 0.5, captions ask for more.

    Source: djghosh13/geneval @ af4902f, evaluation/evaluate_images.py, relative_position (dead zone 0.1, direction 0.5).
    """
    dx, dy = subject.x - target.x, subject.y - target.y
    dead = 0.1 * (SIZES[subject.size] + SIZES[target.size])
    offset = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}[relation]
    revised = max(offset - dead, 0.0)
    return bool(revised > 0 and revised / float(np.hypot(dx, dy)) > least)


def _seen_kinds(rng: np.random.Generator, world: World) -> list[Kind]:
    """Draw the objects of a training or test scene."""
    count = pick(rng, range(1, world.most_objects + 1), world.counts)
    if rng.random() < world.counting[count - 1]:
        shape: Shape = pick(rng, world.shapes)
        if rng.random() < 0.7:
            return [(_seen_color(rng, shape, world), shape)] * count
        return [(_seen_color(rng, shape, world), shape) for _ in range(count)]
    if count <= 2:
        shapes = _different_shapes(rng, count, world)
        colors: list[Color] = [_seen_color(rng, shape, world) for shape in shapes]
        if count == 2 and colors[0] == colors[1] and rng.random() < 0.7:
            colors[1] = pick(rng, [c for c in world.colors if c != colors[0] and (c, shapes[1]) not in world.held_out])
        return list(zip(colors, shapes, strict=True))
    if rng.random() < 0.4:
        share = int(rng.integers(1, count))
        pair: list[Kind] = [(_seen_color(rng, shape, world), shape) for shape in _different_shapes(rng, 2, world)]
        return [pair[0]] * share + [pair[1]] * (count - share)
    drawn: list[Shape] = [pick(rng, world.shapes) for _ in range(count)]
    return [(_seen_color(rng, shape, world), shape) for shape in drawn]


def _held_out_kinds(rng: np.random.Generator, world: World) -> list[Kind]:
    """Draw one to three objects of different shapes, at least one of them a held-out pair."""
    count = pick(rng, (1, 2, 3), _HELD_OUT_COUNT_SHARES)
    shapes = _different_shapes(rng, count, world)
    kinds = [(_held_out_color(shapes[0], world), shapes[0])]
    for shape in shapes[1:]:
        kinds.append((_held_out_color(shape, world) if rng.random() < 0.5 else _seen_color(rng, shape, world), shape))
    return [kinds[i] for i in rng.permutation(count)]


def _different_shapes(rng: np.random.Generator, count: int, world: World) -> list[Shape]:
    return [world.shapes[i] for i in rng.permutation(len(world.shapes))[:count]]


def _seen_color(rng: np.random.Generator, shape: Shape, world: World) -> Color:
    return pick(rng, [color for color in world.colors if (color, shape) not in world.held_out])


def _held_out_color(shape: Shape, world: World) -> Color:
    return next(color for color, other in world.held_out if other == shape)


def _places(rng: np.random.Generator, sizes: Sequence[Size], world: World) -> list[tuple[int, int]] | None:
    """Draw centres largest object first; None when one of them found no room in 60 tries."""
    order = sorted(range(len(sizes)), key=lambda i: -SIZES[sizes[i]])
    placed: dict[int, tuple[int, int]] = {}
    for i in order:
        radius = SIZES[sizes[i]] // 2
        first, last = -(-(world.margin + radius) // CELL), (world.canvas - world.margin - radius - 1) // CELL
        for x, y in (CELL * rng.integers(first, last, size=(60, 2), endpoint=True)).tolist():
            if all(max(abs(x - u), abs(y - v)) > radius + SIZES[sizes[j]] // 2 + GAP for j, (u, v) in placed.items()):
                placed[i] = (x, y)
                break
        else:
            return None
    return [placed[i] for i in range(len(sizes))]
