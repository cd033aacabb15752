"""Questions about a scene with short ground-truth answers, and the texts that a language model learns from.

Yes and no are equally frequent within every kind that has them. An object is named so that no other fits, and a relation is asked only
where it clearly holds or clearly does not. Nothing names a held-out colour-shape pair unless the scene itself holds one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from jfeval.benchmarks.shapes.language import (
    CLEAR_RELATION,
    OPPOSITE,
    Mention,
    caption,
    clear_relations,
    list_phrase,
    plural,
    relation_phrase,
    with_article,
)
from jfeval.benchmarks.shapes.scene import (
    COLORS,
    HELD_OUT_PAIRS,
    SHAPES,
    Color,
    Kind,
    Relation,
    Scene,
    Thing,
    pick,
    relation_holds,
    sample_scene,
)

QuestionKind: TypeAlias = Literal[
    "existence",
    "count",
    "color",
    "shape",
    "relation",
    "size",
    "verify_color",
    "choose_color",
    "choose_relation",
    "related_color",
    "logical",
    "same_color",
]

_REPEAT = 0.1
"""How often a question drawn again for the same scene is kept, so that a scene with little to ask cannot be drawn from for ever."""
_EXISTENCE_FORMS = ("Is there {} in the image?", "Is there {}?", "Do you see {}?", "Does the image show {}?")
_COUNT_FORMS = ("How many {} are there?", "How many {} are in the image?", "How many {} do you see?")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a picture, with its one-word answer."""

    question: str
    answer: str
    kind: QuestionKind


def questions(scene: Scene, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw questions about a scene with their answers; yes is as frequent as no."""
    found: list[Question] = []
    while len(found) < n:
        question = pick(rng, _MAKERS, _SHARES)[0](scene, rng)
        if question is not None and (question not in found or rng.random() < _REPEAT):
            found.append(question)
    return found


def sentence(rng: np.random.Generator) -> str:
    """Draw one text for a language model: a description of a training scene, half of the time with a question and its answer.

    The description names all that the question needs: sizes for a question of size, the relation for a question of relation.
    """
    scene = sample_scene(rng, "train")
    if rng.random() < 0.5:
        return caption(scene, rng)
    question = questions(scene, rng, 1)[0]
    if question.kind in _PLACED:
        phrase = relation_phrase(scene, rng, Mention(color=True)) if len(scene.things) == 2 else None
        if phrase is None:
            question = _count(scene, rng)
        else:
            subject, relation, target = phrase
            asked, answer = (relation, "yes") if rng.random() < 0.5 else (OPPOSITE[relation], "no")
            return f"{with_article(subject)} {relation} {with_article(target)}. Is the {subject} {asked} the {target}? {answer}"
    return f"{list_phrase(scene, rng, Mention(color=True, size=question.kind == 'size'))}. {question.question} {question.answer}"


def _reference(thing: Thing, scene: Scene) -> str | None:
    """Name an object so that no other fits: "star", else "red star"; None where two are alike in both."""
    if sum(other.shape == thing.shape for other in scene.things) == 1:
        return thing.shape
    return f"{thing.color} {thing.shape}" if scene.kinds.count(thing.kind) == 1 else None


def _absent_kinds(scene: Scene) -> list[Kind]:
    """List the pairs that are not in a scene but share a colour or a shape with it: the hard negatives."""
    colors, shapes = {color for color, _ in scene.kinds}, {shape for _, shape in scene.kinds}
    held_out = HELD_OUT_PAIRS.isdisjoint(scene.kinds)
    near: list[Kind] = [(color, shape) for color in COLORS for shape in SHAPES if color in colors or shape in shapes]
    return [kind for kind in near if kind not in scene.kinds and not (held_out and kind in HELD_OUT_PAIRS)]


def _existence(scene: Scene, rng: np.random.Generator) -> Question:
    form = pick(rng, _EXISTENCE_FORMS)
    level = pick(rng, ("shape", "color", "kind"), (0.25, 0.15, 0.6))
    if rng.random() < 0.5:
        color, shape = pick(rng, scene.kinds)
        answer = "yes"
    else:
        color, shape = pick(rng, _absent_kinds(scene))
        if level != "kind":
            color = pick(rng, [c for c in COLORS if all(c != other for other, _ in scene.kinds)])
            shape = pick(rng, [s for s in SHAPES if all(s != other for _, other in scene.kinds)])
        answer = "no"
    words = {"shape": shape, "color": f"{color} object", "kind": f"{color} {shape}"}[level]
    return Question(question=form.format(with_article(words)), answer=answer, kind="existence")


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    level = pick(rng, ("all", "shape", "kind", "color", "absent"), (0.15, 0.45, 0.2, 0.1, 0.1))
    color, shape = pick(rng, scene.kinds) if level != "absent" else pick(rng, _absent_kinds(scene))
    counts: dict[str, tuple[str, int]] = {
        "all": ("object", len(scene.things)),
        "shape": (shape, sum(thing.shape == shape for thing in scene.things)),
        "kind": (f"{color} {shape}", scene.kinds.count((color, shape))),
        "absent": (f"{color} {shape}", 0),
        "color": (f"{color} object", sum(thing.color == color for thing in scene.things)),
    }
    words, count = counts[level]
    return Question(question=pick(rng, _COUNT_FORMS).format(plural(words)), answer=str(count), kind="count")


def _color(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = pick(rng, scene.things)
    if {other.color for other in scene.things if other.shape == thing.shape} != {thing.color}:
        return None
    one = sum(other.shape == thing.shape for other in scene.things) == 1
    text = f"What color is the {thing.shape}?" if one else f"What color are the {plural(thing.shape)}?"
    return Question(question=text, answer=thing.color, kind="color")


def _shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = pick(rng, scene.things)
    if sum(other.color == thing.color for other in scene.things) > 1:
        return None
    return Question(question=f"What shape is the {thing.color} object?", answer=thing.shape, kind="shape")


def _related(scene: Scene, rng: np.random.Generator) -> tuple[str, Relation, str] | None:
    """Name two objects and a clear relation between them."""
    if len(scene.things) < 2:
        return None
    subject, target = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relations = clear_relations(subject, target)
    first, second = _reference(subject, scene), _reference(target, scene)
    if not relations or first is None or second is None:
        return None
    return first, pick(rng, relations), second


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    (first, relation, second), answer = pair, "yes"
    if rng.random() < 0.5:
        relation, answer = OPPOSITE[relation], "no"
    return Question(question=f"Is the {first} {relation} the {second}?", answer=answer, kind="relation")


def _size(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = pick(rng, scene.things)
    name = _reference(thing, scene)
    return None if name is None else Question(question=f"What size is the {name}?", answer=thing.size, kind="size")


def _named_by_shape(scene: Scene, rng: np.random.Generator) -> tuple[Thing, Color] | None:
    """Draw an object that its shape alone names, and a colour it has not, half of the time one that the scene has."""
    thing = pick(rng, scene.things)
    if sum(other.shape == thing.shape for other in scene.things) > 1:
        return None
    others: list[Color] = [color for color in COLORS if color != thing.color and (color, thing.shape) not in HELD_OUT_PAIRS]
    near: list[Color] = [color for color in others if any(other.color == color for other in scene.things)]
    return thing, pick(rng, near if near and rng.random() < 0.5 else others)


def _verify_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    drawn = _named_by_shape(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    color, answer = (thing.color, "yes") if rng.random() < 0.5 else (other, "no")
    return Question(question=f"Is the {thing.shape} {color}?", answer=answer, kind="verify_color")


def _choose_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    drawn = _named_by_shape(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    first, second = (thing.color, other) if rng.random() < 0.5 else (other, thing.color)
    return Question(question=f"Is the {thing.shape} {first} or {second}?", answer=thing.color, kind="choose_color")


def _choose_relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    pair = _related(scene, rng)
    if pair is None:
        return None
    subject, relation, target = pair
    first, second = (relation, OPPOSITE[relation]) if rng.random() < 0.5 else (OPPOSITE[relation], relation)
    return Question(question=f"Is the {subject} {first} or {second} the {target}?", answer=relation, kind="choose_relation")


def _related_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Ask for the colour of the one object that stands in a relation to another, no third object coming near to it."""
    target = pick(rng, scene.things)
    name = _reference(target, scene)
    relation: Relation = pick(rng, tuple(OPPOSITE))
    near = [thing for thing in scene.things if thing is not target and relation_holds(thing, relation, target, least=0.0)]
    if name is None or len(near) != 1 or not relation_holds(near[0], relation, target, least=CLEAR_RELATION):
        return None
    return Question(question=f"What color is the object {relation} the {name}?", answer=near[0].color, kind="related_color")


def _logical(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Ask for two shapes, joined by "and" or "or"."""
    there = sorted({thing.shape for thing in scene.things})
    absent = [shape for shape in SHAPES if shape not in there]
    word, right = pick(rng, ("and", "or")), rng.random() < 0.5
    if word == "and":
        if len(there) < 2:
            return None
        first = pick(rng, there)
        second = pick(rng, [shape for shape in (there if right else absent) if shape != first])
    else:
        second = pick(rng, absent)
        first = pick(rng, there) if right else pick(rng, [shape for shape in absent if shape != second])
    if rng.random() < 0.5:
        first, second = second, first
    text = f"Is there {with_article(first)} {word} {with_article(second)} in the image?"
    return Question(question=text, answer="yes" if right else "no", kind="logical")


def _same_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    if len(scene.things) < 2:
        return None
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    unnamed = any(sum(other.shape == thing.shape for other in scene.things) > 1 for thing in (first, second))
    same = first.color == second.color
    if unnamed or (not same and rng.random() < _DIFFERENT_LEFT_OUT):
        return None
    text = f"Are the {first.shape} and the {second.shape} the same color?"
    return Question(question=text, answer="yes" if same else "no", kind="same_color")


_DIFFERENT_LEFT_OUT = 0.96
"""Share of pairs of two colours that are not asked about, so that yes is about as frequent as no."""
_PLACED = ("relation", "choose_relation", "related_color")
"""Kinds that a description without places does not answer."""
_MAKERS: tuple[tuple[Callable[[Scene, np.random.Generator], Question | None], float], ...] = (
    (_existence, 0.17),
    (_count, 0.09),
    (_color, 0.13),
    (_shape, 0.12),
    (_relation, 0.12),
    (_size, 0.04),
    (_verify_color, 0.05),
    (_choose_color, 0.04),
    (_choose_relation, 0.04),
    (_related_color, 0.11),
    (_logical, 0.04),
    (_same_color, 0.05),
)
"""Each kind with how often it is tried; a scene that gives no such question is asked another."""
_SHARES = tuple(share for _, share in _MAKERS)
