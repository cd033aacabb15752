"""MMBench's questions in the synthetic world: rows in the published form, every rotation of their options stored as a row."""

from functools import partial

from jfeval.benchmarks.mmbench_rows import LETTERS
from jfeval.benchmarks.mmbench_rules import ROTATION
from jfeval.benchmarks.shapes.choices import ChoiceQuestion, choice_question
from jfeval.benchmarks.shapes.render import render_png
from jfeval.benchmarks.understanding.media import Published
from jfeval.schema import JsonObject

PER_CATEGORY = 12
"""Questions of each leaf ability; with their rotations more than 300 rows."""

CATEGORIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("coarse_perception", "image_scene", ("description",)),
    ("finegrained_perception (instance-level)", "attribute_recognition", ("color", "shape", "size")),
    ("finegrained_perception (instance-level)", "object_localization", ("place",)),
    ("finegrained_perception (cross-instance)", "spatial_relationship", ("side",)),
    ("finegrained_perception (cross-instance)", "attribute_comparison", ("larger",)),
    ("attribute_reasoning", "physical_property_reasoning", ("property",)),
    ("relation_reasoning", "physical_relation", ("nearest",)),
    ("logic_reasoning", "future_prediction", ("removal",)),
)
"""L2 ability, leaf ability and kinds of question, in turn: those of the twenty leaf abilities that flat shapes can express."""


def published_rows(seed: int) -> tuple[Published, ...]:
    """Draw the edition's rows, base rows and rotations, in the order of their indices."""
    rows: list[Published] = []
    for place, (l2, category, kinds) in enumerate(CATEGORIES):
        for number in range(PER_CATEGORY):
            question = choice_question(kinds[number % len(kinds)], seed=seed, index=number, stream="mmbench")
            image = partial(render_png, question.scene)
            key = f"scene {place * PER_CATEGORY + number}"
            for shift in range(len(question.options)):
                index = place * PER_CATEGORY + number + shift * ROTATION
                reference = _reference(question, index, shift, l2, category)
                rows.append(Published(reference=reference, where=f"mmbench (shapes), seed {seed}, row {index}", image=image, image_key=key))
    return tuple(sorted(rows, key=lambda row: int(str(row.reference["index"]))))


def _reference(question: ChoiceQuestion, index: int, shift: int, l2: str, category: str) -> JsonObject:
    """Write a rotation: option A's text stands at B after one shift, and the answer moves with it."""
    count = len(question.options)
    texts = {LETTERS[(place + shift) % count]: text for place, text in enumerate(question.options)}
    return {
        "index": index,
        "question": question.question,
        "hint": question.hint,
        **{letter: texts.get(letter, "") for letter in LETTERS},
        "answer": LETTERS[(question.answer + shift) % count],
        "category": category,
        "l2-category": l2,
        "split": "dev",
    }
