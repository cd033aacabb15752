"""What a picture of the synthetic world holds: one to five coloured flat shapes on a 64x64 canvas, and which split they belong to.

A scene is decided by its content alone: `bucket` hashes a canonical key, so a scene is a training scene or a test scene under every
seed and in every program. Scenes of two or more kinds of object are keyed by their composition (the multiset of colour-shape pairs),
so a test composition is never seen in training in any layout. Eight colour-shape pairs (`HELD_OUT_PAIRS`) are in neither.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np

Shape: TypeAlias = Literal["circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

Color: TypeAlias = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]
COLORS: tuple[Color, ...] = get_args(Color)
"""GenEval's ten colours in its order. Source: djghosh13/geneval @ af4902f, evaluation/evaluate_images.py, COLORS."""

Size: TypeAlias = Literal["small", "medium", "large"]
SIZES: dict[Size, int] = {"small": 17, "medium": 21, "large": 25}
"""Diameter in pixels; odd, so that an object's centre is a pixel."""
_SIZE_NAMES: tuple[Size, ...] = get_args(Size)

Split: TypeAlias = Literal["train", "test", "heldout"]
SPLITS: tuple[Split, ...] = get_args(Split)

Relation: TypeAlias = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)

Kind: TypeAlias = tuple[Color, Shape]

CANVAS = 64
MARGIN = 2
GAP = 3
CELL = 4
"""Centres lie on a grid of this many pixels: a shape then has few looks in a grid of latents, and fewer pictures suffice to learn it."""
MAX_OBJECTS = 5

HELD_OUT_PAIRS: frozenset[Kind] = frozenset(
    {
        ("purple", "circle"),
        ("yellow", "square"),
        ("blue", "triangle"),
        ("green", "star"),
        ("orange", "heart"),
        ("pink", "cross"),
        ("red", "ring"),
        ("white", "crescent"),
    }
)
"""One colour for each shape, all different; in no training or test scene, caption, question or sentence."""

SEEN_PAIRS: tuple[Kind, ...] = tuple((color, shape) for shape in SHAPES for color in COLORS if (color, shape) not in HELD_OUT_PAIRS)

_TEST_PERCENT = 10
_COUNT_SHARES = (0.13, 0.55, 0.16, 0.12, 0.04)
_COUNTING_SHARES = (0.0, 0.16, 0.65, 0.75, 0.0)
"""Share of scenes of n objects that are counting scenes (all of one shape): about a third of the scenes of several objects."""
_SIZE_SHARES = ((0.1, 0.3, 0.6), (0.1, 0.35, 0.55), (0.2, 0.45, 0.35), (0.4, 0.5, 0.1), (0.9, 0.1, 0.0))
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
    """One to five objects that do not overlap, on the fixed background."""

    things: tuple[Thing, ...]

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
    because 72 pairs alone are too few to divide.
    """
    names = sorted(f"{color} {shape}" for color, shape in scene.kinds)
    if len(set(names)) > 1:
        return "+".join(names)
    places = sorted(f"{thing.size}@{thing.x // CELL},{thing.y // CELL}" for thing in scene.things)
    return f"{len(names)} {names[0]}: {' '.join(places)}"


def bucket(scene: Scene) -> Split:
    """Return the only split this scene may appear in."""
    if not HELD_OUT_PAIRS.isdisjoint(scene.kinds):
        return "heldout"
    number = int.from_bytes(hashlib.sha256(scene_key(scene).encode()).digest()[:8], "big")
    return "test" if number % 100 < _TEST_PERCENT else "train"


def sample_scene(rng: np.random.Generator, split: Split) -> Scene:
    """Draw a scene of the split, with the mix of counts and sizes that training uses."""
    while True:
        kinds = _held_out_kinds(rng) if split == "heldout" else _seen_kinds(rng)
        scene = arrange(rng, kinds)
        if bucket(scene) == split:
            return scene


def arrange(rng: np.random.Generator, kinds: Sequence[Kind]) -> Scene:
    """Give each object a size and a place: inside the margin, with at least `GAP` pixels between any two.

    Args:
        rng: Draws sizes and places.
        kinds: One to five colour-shape pairs; the objects keep this order.
    """
    if not 1 <= len(kinds) <= MAX_OBJECTS:
        raise ValueError(f"a scene holds 1 to {MAX_OBJECTS} objects, not {len(kinds)}")
    while True:
        sizes: list[Size] = [pick(rng, _SIZE_NAMES, _SIZE_SHARES[len(kinds) - 1]) for _ in kinds]
        places = _places(rng, sizes)
        if places is not None:
            break
    things = (
        Thing(color=color, shape=shape, size=size, x=x, y=y) for (color, shape), size, (x, y) in zip(kinds, sizes, places, strict=True)
    )
    return Scene(things=tuple(things))


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


def _seen_kinds(rng: np.random.Generator) -> list[Kind]:
    """Draw the objects of a training or test scene."""
    count = pick(rng, (1, 2, 3, 4, 5), _COUNT_SHARES)
    if rng.random() < _COUNTING_SHARES[count - 1]:
        shape: Shape = pick(rng, SHAPES)
        if rng.random() < 0.7:
            return [(_seen_color(rng, shape), shape)] * count
        return [(_seen_color(rng, shape), shape) for _ in range(count)]
    if count <= 2:
        shapes = _different_shapes(rng, count)
        colors: list[Color] = [_seen_color(rng, shape) for shape in shapes]
        if count == 2 and colors[0] == colors[1] and rng.random() < 0.7:
            colors[1] = pick(rng, [c for c in COLORS if c != colors[0] and (c, shapes[1]) not in HELD_OUT_PAIRS])
        return list(zip(colors, shapes, strict=True))
    if rng.random() < 0.4:
        share = int(rng.integers(1, count))
        pair: list[Kind] = [(_seen_color(rng, shape), shape) for shape in _different_shapes(rng, 2)]
        return [pair[0]] * share + [pair[1]] * (count - share)
    drawn: list[Shape] = [pick(rng, SHAPES) for _ in range(count)]
    return [(_seen_color(rng, shape), shape) for shape in drawn]


def _held_out_kinds(rng: np.random.Generator) -> list[Kind]:
    """Draw one to three objects of different shapes, at least one of them a held-out pair."""
    count = pick(rng, (1, 2, 3), _HELD_OUT_COUNT_SHARES)
    shapes = _different_shapes(rng, count)
    kinds = [(_held_out_color(shapes[0]), shapes[0])]
    for shape in shapes[1:]:
        kinds.append((_held_out_color(shape) if rng.random() < 0.5 else _seen_color(rng, shape), shape))
    return [kinds[i] for i in rng.permutation(count)]


def _different_shapes(rng: np.random.Generator, count: int) -> list[Shape]:
    return [SHAPES[i] for i in rng.permutation(len(SHAPES))[:count]]


def _seen_color(rng: np.random.Generator, shape: Shape) -> Color:
    return pick(rng, [color for color in COLORS if (color, shape) not in HELD_OUT_PAIRS])


def _held_out_color(shape: Shape) -> Color:
    return next(color for color, other in HELD_OUT_PAIRS if other == shape)


def _places(rng: np.random.Generator, sizes: Sequence[Size]) -> list[tuple[int, int]] | None:
    """Draw centres largest object first; None when one of them found no room in 60 tries."""
    order = sorted(range(len(sizes)), key=lambda i: -SIZES[sizes[i]])
    placed: dict[int, tuple[int, int]] = {}
    for i in order:
        radius = SIZES[sizes[i]] // 2
        first, last = -(-(MARGIN + radius) // CELL), (CANVAS - MARGIN - radius - 1) // CELL
        for x, y in (CELL * rng.integers(first, last, size=(60, 2), endpoint=True)).tolist():
            if all(max(abs(x - u), abs(y - v)) > radius + SIZES[sizes[j]] // 2 + GAP for j, (u, v) in placed.items()):
                placed[i] = (x, y)
                break
        else:
            return None
    return [placed[i] for i in range(len(sizes))]
