"""The kinds of question that GQA asks in the synthetic world: each with its words, its answer, its types and its program.

Open questions ask for a colour, a shape or a size; binary ones are yes as often as no, and offer the right choice first as often as last.
Names are unambiguous and relations clear. A program has the operations that lead to the answer, in GQA's words (select, filter, relate,
query, verify, choose, exist, and, or, same).

Source: Hudson and Manning, "GQA" (arXiv 1902.09506), sections 3.2 to 3.4, for the types and the programs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jfeval.benchmarks.shapes import naming
from jfeval.benchmarks.shapes.language import OPPOSITE, with_article
from jfeval.benchmarks.shapes.scene import Kind, Scene, pick

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
    if not naming.alone(thing, scene):
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
    name = naming.name(thing, scene)
    return None if name is None else _query(f"What size is the {name}?", thing.size, "size", _select(name))


def _query_related(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    found = naming.neighbor(scene, rng)
    if found is None:
        return None
    thing, relation, target = found
    select = (*_select(target), ("relate", f"object, {relation}"))
    question = f"What color is the object {relation} the {target}?"
    return _query(question, thing.color, "color", select, semantic="rel", detailed="relateAttrQuery")


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
    pair = naming.related(scene, rng)
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
    drawn = naming.wrong_color(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    color = thing.color if right else other
    return Draft(
        question=f"Is the {thing.shape} {color}?",
        answer=_yes(right),
        types=("verify", "attr", "verifyAttr"),
        program=(("select", thing.shape), ("verify color", color)),
    )


def _choose_color(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    drawn = naming.wrong_color(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    first, second = _either_order((thing.color, other), rng)
    return Draft(
        question=f"Is the {thing.shape} {first} or {second}?",
        answer=thing.color,
        types=("choose", "attr", "chooseAttr"),
        program=(("select", thing.shape), ("choose color", f"{first}|{second}")),
        group="color",
    )


def _choose_relation(scene: Scene, rng: np.random.Generator, _: bool) -> Draft | None:
    pair = naming.related(scene, rng)
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
    word: Literal["and", "or"] = pick(rng, ("and", "or"))
    pair = naming.two_shapes(scene, rng, word, right)
    if pair is None:
        return None
    first, second = _either_order(pair, rng)
    return Draft(
        question=f"Is there {with_article(first)} {word} {with_article(second)} in the image?",
        answer=_yes(right),
        types=("logical", "obj", f"exist{word.title()}"),
        program=(("select", first), ("exist", "?"), ("select", second), ("exist", "?"), (word, "")),
    )


def _compare(scene: Scene, rng: np.random.Generator, right: bool) -> Draft | None:
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    if not (naming.alone(first, scene) and naming.alone(second, scene)):
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


def _select(name: str) -> tuple[Step, ...]:
    """Select an object by its name: the shape, then its colour where that is said."""
    color, _, shape = name.rpartition(" ")
    return (("select", shape), ("filter color", color)) if color else (("select", shape),)


def _absent(scene: Scene) -> list[Kind]:
    """List objects that a scene lacks but that share a colour or a shape with it."""
    colors, shapes = {color for color, _ in scene.kinds}, {shape for _, shape in scene.kinds}
    return [kind for kind in scene.world.seen if kind not in scene.kinds and (kind[0] in colors or kind[1] in shapes)]


def _either_order(pair: tuple[str, str], rng: np.random.Generator) -> tuple[str, str]:
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def _yes(right: bool) -> str:
    return "yes" if right else "no"
