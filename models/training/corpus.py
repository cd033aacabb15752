"""The training texts of a decoded data part: captions, questions with answers, and plain text, in the published chat form."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jfeval.models.training.data import Question, Scenes, StepRng

TURN = "User: {question}\n\nAssistant:"
"""The chat form without a system prompt. Source: deepseek-ai/Janus @ 1daa72f, janus/utils/conversation.py, template ``deepseek``."""


def plain_texts(folder: Path) -> list[str]:
    """Return the plain text of a data part."""
    return pq.read_table(folder / "text.parquet").column("text").to_pylist()


def chat(question: str, answer: str) -> str:
    """Put one exchange into the chat form; the reply follows the colour after one space."""
    return f"{TURN.format(question=question)} {answer}"


def vocabulary_texts(scenes: Scenes, texts: list[str], limit: int) -> Iterator[str]:
    """Yield the texts a vocabulary is counted on: everything of the first `limit` scenes, and the plain texts."""
    for count, (captions, questions) in enumerate(zip(scenes.all_captions(), scenes.all_questions(), strict=True)):
        if count >= limit:
            break
        yield from captions
        for asked in questions:
            yield chat(asked.question, asked.answer)
    yield from texts[: 5 * limit]


def draw_document(scenes: Scenes, texts: list[str], row: int, rng: StepRng, shares: tuple[float, float, float]) -> str:
    """Draw one document for a language model: a caption, an exchange about a described scene, or a plain text.

    Args:
        scenes: The training scenes.
        texts: Plain texts.
        row: Which scene, or, modulo their number, which text.
        rng: Draws the kind and the wording.
        shares: Probabilities of caption, exchange and plain text; they sum to 1.
    """
    kind = int(rng.numpy.choice(3, p=np.asarray(shares)))
    if kind == 2 and texts:
        return texts[row % len(texts)]
    captions = scenes.captions(row)
    caption = captions[int(rng.numpy.integers(len(captions)))]
    if kind == 1:
        questions: list[Question] = scenes.questions(row)
        if questions:
            asked = questions[int(rng.numpy.integers(len(questions)))]
            return chat(asked.question, asked.answer)
    return caption
