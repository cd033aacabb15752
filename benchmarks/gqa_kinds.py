"""The kinds of question that GQA asks in the synthetic world: each with its words, its answer, its types and its program.

Open questions ask for a colour, a shape or a size; binary ones are yes as often as no, and offer the right choice first as often as last.
Names are unambiguous and relations clear. A program has the operations that lead to the answer, in GQA's words (select, filter, relate,
query, verify, choose, exist, and, or, same).

Source: Hudson and Manning, "GQA" (arXiv 1902.09506), sections 3.2 to 3.4, for the types and the programs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jfeval.benchmarks.shapes.language import CLEAR_RELATION, OPPOSITE, clear_relations, with_article
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
)

Step = tuple[str, str]
"""Operation and argument."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A question before it has an id."""

    question: str
    answer: str
    types: tuple[str, str, str]
    """Structural, semantic and detailed."""
    program: tuple[Step, ...]
    """Operations with their arguments; each depends on the one before."""
    group: str = ""


Maker = Callable[[Scene, np.random.Generator, bool], Draft | None]
"""Draws a question of one kind about a scene, with the answer yes or no as asked; None where the scene gives none."""


# open questions


def _query_color(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    return _query(f"What color is the {thing.shape}?", thing.color, "color", (("select", thing.shape),))


def _query_shape(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    thing = pick(rng, scene.things)
    if sum(other.color == thing.color for other in scene.things) > 1:
        return None
    select = (("select", "object"), ("filter color", thing.color))
    return _query(f"What shape is the {thing.color} object?", thing.shape, "shape", select, semantic="cat", detailed="categoryQuery")


def _query_size(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    thing = pick(rng, scene.things)
    name = _name(thing, scene)
    return None if name is None else _query(f"What size is the {name}?", thing.size, "size", _select(name))


def _query_related(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    """Ask for the colour of the one object that stands in a relation to another, no third object coming near to it."""
    target = pick(rng, scene.things)
    name = _name(target, scene)
    relation: Relation = pick(rng, tuple(OPPOSITE))
    others = [thing for thing in scene.things if thing is not target]
    near = [thing for thing in others if relation_holds(thing, relation, target, least=0.0)]
    if name is None or len(near) != 1 or not relation_holds(near[0], relation, target, least=CLEAR_RELATION):
        return None
    select = (*_select(name), ("relate", f"object, {relation}"))
    question = f"What color is the object {relation} the {name}?"
    return _query(question, near[0].color, "color", select, semantic="rel", detailed="relateAttrQuery")


def _query(
    question: str, answer: str, asked: str, select: tuple[Step, ...], *, semantic: str = "attr", detailed: str = "attributeQuery"
) -> Draft:
    """Ask for a property of what a program selects; questions for the same property are a group."""
    return Draft(question=question, answer=answer, types=("query", semantic, detailed), program=(*select, ("query", asked)), group=asked)


# binary questions


def _verify_there(scene: Scene, rng: np.random.Generator, right: bool) -> Draft:
    words = " ".join(pick(rng, scene.kinds) if right else pick(rng, _absent(scene)))
    return Draft(
        question=f"Is there {with_article(words)} in the image?",
        answer=_yes(right),
        types=("verify", "obj", "exist"),
        program=(*_select(words), ("exist", "?")),
    )


def _verify_relation(scene: Scene, rng: np.random.Generator, right: bool) -> Draft | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    first, relation, second = pair
    asked = relation if right else OPPOSITE[relation]
    return Draft(
        question=f"Is the {first} {asked} the {second}?",
        answer=_yes(right),
        types=("verify", "rel", "relVerify"),
        program=(*_select(first), ("verify rel", f"{second}, {asked}")),
    )


def _verify_color(scene: Scene, rng: np.random.Generator, right: bool) -> Draft | None:
    thing = pick(rng, scene.things)
    other = _other_color(thing, scene, rng)
    if other is None:
        return None
    color = thing.color if right else other
    return Draft(
        question=f"Is the {thing.shape} {color}?",
        answer=_yes(right),
        types=("verify", "attr", "verifyAttr"),
        program=(("select", thing.shape), ("verify color", color)),
    )


def _choose_color(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    thing = pick(rng, scene.things)
    other = _other_color(thing, scene, rng)
    if other is None:
        return None
    first, second = _either_order((thing.color, other), rng)
    return Draft(
        question=f"Is the {thing.shape} {first} or {second}?",
        answer=thing.color,
        types=("choose", "attr", "chooseAttr"),
        program=(("select", thing.shape), ("choose color", f"{first}|{second}")),
        group="color",
    )


def _choose_relation(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    subject, relation, target = pair
    first, second = _either_order((relation, OPPOSITE[relation]), rng)
    return Draft(
        question=f"Is the {subject} {first} or {second} the {target}?",
        answer=relation,
        types=("choose", "rel", "relChooser"),
        program=(*_select(subject), ("choose rel", f"{target}, {first}|{second}")),
        group="relation",
    )


def _logical(scene: Scene, rng: np.random.Generator, right: bool) -> Draft | None:
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
    return Draft(
        question=f"Is there {with_article(first)} {word} {with_article(second)} in the image?",
        answer=_yes(right),
        types=("logical", "obj", f"exist{word.title()}"),
        program=(("select", first), ("exist", "?"), ("select", second), ("exist", "?"), (word, "")),
    )


def _compare(scene: Scene, rng: np.random.Generator, right: bool) -> Draft | None:
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    if {first.shape, second.shape} == {first.shape} or any(
        sum(other.shape == thing.shape for other in scene.things) > 1 for thing in (first, second)
    ):
        return None
    if (first.color == second.color) != right:
        return None
    return Draft(
        question=f"Are the {first.shape} and the {second.shape} the same color?",
        answer=_yes(right),
        types=("compare", "attr", "twoSame"),
        program=(("select", first.shape), ("select", second.shape), ("same color", "")),
    )


COUNTS: dict[Maker, int] = {
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


def _select(name: str) -> tuple[Step, ...]:
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
