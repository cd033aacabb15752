"""The trivial baseline of understanding: the answer that training gives most often to the nearest question, whatever the picture shows.

What it scores is what the wording of a question gives away; a model that sees must do better.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.errors import UserError
from jfeval.models.adapters.nearest import SIMILARITY, BaselineSettings, TextIndex, training_files
from jfeval.schema import JsonObject, TextRequest


@dataclass(frozen=True, kw_only=True)
class Settings(BaselineSettings):
    """Where the questions and answers are."""


def load(settings: Settings) -> "MajorityAnswer":
    """The training answer most frequent for the nearest training question, without a look at the picture.

    Raises:
        UserError: No folder is named, or it holds no training scenes.
    """
    return MajorityAnswer(settings.folder(MajorityAnswer.name))


class MajorityAnswer:
    """Counts answers by question; those of questions that tie are added up, and answers that tie are taken by spelling.

    Args:
        data: Folder with ``scenes/train-*.parquet`` (column questions).
    """

    name = "majority-answer"

    def __init__(self, data: Path) -> None:
        self._answers = count_answers(training_files(data))
        if not self._answers:
            raise UserError(f"the training scenes in {data} come without questions")
        self._questions = sorted(self._answers)
        self._index = TextIndex(self._questions)
        self._digest = hashlib.sha256(json.dumps(self._answers, sort_keys=True).encode()).hexdigest()
        self._found: dict[str, str] = {}

    def identity(self) -> JsonObject:
        """Return the hash of the answers counted."""
        return {"model": self.name, "answers": self._digest, "recipe": {"similarity": SIMILARITY}}

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Return each question's answer."""
        return [self.most_frequent(request.question) for request in requests]

    def most_frequent(self, question: str) -> str:
        """Return the most frequent answer to a question; what stands after its question mark is an instruction and of no account."""
        asked = question.partition("?")[0]
        if asked not in self._found:
            counts: Counter[str] = Counter()
            for place in self._index.nearest(asked):
                counts.update(self._answers[self._questions[place]])
            self._found[asked] = min(counts, key=lambda answer: (-counts[answer], answer))
        return self._found[asked]


def count_answers(files: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Count the answers to every question of the scenes in some Parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, dict[str, int]] = {}
    for file in files:
        asked = pa.chunked_array([chunk.flatten() for chunk in pq.read_table(file, columns=["questions"]).column("questions").chunks])
        pairs = pa.Table.from_struct_array(asked).group_by(["question", "answer"]).aggregate([([], "count_all")])
        for row in pairs.to_pylist():
            counts = found.setdefault(row["question"], {})
            counts[row["answer"]] = counts.get(row["answer"], 0) + row["count_all"]
    return found
