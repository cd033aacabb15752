"""What is said about a scene: captions that mention every object, and questions with ground-truth answers.

Captions are true and complete: every object is in them and counts are exact, while colours, sizes and relations may be left out.
A relation is said only where it holds by GenEval's rule with room to spare. Nothing here names a held-out colour-shape pair unless
the scene itself holds one.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from jfeval.benchmarks.shapes.scene import (
    COLORS,
    HELD_OUT_PAIRS,
    RELATIONS,
    SHAPES,
    Kind,
    Relation,
    Scene,
    Thing,
    pick,
    relation_holds,
    sample_scene,
)

QuestionKind: TypeAlias = Literal["existence", "count", "color", "shape", "relation", "size"]

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five")

OFFICIAL_PREFIX = "a photo of "
"""Source: djghosh13/geneval @ af4902f, prompts/create_prompts.py."""
PREFIXES = (
    OFFICIAL_PREFIX,
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "a photo with ",
    "a picture with ",
    "an image with ",
    "a drawing with ",
)
_PREFIX_SHARES = (0.6, 0.08, 0.08, 0.08, 0.04, 0.04, 0.04, 0.04)
_BARE, _THERE_IS = 0.12, 0.04
CLEAR_RELATION = 0.62
"""Least cosine at which captions and questions state a relation; GenEval accepts 0.5."""
OPPOSITE: dict[Relation, Relation] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

_RELATION_SHARE = 0.45
_REPEAT = 0.1
"""How often a question drawn again for the same scene is kept, so that a scene with little to ask cannot be drawn from for ever."""
_SIZE_SHARE = 0.12
_EXISTENCE_FORMS = ("Is there {} in the image?", "Is there {}?", "Do you see {}?", "Does the image show {}?")
_COUNT_FORMS = ("How many {} are there?", "How many {} are in the image?", "How many {} do you see?")


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a picture, with its one-word answer."""

    question: str
    answer: str
    kind: QuestionKind


@dataclass(frozen=True, kw_only=True)
class Mention:
    """Which attributes a description names."""

    color: bool
    size: bool = False

    def words(self, thing: Thing) -> str:
        """Name one object, without an article: "large red circle"."""
        return " ".join([*([thing.size] if self.size else []), *([thing.color] if self.color else []), thing.shape])


def plural(noun: str) -> str:
    """Return the plural of a noun phrase of this world."""
    return noun + ("es" if noun.endswith("s") else "s")


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase of this world."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def counted(words: str, count: int) -> str:
    """Say how many: "a red circle", "three red circles"."""
    return with_article(words) if count == 1 else f"{NUMBER_WORDS[count]} {plural(words)}"


def joined(phrases: list[str]) -> str:
    """Join phrases: "A", "A and B", "A, B and C"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def clear_relations(subject: Thing, target: Thing) -> list[Relation]:
    """List the relations of one object to another that hold with room to spare."""
    return [relation for relation in RELATIONS if relation_holds(subject, relation, target, least=CLEAR_RELATION)]


def captions(scene: Scene, rng: np.random.Generator, n: int) -> list[str]:
    """Draw captions of a scene, different ones as far as its wordings allow.

    Args:
        scene: What is described.
        rng: Draws what is mentioned, in which order and in which words.
        n: How many.
    """
    found: list[str] = []
    for attempt in range(4 * n):
        text = _caption(scene, rng)
        if text not in found or attempt >= 3 * n:
            found.append(text)
        if len(found) == n:
            break
    return found


def questions(scene: Scene, rng: np.random.Generator, n: int) -> list[Question]:
    """Draw questions about a scene with their answers; existence and relation questions are yes as often as no."""
    found: list[Question] = []
    while len(found) < n:
        question = pick(rng, _MAKERS, _MAKER_SHARES)(scene, rng)
        if question is not None and (question not in found or rng.random() < _REPEAT):
            found.append(question)
    return found


def sentence(rng: np.random.Generator) -> str:
    """Draw one text for a language model: a description of a training scene, half of the time with a question and its answer.

    The description names all that the question needs: sizes for a question of size, the relation for a question of relation.
    """
    scene = sample_scene(rng, "train")
    if rng.random() < 0.5:
        return _caption(scene, rng)
    question = questions(scene, rng, 1)[0]
    if question.kind == "relation":
        phrase = _relation_phrase(scene, rng, Mention(color=True)) if len(scene.things) == 2 else None
        if phrase is None:
            question = _count(scene, rng)
        else:
            subject, relation, target = phrase
            asked, answer = (relation, "yes") if rng.random() < 0.5 else (OPPOSITE[relation], "no")
            return f"{with_article(subject)} {relation} {with_article(target)}. Is the {subject} {asked} the {target}? {answer}"
    return f"{_list_phrase(scene, rng, Mention(color=True, size=question.kind == 'size'))}. {question.question} {question.answer}"


def _caption(scene: Scene, rng: np.random.Generator) -> str:
    """Draw one caption: prefix and description."""
    alike = len(set(scene.kinds)) == 1 and len(scene.things) > 1
    mention = Mention(color=rng.random() < (0.5 if alike else 0.65), size=rng.random() < _SIZE_SHARE)
    body = None
    if len(scene.things) == 2 and rng.random() < _RELATION_SHARE:
        phrase = _relation_phrase(scene, rng, mention)
        if phrase is not None:
            subject, relation, target = phrase
            body = f"{with_article(subject)} {relation} {with_article(target)}"
    if body is None:
        body = _list_phrase(scene, rng, mention)
    style = rng.random()
    if style < _BARE:
        return body
    if style < _BARE + _THERE_IS:
        return f"there {'is' if body.startswith(('a ', 'an ')) else 'are'} {body}"
    return pick(rng, PREFIXES, _PREFIX_SHARES) + body


def _list_phrase(scene: Scene, rng: np.random.Generator, mention: Mention) -> str:
    """Name every object with counts, in random order: "two red circles and a star"."""
    groups = Counter(mention.words(thing) for thing in scene.things)
    phrases = [counted(words, count) for words, count in groups.items()]
    return joined([phrases[i] for i in rng.permutation(len(phrases))])


def _relation_phrase(scene: Scene, rng: np.random.Generator, mention: Mention) -> tuple[str, Relation, str] | None:
    """Name two objects and a clear relation between them; None where they read alike or no relation is clear."""
    subject, target = (scene.things[i] for i in rng.permutation(2))
    relations = clear_relations(subject, target)
    if not relations or mention.words(subject) == mention.words(target):
        return None
    return mention.words(subject), pick(rng, relations), mention.words(target)


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
    level = pick(rng, ("shape", "color", "kind"), (0.3, 0.2, 0.5))
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


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    if len(scene.things) < 2:
        return None
    subject, target = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relations = clear_relations(subject, target)
    first, second = _reference(subject, scene), _reference(target, scene)
    if not relations or first is None or second is None:
        return None
    relation, answer = pick(rng, relations), "yes"
    if rng.random() < 0.5:
        relation, answer = OPPOSITE[relation], "no"
    return Question(question=f"Is the {first} {relation} the {second}?", answer=answer, kind="relation")


def _size(scene: Scene, rng: np.random.Generator) -> Question | None:
    thing = pick(rng, scene.things)
    name = _reference(thing, scene)
    return None if name is None else Question(question=f"What size is the {name}?", answer=thing.size, kind="size")


_MAKERS: tuple[Callable[[Scene, np.random.Generator], Question | None], ...] = (_existence, _count, _color, _shape, _relation, _size)
_MAKER_SHARES = (0.34, 0.22, 0.16, 0.1, 0.12, 0.06)
