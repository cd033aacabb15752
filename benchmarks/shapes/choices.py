"""Multiple-choice questions about scenes of the synthetic world: one right option among two to four.

Each needs the picture: the right option is not one that questions of its kind favour, wrong ones are of the same kind, and no look at the
options alone (the odd one out, the one most like the others) tells them apart.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jfeval.benchmarks.shapes.language import Mention, clear_relations, counted, joined, plural
from jfeval.benchmarks.shapes.scene import (
    CANVAS,
    COLORS,
    HELD_OUT_PAIRS,
    RELATIONS,
    SHAPES,
    SIZES,
    Relation,
    Scene,
    Shape,
    Thing,
    pick,
    sample_scene,
    scene_rng,
)

PROPERTIES: Mapping[Shape, str] = {
    "circle": "is round and has no hole",
    "square": "has four corners",
    "triangle": "has three corners",
    "star": "has five points",
    "heart": "is a sign of love",
    "cross": "looks like a plus sign",
    "ring": "is round and has a hole",
    "crescent": "looks like a new moon",
}
"""What tells one shape from the other seven."""

PLACES = ("top left", "top right", "bottom left", "bottom right")
_CLEAR_PLACE = 6
"""Pixels between an object's centre and each middle line of the image, where its quarter is asked."""
_CLEAR_DISTANCE = 6.0
"""Pixels by which the nearest object is nearer than any other."""
_WRONG = 3
_GOALS = 12
"""A number that three and four answers divide."""
_SIDES: Mapping[Relation, str] = {
    "left of": "to the left of it",
    "right of": "to the right of it",
    "above": "above it",
    "below": "below it",
}
_NAMED = Mention(color=True)


@dataclass(frozen=True, kw_only=True)
class ChoiceQuestion:
    """A question about a scene with its options in the order shown."""

    scene: Scene
    question: str
    options: tuple[str, ...]
    answer: int
    """Index of the right option."""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class _Draft:
    question: str
    right: str
    wrong: list[str]
    """Options to take up to three of."""
    hint: str = ""


def choice_question(kind: str, *, seed: int, index: int, stream: str) -> ChoiceQuestion:
    """Draw one question of a kind about a test scene; it depends on the arguments alone.

    Args:
        kind: One of `KINDS`.
        seed: Seed of the edition.
        index: Which of the kind's questions.
        stream: Names the benchmark, so that two of them ask about different scenes.
    """
    rng = scene_rng(seed, f"choices/{stream}/{kind}", index)
    goal = int(rng.integers(_GOALS))
    draft, scene = None, None
    while draft is None or scene is None:
        scene = sample_scene(rng, "test")
        draft = KINDS[kind](scene, rng, goal)
    count = min(len(draft.wrong), _WRONG)
    wrong = [draft.wrong[i] for i in rng.permutation(len(draft.wrong))[:count]]
    answer = int(rng.integers(count + 1))
    options = (*wrong[:answer], draft.right, *wrong[answer:])
    return ChoiceQuestion(scene=scene, question=draft.question, options=options, answer=answer, hint=draft.hint)


def listed(scene: Scene) -> str:
    """Name every object of a scene, those of a kind together: "two red circles and a blue star"."""
    names = [_NAMED.words(thing) for thing in scene.things]
    return joined([counted(name, names.count(name)) for name in dict.fromkeys(names)])


def _description(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft:
    """Ask which list of objects fits; the others describe other scenes of as many objects, drawn in the same way."""
    wrong: list[str] = []
    while len(wrong) < _WRONG:
        other = sample_scene(rng, "test")
        if len(other.things) == len(scene.things) and sorted(other.kinds) != sorted(scene.kinds) and listed(other) not in wrong:
            wrong.append(listed(other))
    return _Draft(question="What does the image show?", right=listed(scene), wrong=wrong)


def _presence(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    """Ask which of four kinds of object is there: those of two colours and two shapes."""
    color, shape = pick(rng, scene.kinds)
    absent = [(c, s) for c in COLORS for s in SHAPES if (c, s) not in scene.kinds and (c, s) not in HELD_OUT_PAIRS]
    other = pick(rng, [s for _, s in absent if s != shape])
    paint = pick(rng, [c for c, _ in absent if c != color])
    near = [(color, other), (paint, shape), (paint, other)]
    wrong = [f"{c} {s}" for c, s in near if (c, s) in absent]
    if len(wrong) < _WRONG:  # two colours and two shapes make four kinds, of which none stands out; one is in the image
        return None
    return _Draft(question="Which of these objects is in the image?", right=f"{color} {shape}", wrong=wrong)


def _color(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    return _Draft(question=f"What color is the {thing.shape}?", right=thing.color, wrong=_other_colors(thing))


def _shape(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.color == thing.color for other in scene.things) > 1:
        return None
    wrong = [shape for shape in SHAPES if shape != thing.shape and (thing.color, shape) not in HELD_OUT_PAIRS]
    return _Draft(question=f"What shape is the {thing.color} object?", right=thing.shape, wrong=wrong)


def _size(scene: Scene, rng: np.random.Generator, goal: int) -> _Draft | None:
    """Ask for one of three sizes, each as often."""
    thing, name = _pick_named(scene, rng)
    sizes = list(SIZES)
    if name is None or thing.size != sizes[goal % len(sizes)]:
        return None
    return _Draft(question=f"What size is the {name}?", right=thing.size, wrong=[size for size in sizes if size != thing.size])


def _property(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    """Ask for the colour of the object that has a property of its shape."""
    thing = pick(rng, scene.things)
    if len(scene.things) < 2 or sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    question = f"What color is the object that {PROPERTIES[thing.shape]}?"
    return _Draft(question=question, right=thing.color, wrong=_other_colors(thing))


def _place(scene: Scene, rng: np.random.Generator, goal: int) -> _Draft | None:
    thing, name = _pick_named(scene, rng)
    dx, dy = thing.x - (CANVAS - 1) / 2, thing.y - (CANVAS - 1) / 2
    if name is None or min(abs(dx), abs(dy)) < _CLEAR_PLACE:
        return None
    right = f"{'top' if dy < 0 else 'bottom'} {'left' if dx < 0 else 'right'}"
    if right != PLACES[goal % len(PLACES)]:
        return None
    return _Draft(question=f"Where in the image is the {name}?", right=right, wrong=[place for place in PLACES if place != right])


def _side(scene: Scene, rng: np.random.Generator, goal: int) -> _Draft | None:
    """Ask on which side of one object another is."""
    if len(scene.things) < 2:
        return None
    subject, target = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relations = clear_relations(subject, target)
    first, second = _unique(subject, scene), _unique(target, scene)
    if relations != [RELATIONS[goal % len(RELATIONS)]] or first is None or second is None:
        return None
    question = f"Look at the {second}. Where is the {first}?"
    return _Draft(question=question, right=_SIDES[relations[0]], wrong=[text for key, text in _SIDES.items() if key != relations[0]])


def _larger(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    """Ask which of two objects is the larger one; two options."""
    if len(scene.things) < 2:
        return None
    one, other = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    first, second = _unique(one, scene), _unique(other, scene)
    if SIZES[one.size] <= SIZES[other.size] or first is None or second is None:
        return None
    return _Draft(question="Which of these two objects is larger?", right=first, wrong=[second])


def _nearest(scene: Scene, rng: np.random.Generator, _goal: int) -> _Draft | None:
    """Ask which object is nearest to one; the options are all others of a scene of three to five."""
    names = [_unique(thing, scene) for thing in scene.things]
    if len(names) < 3 or None in names:
        return None
    start = int(rng.integers(len(names)))
    target = scene.things[start]
    others = sorted((i for i in range(len(names)) if i != start), key=lambda i: _distance(scene.things[i], target))
    if _distance(scene.things[others[1]], target) - _distance(scene.things[others[0]], target) < _CLEAR_DISTANCE:
        return None
    near, *far = [str(names[i]) for i in others]
    return _Draft(question=f"Which object is closest to the {names[start]}?", right=near, wrong=far)


def _count(scene: Scene, rng: np.random.Generator, goal: int) -> _Draft | None:
    """Ask how many objects of a shape there are, each number as often."""
    shape = pick(rng, SHAPES)
    return _number(f"How many {plural(shape)} are in the image?", sum(thing.shape == shape for thing in scene.things), goal)


def _removal(scene: Scene, rng: np.random.Generator, goal: int) -> _Draft | None:
    """Ask how many objects are left when those of one shape are gone, each number as often."""
    shape = pick(rng, scene.things).shape
    left = sum(thing.shape != shape for thing in scene.things)
    return _number("How many objects are left?", left, goal, hint=f"Every {shape} is taken out of the image.")


def _number(question: str, count: int, goal: int, hint: str = "") -> _Draft | None:
    """Offer the numbers 0 to 3."""
    if count != goal % (_WRONG + 1):
        return None
    return _Draft(question=question, right=str(count), wrong=[str(n) for n in range(_WRONG + 1) if n != count], hint=hint)


_Maker = Callable[[Scene, np.random.Generator, int], _Draft | None]
"""Makes a question of a scene, or says that it does not fit. The number is drawn beforehand: where answers are numbers,
places or sizes, it decides which one is right, so that each is right as often."""

KINDS: Mapping[str, _Maker] = {
    "description": _description,
    "presence": _presence,
    "color": _color,
    "shape": _shape,
    "size": _size,
    "property": _property,
    "place": _place,
    "side": _side,
    "larger": _larger,
    "nearest": _nearest,
    "count": _count,
    "removal": _removal,
}
"""Every kind of question, by name."""


def _unique(thing: Thing, scene: Scene) -> str | None:
    """Name an object by colour and shape where that fits no other."""
    return _NAMED.words(thing) if scene.kinds.count(thing.kind) == 1 else None


def _pick_named(scene: Scene, rng: np.random.Generator) -> tuple[Thing, str | None]:
    thing = pick(rng, scene.things)
    return thing, _unique(thing, scene)


def _other_colors(thing: Thing) -> list[str]:
    """List the colours that the shape might have as well: held-out ones are named nowhere."""
    return [color for color in COLORS if color != thing.color and (color, thing.shape) not in HELD_OUT_PAIRS]


def _distance(one: Thing, other: Thing) -> float:
    return math.hypot(one.x - other.x, one.y - other.y)
