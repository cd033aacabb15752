"""What is said about a scene: captions that mention every object. Questions are in `jfeval.benchmarks.shapes.questions`.

Captions are true and complete: every object is in them and counts are exact, while colours, sizes and relations may be left out.
A relation is said only where it holds by GenEval's rule with room to spare. Nothing here names a held-out colour-shape pair unless
the scene itself holds one.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from jfeval.benchmarks.shapes.scene import RELATIONS, Relation, Scene, Thing, pick, relation_holds
from jfeval.benchmarks.shapes.world import FULL, OFFICIAL_PREFIX

__all__ = ["OFFICIAL_PREFIX", "PREFIXES"]

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five")

PREFIXES = FULL.wording.prefixes
"""Of the full world."""
CLEAR_RELATION = 0.62
"""Least cosine at which captions and questions state a relation; GenEval accepts 0.5."""
OPPOSITE: dict[Relation, Relation] = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


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
        text = caption(scene, rng)
        if text not in found or attempt >= 3 * n:
            found.append(text)
        if len(found) == n:
            break
    return found


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Draw one caption: prefix and description."""
    alike = len(set(scene.kinds)) == 1 and len(scene.things) > 1
    wording = scene.world.wording
    mention = Mention(color=rng.random() < (wording.color_alike if alike else wording.color), size=rng.random() < wording.size)
    body = None
    if len(scene.things) == 2 and rng.random() < wording.relation:
        phrase = relation_phrase(scene, rng, mention)
        if phrase is not None:
            subject, relation, target = phrase
            body = f"{with_article(subject)} {relation} {with_article(target)}"
    if body is None:
        body = list_phrase(scene, rng, mention)
    style = rng.random()
    if style < wording.bare:
        return body
    if style < wording.bare + wording.there_is:
        return f"there {'is' if body.startswith(('a ', 'an ')) else 'are'} {body}"
    return pick(rng, wording.prefixes, wording.prefix_shares) + body


def list_phrase(scene: Scene, rng: np.random.Generator, mention: Mention) -> str:
    """Name every object with counts, in random order: "two red circles and a star"."""
    groups = Counter(mention.words(thing) for thing in scene.things)
    phrases = [counted(words, count) for words, count in groups.items()]
    return joined([phrases[i] for i in rng.permutation(len(phrases))])


def relation_phrase(scene: Scene, rng: np.random.Generator, mention: Mention) -> tuple[str, Relation, str] | None:
    """Name two objects and a clear relation between them; None where they read alike or no relation is clear."""
    subject, target = (scene.things[i] for i in rng.permutation(2))
    relations = clear_relations(subject, target)
    if not relations or mention.words(subject) == mention.words(target):
        return None
    return mention.words(subject), pick(rng, relations), mention.words(target)
