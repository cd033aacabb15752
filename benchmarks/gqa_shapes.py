"""GQA in the synthetic world: compositional questions about coloured shapes, each with its types, its group and its program.

Rows have the official form. Open questions ask for a colour, a shape or a size; binary ones are yes as often as no, and offer the right
choice first as often as last. Names are unambiguous and relations clear. A program has the operations that lead to the answer, in GQA's
words (select, filter, relate, query, verify, choose, exist, and, or, same).

Source: Hudson and Manning, "GQA" (arXiv 1902.09506), sections 3.2 to 3.4, for the types and the programs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from jfeval.benchmarks.gqa_rows import Row, parse_row
from jfeval.benchmarks.shapes.language import CLEAR_RELATION, OPPOSITE, clear_relations, with_article
from jfeval.benchmarks.shapes.render import render_png
from jfeval.benchmarks.shapes.scene import (
    COLORS,
    HELD_OUT_PAIRS,
    SEEN_PAIRS,
    SHAPES,
    Color,
    Kind,
    Relation,
    Scene,
    Thing,
    pick,
    relation_holds,
    sample_scene,
    scene_rng,
)
from jfeval.schema import Json, JsonObject

PER_IMAGE = 4
_TRIES = 12
"""Draws of one kind of question from one scene before another scene is drawn."""

_Step = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A question before it has an id."""

    question: str
    answer: str
    types: tuple[str, str, str]
    """Structural, semantic and detailed."""
    program: tuple[_Step, ...]
    """Operations with their arguments; each depends on the one before."""
    group: str = ""


_Maker = Callable[[Scene, np.random.Generator, bool], _Draft | None]
"""Draws a question of one kind about a scene, with the answer yes or no as asked; None where the scene gives none."""


def gqa_questions(seed: int) -> dict[str, tuple[JsonObject, Scene]]:
    """Draw one seed's questions in the official form, four to a picture, each with its scene, by question id."""
    deck = [(maker, bool(i % 2)) for maker, count in _COUNTS.items() for i in range(count)]
    order = scene_rng(seed, "gqa/deck", 0).permutation(len(deck))
    found: dict[str, tuple[JsonObject, Scene]] = {}
    for index in range(len(deck) // PER_IMAGE):
        wanted = [deck[i] for i in order[index * PER_IMAGE : (index + 1) * PER_IMAGE]]
        scene, drafts = _picture(wanted, scene_rng(seed, "gqa", index))
        for number, draft in enumerate(drafts):
            found[f"{seed}{index:04d}{number}"] = (_official(draft, f"shapes_{seed}_{index:06d}"), scene)
    return found


def gqa_rows(seed: int) -> list[Row]:
    """Draw one seed's questions; every picture is a test scene, which no training scene resembles."""
    rows = []
    for key, (official, scene) in gqa_questions(seed).items():
        row = parse_row(key, official, where=f"gqa (shapes), seed {seed}, question {key}", reader=partial(render_png, scene))
        rows.append(row)
    return rows


def _picture(wanted: Sequence[tuple[_Maker, bool]], rng: np.random.Generator) -> tuple[Scene, list[_Draft]]:
    """Draw scenes until one gives a question of every kind that is wanted, all different."""
    while True:
        scene = sample_scene(rng, "test")
        drafts: list[_Draft] = []
        for maker, right in wanted if len(scene.things) > 1 else ():
            tries = (maker(scene, rng, right) for _ in range(_TRIES))
            draft = next((one for one in tries if one is not None and all(one.question != other.question for other in drafts)), None)
            if draft is None:
                break
            drafts.append(draft)
        if len(drafts) == len(wanted):
            return scene, drafts


def _official(draft: _Draft, image: str) -> JsonObject:
    structural, semantic, detailed = draft.types
    program: list[Json] = [
        {"operation": operation, "argument": argument, "dependencies": [i - 1] if i else []}
        for i, (operation, argument) in enumerate(draft.program)
    ]
    return {
        "question": draft.question,
        "imageId": image,
        "answer": draft.answer,
        "isBalanced": True,
        "groups": {"global": draft.group or None, "local": None},
        "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
        "semantic": program,
        "semanticStr": "->".join(f"{operation}: {argument}" for operation, argument in draft.program),
    }


# open questions


def _query_color(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    return _Draft(
        question=f"What color is the {thing.shape}?",
        answer=thing.color,
        types=("query", "attr", "attributeQuery"),
        program=(("select", thing.shape), ("query", "color")),
        group="color",
    )


def _query_shape(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.color == thing.color for other in scene.things) > 1:
        return None
    return _Draft(
        question=f"What shape is the {thing.color} object?",
        answer=thing.shape,
        types=("query", "cat", "categoryQuery"),
        program=(("select", "object"), ("filter color", thing.color), ("query", "shape")),
        group="shape",
    )


def _query_size(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    thing = pick(rng, scene.things)
    name = _name(thing, scene)
    if name is None:
        return None
    return _Draft(
        question=f"What size is the {name}?",
        answer=thing.size,
        types=("query", "attr", "attributeQuery"),
        program=(*_select(name), ("query", "size")),
        group="size",
    )


def _query_related(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    """Ask for the colour of the one object that stands in a relation to another, no third object coming near to it."""
    target = pick(rng, scene.things)
    name = _name(target, scene)
    relation: Relation = pick(rng, tuple(OPPOSITE))
    others = [thing for thing in scene.things if thing is not target]
    near = [thing for thing in others if relation_holds(thing, relation, target, least=0.0)]
    if name is None or len(near) != 1 or not relation_holds(near[0], relation, target, least=CLEAR_RELATION):
        return None
    return _Draft(
        question=f"What color is the object {relation} the {name}?",
        answer=near[0].color,
        types=("query", "rel", "relateAttrQuery"),
        program=(*_select(name), ("relate", f"object, {relation}"), ("query", "color")),
        group="color",
    )


# binary questions


def _verify_there(scene: Scene, rng: np.random.Generator, right: bool) -> _Draft:
    words = " ".join(pick(rng, scene.kinds) if right else pick(rng, _absent(scene)))
    return _Draft(
        question=f"Is there {with_article(words)} in the image?",
        answer=_yes(right),
        types=("verify", "obj", "exist"),
        program=(*_select(words), ("exist", "?")),
    )


def _verify_relation(scene: Scene, rng: np.random.Generator, right: bool) -> _Draft | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    first, relation, second = pair
    asked = relation if right else OPPOSITE[relation]
    return _Draft(
        question=f"Is the {first} {asked} the {second}?",
        answer=_yes(right),
        types=("verify", "rel", "relVerify"),
        program=(*_select(first), ("verify rel", f"{second}, {asked}")),
    )


def _verify_color(scene: Scene, rng: np.random.Generator, right: bool) -> _Draft | None:
    thing = pick(rng, scene.things)
    other = _other_color(thing, scene, rng)
    if other is None:
        return None
    color = thing.color if right else other
    return _Draft(
        question=f"Is the {thing.shape} {color}?",
        answer=_yes(right),
        types=("verify", "attr", "verifyAttr"),
        program=(("select", thing.shape), ("verify color", color)),
    )


def _choose_color(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    thing = pick(rng, scene.things)
    other = _other_color(thing, scene, rng)
    if other is None:
        return None
    first, second = _either_order((thing.color, other), rng)
    return _Draft(
        question=f"Is the {thing.shape} {first} or {second}?",
        answer=thing.color,
        types=("choose", "attr", "chooseAttr"),
        program=(("select", thing.shape), ("choose color", f"{first}|{second}")),
        group="color",
    )


def _choose_relation(scene: Scene, rng: np.random.Generator, _: bool) -> _Draft | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    subject, relation, target = pair
    first, second = _either_order((relation, OPPOSITE[relation]), rng)
    return _Draft(
        question=f"Is the {subject} {first} or {second} the {target}?",
        answer=relation,
        types=("choose", "rel", "relChooser"),
        program=(*_select(subject), ("choose rel", f"{target}, {first}|{second}")),
        group="relation",
    )


def _logical(scene: Scene, rng: np.random.Generator, right: bool) -> _Draft | None:
    """Ask for two shapes, joined by "and" or "or"."""
    there = sorted({thing.shape for thing in scene.things})
    absent = [shape for shape in SHAPES if shape not in there]
    word = pick(rng, ("and", "or"))
    if word == "and":
        if len(there) < 2:
            return None
        first = pick(rng, there)
        second = pick(rng, [shape for shape in (there if right else absent) if shape != first])
    else:
        second = pick(rng, absent)
        first = pick(rng, there) if right else pick(rng, [shape for shape in absent if shape != second])
    first, second = _either_order((first, second), rng)
    return _Draft(
        question=f"Is there {with_article(first)} {word} {with_article(second)} in the image?",
        answer=_yes(right),
        types=("logical", "obj", f"exist{word.title()}"),
        program=(("select", first), ("exist", "?"), ("select", second), ("exist", "?"), (word, "")),
    )


def _compare(scene: Scene, rng: np.random.Generator, right: bool) -> _Draft | None:
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    if {first.shape, second.shape} == {first.shape} or any(
        sum(other.shape == thing.shape for other in scene.things) > 1 for thing in (first, second)
    ):
        return None
    if (first.color == second.color) != right:
        return None
    return _Draft(
        question=f"Are the {first.shape} and the {second.shape} the same color?",
        answer=_yes(right),
        types=("compare", "attr", "twoSame"),
        program=(("select", first.shape), ("select", second.shape), ("same color", "")),
    )


_COUNTS: dict[_Maker, int] = {
    _query_color: 84,
    _query_shape: 64,
    _query_size: 20,
    _query_related: 40,
    _verify_there: 44,
    _verify_relation: 44,
    _verify_color: 20,
    _choose_color: 20,
    _choose_relation: 16,
    _logical: 28,
    _compare: 20,
}
"""How many questions of each kind: somewhat over half are open, as in GQA."""


# parts


def _name(thing: Thing, scene: Scene) -> str | None:
    """Name an object so that no other fits; None where two are alike in shape and colour."""
    if sum(other.shape == thing.shape for other in scene.things) == 1:
        return thing.shape
    return " ".join(thing.kind) if scene.kinds.count(thing.kind) == 1 else None


def _select(name: str) -> tuple[_Step, ...]:
    """Select an object by its name: the shape, then its colour where that is said."""
    color, _, shape = name.rpartition(" ")
    return (("select", shape), ("filter color", color)) if color else (("select", shape),)


def _related(scene: Scene, rng: np.random.Generator) -> tuple[str, Relation, str] | None:
    """Name two objects and a clear relation between them."""
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relations, names = clear_relations(first, second), (_name(first, scene), _name(second, scene))
    if not relations or names[0] is None or names[1] is None:
        return None
    return names[0], pick(rng, relations), names[1]


def _other_color(thing: Thing, scene: Scene, rng: np.random.Generator) -> Color | None:
    """Draw a colour that an object has not, half of the time one that the scene has; None where its shape does not name it."""
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    options: list[Color] = [color for color in COLORS if color != thing.color and (color, thing.shape) not in HELD_OUT_PAIRS]
    near: list[Color] = [color for color in options if color in {other.color for other in scene.things}]
    return pick(rng, near if near and rng.random() < 0.5 else options)


def _absent(scene: Scene) -> list[Kind]:
    """List objects that a scene lacks but that share a colour or a shape with it."""
    colors, shapes = {color for color, _ in scene.kinds}, {shape for _, shape in scene.kinds}
    return [kind for kind in SEEN_PAIRS if kind not in scene.kinds and (kind[0] in colors or kind[1] in shapes)]


def _either_order(pair: tuple[str, str], rng: np.random.Generator) -> tuple[str, str]:
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def _yes(right: bool) -> str:
    return "yes" if right else "no"
