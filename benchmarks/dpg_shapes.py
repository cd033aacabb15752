"""DPG-Bench in the synthetic world: prompts of several sentences, their question graphs, and an oracle that answers from pixels.

A prompt states everything that is asked: what stands where, how many, in which colour and size. The questions come in the published
schema with the published categories, so that reading, dependency rule and means are the official code path; only the judge is another.
Of the published categories this world has no ``global``, no ``entity - part`` or ``state``, no texture and no text.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING, cast

import numpy as np

from jfeval.benchmarks.dpg_rows import Item, Question, parse_reference
from jfeval.benchmarks.scorers.relations import relations
from jfeval.benchmarks.shapes.language import NUMBER_WORDS, OFFICIAL_PREFIX, clear_relations, counted, joined, plural, with_article
from jfeval.benchmarks.shapes.oracle import VERSION as DETECTOR_VERSION
from jfeval.benchmarks.shapes.oracle import Detection, detect
from jfeval.benchmarks.shapes.render import shape_mask
from jfeval.benchmarks.shapes.scene import COLORS, RELATIONS, SHAPES, SIZES, Relation, Scene, Shape, Size, Thing, sample_scene, scene_rng
from jfeval.benchmarks.shapes.world import CANVAS
from jfeval.errors import UserError
from jfeval.schema import Json, JsonObject, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

VERSION = 1
MOST_RELATIONS = 3
"""Sentences about places in one prompt."""

_PLURALS = {plural(shape): shape for shape in SHAPES} | {plural("object"): "object"}
_SHAPE, _COLOR, _SIZE = "|".join(SHAPES), "|".join(COLORS), "|".join(SIZES)
_EXISTS = re.compile(rf"Is there an? (?:(?P<color>{_COLOR}) )?(?P<shape>{_SHAPE})\?")
_COUNT = re.compile(rf"(?:Is|Are) there exactly (?P<number>{'|'.join(NUMBER_WORDS)}) (?:(?P<color>{_COLOR}) )?(?P<noun>[a-z]+)\?")
_BIG = re.compile(rf"Is the (?P<color>{_COLOR}) (?P<shape>{_SHAPE}) (?P<size>{_SIZE})\?")
_PLACE = re.compile(
    rf"Is the (?P<color>{_COLOR}) (?P<shape>{_SHAPE}) (?P<relation>{'|'.join(RELATIONS)}) "
    rf"the (?P<other_color>{_COLOR}) (?P<other_shape>{_SHAPE})\?"
)


def draw_items(seed: int, count: int) -> list[Item]:
    """Draw prompts of the test split, all different, with their questions.

    Args:
        seed: Draws the scenes.
        count: How many prompts.
    """
    return [item for item, _ in draw_scenes(seed, count)]


def draw_scenes(seed: int, count: int) -> list[tuple[Item, Scene]]:
    """Draw the same prompts, each with the scene that it describes."""
    found: dict[str, tuple[Item, Scene]] = {}
    row = index = 0
    while len(found) < count:
        scene = sample_scene(scene_rng(seed, "dpg", index), "test")
        index += 1
        prompt = describe(scene)
        if len(scene.things) > 1 and prompt not in found:
            item = Item(id=f"shapes{len(found)}", prompt=prompt, questions=tuple(ask(scene, first_row=row)))
            found[prompt] = item, scene
            row += len(item.questions)
    return list(found.values())


def describe(scene: Scene) -> str:
    """Say all about a scene in several sentences: what and how many, then sizes and places of what can be named alone."""
    sentences = [OFFICIAL_PREFIX + joined([counted(words, n) for words, n in Counter(_name(thing) for thing in scene.things).items()])]
    sentences += [f"the {_name(thing)} is {thing.size}" for thing in _single(scene)]
    sentences += [f"the {_name(a)} is {relation} the {_name(b)}" for a, relation, b in _places(scene)]
    return ". ".join(sentences) + "."


def ask(scene: Scene, *, first_row: int = 0) -> Iterator[Question]:
    """Ask all that `describe` says, parents first: shapes, then kinds and counts, then sizes and places."""
    rows: list[tuple[str, tuple[int, ...], str]] = []

    def add(category: str, parents: tuple[int, ...], text: str) -> int:
        rows.append((category, parents, text))
        return len(rows)

    shapes = Counter(thing.shape for thing in scene.things)
    names = Counter(_name(thing) for thing in scene.things)
    shape_ids = {shape: add("entity - whole", (), f"Is there {with_article(shape)}?") for shape in shapes}
    name_ids = {
        name: add("attribute - color", (shape_ids[cast(Shape, name.split()[1])],), f"Is there {with_article(name)}?") for name in names
    }
    for name, number in names.items():
        add("other - count", (name_ids[name],), _count_question(name, number))
    add("other - count", (), _count_question("object", len(scene.things)))
    for thing in _single(scene):
        add("attribute - size", (name_ids[_name(thing)],), f"Is the {_name(thing)} {thing.size}?")
    for a, relation, b in _places(scene):
        add("relation - spatial", (name_ids[_name(a)], name_ids[_name(b)]), f"Is the {_name(a)} {relation} the {_name(b)}?")
    for number, (category, parents, text) in enumerate(rows, start=1):
        yield Question(row=first_row + number - 1, number=number, parents=parents, category=category, text=text)


class OracleVqa:
    """Answers the questions of this world from pixels alone, in the place of mPLUG."""

    name = "oracle-vqa"
    image_size = CANVAS

    def identity(self) -> JsonObject:
        """Return what can change an answer."""
        return {"judge": self.name, "version": VERSION, "detector_version": DETECTOR_VERSION}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Answer every question of the sample about each image."""
        questions = parse_reference(sample.reference, where=f"sample {sample.id}")
        observations: list[JsonObject] = []
        for image in images:
            found = detect(image)
            answers: list[Json] = ["yes" if holds(question.text, found) else "no" for question in questions]
            observations.append({"answers": answers})
        return tuple(observations)


def holds(question: str, found: Sequence[Detection]) -> bool:
    """Answer one question from the objects found, best first; "the" names the best of its kind.

    Raises:
        UserError: The question is in none of this world's forms.
    """
    if match := _EXISTS.fullmatch(question):
        return bool(_matching(found, match["color"], match["shape"]))
    if match := _COUNT.fullmatch(question):
        noun = _PLURALS.get(match["noun"], match["noun"])
        return len(_matching(found, match["color"], None if noun == "object" else noun)) == NUMBER_WORDS.index(match["number"])
    if match := _BIG.fullmatch(question):
        named = _matching(found, match["color"], match["shape"])
        return bool(named) and size_of(named[0]) == match["size"]
    if match := _PLACE.fullmatch(question):
        first = _matching(found, match["color"], match["shape"])
        second = _matching(found, match["other_color"], match["other_shape"])
        return bool(first and second) and match["relation"] in relations(first[0].box, second[0].box)
    raise UserError(f"the oracle has no answer to {question[:80]!r}; it reads the questions of dpg's shapes edition only")


def size_of(detection: Detection) -> Size:
    """Name an object's size: the one whose area is nearest, as a side."""
    sides = _sides(detection.shape)
    side = float(np.sqrt(detection.mask.sum()))
    return min(sides, key=lambda size: abs(sides[size] - side))


@cache
def _sides(shape: Shape) -> dict[Size, float]:
    """Return the square root of a shape's true area at each size, in pixels."""
    return {size: float(np.sqrt((shape_mask(shape, cell) >= 0.5).sum())) for size, cell in SIZES.items()}


def _matching(found: Sequence[Detection], color: str | None, shape: str | None) -> list[Detection]:
    return [one for one in found if (color is None or one.color == color) and (shape is None or one.shape == shape)]


def _count_question(noun: str, number: int) -> str:
    if number == 1:
        return f"Is there exactly one {noun}?"
    return f"Are there exactly {NUMBER_WORDS[number]} {plural(noun)}?"


def _name(thing: Thing) -> str:
    return f"{thing.color} {thing.shape}"


def _single(scene: Scene) -> list[Thing]:
    """List the objects that their colour and shape name alone."""
    return [thing for thing in scene.things if scene.kinds.count(thing.kind) == 1]


def _places(scene: Scene) -> list[tuple[Thing, Relation, Thing]]:
    """List clear relations between objects that can be named alone, one for each pair at most."""
    found: list[tuple[Thing, Relation, Thing]] = []
    for a, b in permutations(_single(scene), 2):
        known = any({id(a), id(b)} == {id(c), id(d)} for c, _, d in found)
        if not known and (clear := clear_relations(a, b)):
            found.append((a, clear[0], b))
    return found[:MOST_RELATIONS]
