"""GQA in the synthetic world: compositional questions about coloured shapes, each with its types, its group and its program.

Rows have the official form; the kinds of question are in `gqa_kinds`.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from jfeval.benchmarks.gqa_kinds import COUNTS, Draft, Maker
from jfeval.benchmarks.gqa_rows import Row, parse_row
from jfeval.benchmarks.shapes.render import render_png
from jfeval.benchmarks.shapes.scene import Scene, sample_scene, scene_rng
from jfeval.benchmarks.shapes.world import FULL, World
from jfeval.schema import Json, JsonObject

PER_IMAGE = 4
_PER_SMALL_IMAGE = 2
"""In a world whose scenes hold few objects, which few kinds of question fit together."""
_FEW_OBJECTS = 3
_TRIES = 12
"""Draws of one kind of question from one scene before another scene is drawn."""


def gqa_questions(seed: int, world: World = FULL) -> dict[str, tuple[JsonObject, Scene]]:
    """Draw one seed's questions in the official form, four to a picture (two in a small world), each with its scene, by question id."""
    per_image = PER_IMAGE if world.most_objects > _FEW_OBJECTS else _PER_SMALL_IMAGE
    deck = [(maker, bool(i % 2)) for maker, count in COUNTS.items() for i in range(count)]
    order = scene_rng(seed, "gqa/deck", 0).permutation(len(deck))
    found: dict[str, tuple[JsonObject, Scene]] = {}
    for index in range(len(deck) // per_image):
        wanted = [deck[i] for i in order[index * per_image : (index + 1) * per_image]]
        scene, drafts = _picture(wanted, scene_rng(seed, "gqa", index), world)
        for number, draft in enumerate(drafts):
            found[f"{seed}{index:04d}{number}"] = (_official(draft, f"{world.name}_{seed}_{index:06d}"), scene)
    return found


def gqa_rows(seed: int, world: World = FULL) -> list[Row]:
    """Draw one seed's questions; every picture is a test scene, which no training scene resembles."""
    rows = []
    for key, (official, scene) in gqa_questions(seed, world).items():
        row = parse_row(key, official, where=f"gqa ({world.name}), seed {seed}, question {key}", reader=partial(render_png, scene))
        rows.append(row)
    return rows


def _picture(wanted: Sequence[tuple[Maker, bool]], rng: np.random.Generator, world: World) -> tuple[Scene, list[Draft]]:
    """Draw scenes until one gives a question of every kind that is wanted, all different."""
    while True:
        scene = sample_scene(rng, "test", world)
        drafts: list[Draft] = []
        for maker, right in wanted if len(scene.things) > 1 else ():
            tries = (maker(scene, rng, right) for _ in range(_TRIES))
            draft = next((one for one in tries if one is not None and all(one.question != other.question for other in drafts)), None)
            if draft is None:
                break
            drafts.append(draft)
        if len(drafts) == len(wanted):
            return scene, drafts


def _official(draft: Draft, image: str) -> JsonObject:
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
