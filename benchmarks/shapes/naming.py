"""How objects of a scene are named so that no other fits, and pairs of them that something can be asked about.

Questions for training and questions of benchmarks are made of these.
"""

from typing import Literal

import numpy as np

from jfeval.benchmarks.shapes.language import CLEAR_RELATION, OPPOSITE, clear_relations
from jfeval.benchmarks.shapes.scene import Color, Relation, Scene, Shape, Thing, pick, relation_holds


def alone(thing: Thing, scene: Scene) -> bool:
    """Tell whether an object is the only one of its shape."""
    return sum(other.shape == thing.shape for other in scene.things) == 1


def name(thing: Thing, scene: Scene) -> str | None:
    """Name an object so that no other fits: "star", else "red star"; None where two are alike in both."""
    if alone(thing, scene):
        return thing.shape
    return " ".join(thing.kind) if scene.kinds.count(thing.kind) == 1 else None


def related(scene: Scene, rng: np.random.Generator) -> tuple[str, Relation, str] | None:
    """Draw two objects and a clear relation between them; None where one cannot be named or no relation is clear."""
    if len(scene.things) < 2:
        return None
    subject, target = (scene.things[i] for i in rng.permutation(len(scene.things))[:2])
    relations, first, second = clear_relations(subject, target), name(subject, scene), name(target, scene)
    if not relations or first is None or second is None:
        return None
    return first, pick(rng, relations), second


def neighbor(scene: Scene, rng: np.random.Generator) -> tuple[Thing, Relation, str] | None:
    """Draw the one object that stands in a relation to another, which is named; None where a third object comes near to it."""
    target = pick(rng, scene.things)
    relation: Relation = pick(rng, tuple(OPPOSITE))
    near = [thing for thing in scene.things if thing is not target and relation_holds(thing, relation, target, least=0.0)]
    named = name(target, scene)
    if named is None or len(near) != 1 or not relation_holds(near[0], relation, target, least=CLEAR_RELATION):
        return None
    return near[0], relation, named


def wrong_color(scene: Scene, rng: np.random.Generator) -> tuple[Thing, Color] | None:
    """Draw an object that its shape alone names, and a colour it has not, half of the time one that the scene has."""
    thing = pick(rng, scene.things)
    if not alone(thing, scene):
        return None
    world = scene.world
    others: list[Color] = [color for color in world.colors if color != thing.color and (color, thing.shape) not in world.held_out]
    near: list[Color] = [color for color in others if any(other.color == color for other in scene.things)]
    return thing, pick(rng, near if near and rng.random() < 0.5 else others)


def two_shapes(scene: Scene, rng: np.random.Generator, word: Literal["and", "or"], right: bool) -> tuple[Shape, Shape] | None:
    """Draw two shapes of which it is right, or wrong, that both ("and") or one ("or") are there; None where a scene has but one shape."""
    there: list[Shape] = sorted({thing.shape for thing in scene.things})
    absent: list[Shape] = [shape for shape in scene.world.shapes if shape not in there]
    if word == "and":
        if len(there) < 2:
            return None
        first = pick(rng, there)
        return first, pick(rng, [shape for shape in (there if right else absent) if shape != first])
    second = pick(rng, absent)
    return (pick(rng, there) if right else pick(rng, [shape for shape in absent if shape != second])), second
