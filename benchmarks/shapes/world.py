"""The words of the synthetic world, and which worlds there are.

Every world has the same objects, drawn alike and seen by the same oracle. `FULL` is the edition ``shapes``. `SMALL`, the edition
``shapes-small``, is for sweeps of trainings: a smaller canvas, fewer kinds of objects, fewer of them and fewer wordings, so that a model
learns it in minutes. A number of one says nothing about the other.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

from jfeval.errors import unknown

Shape: TypeAlias = Literal["circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

Color: TypeAlias = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]
COLORS: tuple[Color, ...] = get_args(Color)
"""GenEval's ten colours in its order. Source: djghosh13/geneval @ af4902f, evaluation/evaluate_images.py, COLORS."""

Size: TypeAlias = Literal["small", "medium", "large"]
SIZES: dict[Size, int] = {"small": 17, "medium": 21, "large": 25}
"""Diameter in pixels; odd, so that an object's centre is a pixel."""

Kind: TypeAlias = tuple[Color, Shape]

GAP = 3
CELL = 4
"""Centres lie on a grid of this many pixels: a shape then has few looks in a grid of latents, and fewer pictures suffice to learn it."""

OFFICIAL_PREFIX = "a photo of "
"""Source: djghosh13/geneval @ af4902f, prompts/create_prompts.py."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How captions are worded, as shares of them."""

    prefixes: tuple[str, ...]
    """What captions and prompts begin with; the official one first."""
    prefix_shares: tuple[float, ...]
    bare: float
    """Without a prefix."""
    there_is: float
    """Beginning with "there is"."""
    relation: float
    """How often a caption of two objects states their relation."""
    color: float
    color_alike: float
    """How often a caption names colours; the second where all objects are alike."""
    size: float
    """How often it names sizes."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The rules that scenes and captions follow."""

    name: str
    """Of the edition that is made of it."""
    canvas: int
    """Side of a picture in pixels."""
    margin: int
    """Least pixels between an object's cell and the frame."""
    shapes: tuple[Shape, ...]
    colors: tuple[Color, ...]
    held_out: frozenset[Kind]
    """One colour for each shape, all different; in no training or test scene, caption, question or sentence."""
    counts: tuple[float, ...]
    """Shares of scenes of one, two ... objects."""
    counting: tuple[float, ...]
    """Share of scenes of n objects that are counting scenes (all of one shape)."""
    asked_counts: tuple[int, ...]
    """Numbers of objects that GenEval's counting task asks for."""
    sizes: tuple[Size, ...]
    size_shares: tuple[tuple[float, ...], ...]
    """Shares of the sizes in scenes of one, two ... objects."""
    test_percent: int
    """Share of compositions that are test scenes; the fewer there are, the larger, so that every two shapes have some."""
    wording: Wording

    @property
    def most_objects(self) -> int:
        """Return how many objects a scene holds at most."""
        return len(self.counts)

    @cached_property
    def seen(self) -> tuple[Kind, ...]:
        """List the colour-shape pairs of training and test scenes."""
        return tuple((color, shape) for shape in self.shapes for color in self.colors if (color, shape) not in self.held_out)


FULL = World(
    name="shapes",
    canvas=64,
    margin=2,
    shapes=SHAPES,
    colors=COLORS,
    held_out=frozenset(
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
    ),
    counts=(0.13, 0.55, 0.16, 0.12, 0.04),
    counting=(0.0, 0.16, 0.65, 0.75, 0.0),  # about a third of the scenes of several objects
    asked_counts=(2, 3, 4),
    sizes=("small", "medium", "large"),
    size_shares=((0.1, 0.3, 0.6), (0.1, 0.35, 0.55), (0.2, 0.45, 0.35), (0.4, 0.5, 0.1), (0.9, 0.1, 0.0)),
    test_percent=10,
    wording=Wording(
        prefixes=(
            OFFICIAL_PREFIX,
            "a picture of ",
            "an image of ",
            "a drawing of ",
            "a photo with ",
            "a picture with ",
            "an image with ",
            "a drawing with ",
        ),
        prefix_shares=(0.65, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05),
        bare=0.08,
        there_is=0.02,
        relation=0.5,
        color=0.6,
        color_alike=0.4,
        size=0.06,
    ),
)

SMALL = World(
    name="shapes-small",
    canvas=48,
    margin=1,
    shapes=("circle", "square", "triangle", "cross", "ring"),
    colors=("red", "yellow", "green", "blue", "white"),
    held_out=frozenset({("green", "circle"), ("yellow", "square"), ("blue", "triangle"), ("white", "cross"), ("red", "ring")}),
    counts=(0.2, 0.55, 0.25),
    counting=(0.0, 0.2, 0.5),
    asked_counts=(2, 3),
    sizes=("small", "medium"),
    size_shares=((0.3, 0.7), (0.5, 0.5), (1.0, 0.0)),
    test_percent=25,
    wording=Wording(
        prefixes=(OFFICIAL_PREFIX, "a picture of ", "an image of ", "a drawing of "),
        prefix_shares=(0.7, 0.1, 0.1, 0.1),
        bare=0.0,
        there_is=0.0,
        relation=0.5,
        color=0.6,
        color_alike=0.5,
        size=0.0,
    ),
)

WORLDS: dict[str, World] = {world.name: world for world in (FULL, SMALL)}
"""By name, which is the edition's."""

CANVAS, MARGIN, HELD_OUT_PAIRS, SEEN_PAIRS = FULL.canvas, FULL.margin, FULL.held_out, FULL.seen
"""Of the full world."""


def world_named(name: str) -> World:
    """Return a world.

    Raises:
        UserError: There is none of that name; names the nearest.
    """
    if name not in WORLDS:
        raise unknown("world", name, WORLDS)
    return WORLDS[name]
