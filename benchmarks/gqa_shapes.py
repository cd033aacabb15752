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
from jfeval.schema import Json, JsonObject

PER_IMAGE = 4
_TRIES = 12
"""Draws of one kind of question from one scene before another scene is drawn."""


def gqa_questions(seed: int) -> dict[str, tuple[JsonObject, Scene]]:
    """Draw one seed's questions in the official form, four to a picture, each with its scene, by question id."""
    deck = [(maker, bool(i % 2)) for maker, count in COUNTS.items() for i in range(count)]
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


def _picture(wanted: Sequence[tuple[Maker, bool]], rng: np.random.Generator) -> tuple[Scene, list[Draft]]:
    """Draw scenes until one gives a question of every kind that is wanted, all different."""
    while True:
        scene = sample_scene(rng, "test")
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
