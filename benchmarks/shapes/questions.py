"""Questions about a scene with short ground-truth answers, and the texts that a language model learns from.

Yes and no are equally frequent within every kind that has them. An object is named so that no other fits, and a relation is asked only
where it clearly holds or clearly does not. Nothing names a held-out colour-shape pair unless the scene itself holds one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from jfeval.benchmarks.shapes import naming
from jfeval.benchmarks.shapes.language import (
    OPPOSITE,
    Mention,
    caption,
    list_phrase,
    plural,
    relation_phrase,
    with_article,
)
from jfeval.benchmarks.shapes.scene import Kind, Scene, pick, sample_scene
from jfeval.benchmarks.shapes.world import FULL, World

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


def sentence(rng: np.random.Generator, world: World = FULL) -> str:
    """Draw one text for a language model: a description of a training scene, half of the time with a question and its answer.

    The description names all that the question needs: sizes for a question of size, the relation for a question of relation.
    """
    scene = sample_scene(rng, "train", world)
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


def _absent_kinds(scene: Scene) -> list[Kind]:
    """List the pairs that are not in a scene but share a colour or a shape with it: the hard negatives."""
    colors, shapes = {color for color, _ in scene.kinds}, {shape for _, shape in scene.kinds}
    world = scene.world
    held_out = world.held_out.isdisjoint(scene.kinds)
    near: list[Kind] = [(color, shape) for color in world.colors for shape in world.shapes if color in colors or shape in shapes]
    return [kind for kind in near if kind not in scene.kinds and not (held_out and kind in world.held_out)]


def _existence(scene: Scene, rng: np.random.Generator) -> Question:
    form = pick(rng, _EXISTENCE_FORMS)
    level = pick(rng, ("shape", "color", "kind"), (0.25, 0.15, 0.6))
    if rng.random() < 0.5:
        color, shape = pick(rng, scene.kinds)
        answer = "yes"
    else:
        color, shape = pick(rng, _absent_kinds(scene))
        if level != "kind":
            color = pick(rng, [c for c in scene.world.colors if all(c != other for other, _ in scene.kinds)])
            shape = pick(rng, [s for s in scene.world.shapes if all(s != other for _, other in scene.kinds)])
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


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    pair = naming.related(scene, rng)
    if pair is None:
        return None
    (first, relation, second), answer = pair, "yes"
    if rng.random() < 0.5:
        relation, answer = OPPOSITE[relation], "no"
    return Question(question=f"Is the {first} {relation} the {second}?", answer=answer, kind="relation")


def _size(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = pick(rng, scene.things)
    name = naming.name(thing, scene)
    return None if name is None else Question(question=f"What size is the {name}?", answer=thing.size, kind="size")


def _verify_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    drawn = naming.wrong_color(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    color, answer = (thing.color, "yes") if rng.random() < 0.5 else (other, "no")
    return Question(question=f"Is the {thing.shape} {color}?", answer=answer, kind="verify_color")


def _choose_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    drawn = naming.wrong_color(scene, rng)
    if drawn is None:
        return None
    thing, other = drawn
    first, second = (thing.color, other) if rng.random() < 0.5 else (other, thing.color)
    return Question(question=f"Is the {thing.shape} {first} or {second}?", answer=thing.color, kind="choose_color")


def _choose_relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    pair = naming.related(scene, rng)
    if pair is None:
        return None
    subject, relation, target = pair
    first, second = (relation, OPPOSITE[relation]) if rng.random() < 0.5 else (OPPOSITE[relation], relation)
    return Question(question=f"Is the {subject} {first} or {second} the {target}?", answer=relation, kind="choose_relation")


def _related_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    found = naming.neighbor(scene, rng)
    if found is None:
        return None
    thing, relation, target = found
    return Question(question=f"What color is the object {relation} the {target}?", answer=thing.color, kind="related_color")


def _logical(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Ask for two shapes, joined by "and" or "or"."""
    word: Literal["and", "or"] = pick(rng, ("and", "or"))
    right = rng.random() < 0.5
    pair = naming.two_shapes(scene, rng, word, right)
    if pair is None:
        return None
    first, second = pair if rng.random() >= 0.5 else (pair[1], pair[0])
    text = f"Is there {with_article(first)} {word} {with_article(second)} in the image?"
    return Question(question=text, answer="yes" if right else "no", kind="logical")


def _same_color(scene: Scene, rng: np.random.Generator) -> Question | None:
    if len(scene.things) < 2:
        return None
    first, second = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    unnamed = not (naming.alone(first, scene) and naming.alone(second, scene))
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
