"""A file of ready answers in place of a model: JSON Lines, or a JSON list, of objects with an id and an answer.

::

    {"id": "random-1", "prediction": "Yes"}

The id may also stand under ``question_id`` or ``questionId``, the answer under ``text`` or ``answer``.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.errors import UserError
from jfeval.schema import JsonObject, TextRequest

ID_FIELDS = ("id", "question_id", "questionId")
ANSWER_FIELDS = ("prediction", "text", "answer")
MAX_ANSWER = 100_000
"""Longest answer, in characters."""
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the answers are."""

    path: Path | None = None
    """The file of answers."""


def load(settings: Settings) -> "ReadyAnswers":
    """Your own answers, one JSON object a line: {"id": "random-1", "prediction": "Yes"}.

    Raises:
        UserError: No file is named, or it is malformed.
    """
    if settings.path is None:
        raise UserError("model 'answers' needs the file of answers: --set path=FILE, or `jfeval score --answers FILE`")
    return ReadyAnswers(settings.path)


class ReadyAnswers:
    """Hands out answers by the id of their question; a missing one fails its question and no other.

    Args:
        path: The file of answers.
    """

    name = "answers"

    def __init__(self, path: Path) -> None:
        self._answers = read_answers(path)
        self._digest = hashlib.sha256(path.read_bytes()).hexdigest()

    def identity(self) -> JsonObject:
        """Return the file's hash."""
        return {"answers": len(self._answers), "sha256": self._digest}

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Return each question's answer.

        Raises:
            KeyError: The file has none for a question.
        """
        return [self._answers[request.sample_id] for request in requests]


def read_answers(path: Path) -> dict[str, str]:
    """Read answers by id.

    Raises:
        UserError: The file cannot be read, an id stands twice, or a field is missing or no text; names file, line and field.
    """
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for where, row in _rows(path):
        key, answer = _field(row, ID_FIELDS, where), _field(row, ANSWER_FIELDS, where)
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(key, str) or not key:
            raise UserError(f"{where}, field {ID_FIELDS[0]}: expected a text, found {str(key)[:40]!r}")
        if not isinstance(answer, str) or len(answer) > MAX_ANSWER:
            raise UserError(f"{where}, field {ANSWER_FIELDS[0]}: expected a text of at most {MAX_ANSWER} characters")
        if key in found:
            raise UserError(f"{where}, field {ID_FIELDS[0]}: {key[:80]!r} is answered twice, first in {places[key]}; keep one of the two")
        found[key], places[key] = answer, where
    if not found:
        raise UserError(f'{path} holds no answers; expected one object a line: {{"id": ..., "prediction": ...}}')
    return found


def check_ids(path: Path, answers: Mapping[str, str], asked: Collection[str]) -> None:
    """Compare the ids that are answered with those that are asked.

    Raises:
        UserError: Some are missing, or some are asked by no question; names the first of them.
    """
    missing = [key for key in asked if key not in answers]
    strange = [key for key in answers if key not in set(asked)]
    problems = []
    if missing:
        problems.append(f"too few: {len(missing)} of {len(asked)} questions have no answer, such as {_listed(missing)}")
    if strange:
        problems.append(f"too many: {len(strange)} answers are to no question, such as {_listed(strange)}")
    if problems:
        raise UserError(
            f"{path}: {'; '.join(problems)}. `jfeval data prompts` writes the questions with their ids; answers must be of the same "
            "benchmark, edition, seed and data"
        )


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(repr(key[:80]) for key in keys[:_NAMED])


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    whole = text.lstrip().startswith("[")
    for number, part in enumerate([text] if whole else text.split("\n"), start=1):
        if not part.strip():
            continue
        try:
            data = json.loads(part)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}{'' if whole else f', line {number}'}: not JSON ({error})") from error
        for index, row in enumerate(data if whole else [data], start=1):
            where = f"{path}, {f'item {index}' if whole else f'line {number}'}"
            if not isinstance(row, dict):
                raise UserError(f"{where}: expected an object with id and prediction, found {str(row)[:40]!r}")
            yield where, row


def _field(row: dict, names: Sequence[str], where: str) -> object:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise UserError(f"{where}: no field {names[0]} (or {', '.join(names[1:])})")
    return row[name]
