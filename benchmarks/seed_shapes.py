"""SEED-Bench's questions in the synthetic world, in the official JSON's form: the dimensions that flat shapes can express."""

from functools import partial

from jfeval.benchmarks.seed_rows import CHOICES
from jfeval.benchmarks.seed_rules import LETTERS
from jfeval.benchmarks.shapes.choices import choice_question
from jfeval.benchmarks.shapes.render import render_png
from jfeval.benchmarks.understanding.media import Published
from jfeval.schema import JsonObject

PER_DIMENSION = 44
"""Questions of each dimension: more than 300 in all."""

KINDS: dict[int, tuple[str, ...]] = {
    1: ("description",),
    2: ("presence", "shape"),
    3: ("color", "property"),
    4: ("place",),
    5: ("count",),
    6: ("side",),
    8: ("removal",),
}
"""Number of the dimension and kinds of question, in turn. Instance Interaction and Text Understanding have no counterpart."""


def published_rows(seed: int) -> tuple[Published, ...]:
    """Draw the edition's rows, one scene each."""
    rows = []
    for dimension, kinds in KINDS.items():
        for number in range(PER_DIMENSION):
            question = choice_question(kinds[number % len(kinds)], seed=seed, index=number, stream="seed")
            identity = f"{dimension}{number:03d}"
            reference: JsonObject = {
                "question_id": identity,
                "question_type_id": dimension,
                "data_type": "image",
                "data_id": f"shapes_{seed}_{identity}",
                "question": f"{question.hint} {question.question}".strip(),
                **dict(zip(CHOICES, question.options, strict=True)),
                "answer": LETTERS[question.answer],
            }
            where = f"seed (shapes), seed {seed}, question {identity}"
            rows.append(Published(reference=reference, where=where, image=partial(render_png, question.scene), image_key=identity))
    return tuple(rows)
