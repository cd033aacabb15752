"""DPG-Bench's rules: from answers to the score of one picture, under the official script's reading and a mended one.

Both ask every question and count a question only where its parents were answered yes. They differ where the official script does
something that its paper does not say:

=====================  ===========================================  =======================================
what                   ``official``                                 ``fixed``
=====================  ===========================================  =======================================
first row of the file  never asked                                  asked like any other
rows of an item        only the last run of contiguous rows         all
a parent's parent      counts where its row comes first             counts wherever its row stands
category numbers       raw answers about the last picture only      answers about all pictures, after the dependency rule
an id that is missing  the prompt drops out, if the walk meets it   refused when the file is read
=====================  ===========================================  =======================================

Source: TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench/compute_dpg_bench.py, prepare_dpg_data and compute_dpg_one_sample; issues 60 and 61
of that repository.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jfeval.benchmarks.dpg_rows import Question
from jfeval.errors import UserError, unknown
from jfeval.schema import JsonObject

Protocol: TypeAlias = Literal["official", "fixed"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

YES = "yes"
"""The only answer that counts; ``Yes`` and ``yes `` do not. Source: as above, compute_dpg_one_sample."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the answers about one picture amount to."""

    score: float
    """Share of questions that were answered yes and whose parents were, in [0, 1]."""
    answered: Mapping[int, bool]
    """Question's id to the raw answer, in the order of the questions."""
    counted: Mapping[int, bool]
    """The same after the dependency rule."""
    questions: Mapping[int, Question]

    @property
    def reason(self) -> str:
        """Return the questions that did not count, one a line; text of the question file appears in it."""
        lines = [
            f"{'a parent was not confirmed' if self.answered[number] else 'no'}: {self.questions[number].text}"
            for number, counted in self.counted.items()
            if not counted
        ]
        return "\n".join(lines)


class Dropped(Exception):  # noqa: N818
    """The official script would fail on this prompt and leave it out of every mean."""


def judge_picture(questions: Sequence[Question], answers: Sequence[str], *, protocol: str) -> Picture:
    """Score one picture.

    Args:
        questions: All rows of the item in the order of the file.
        answers: The raw answer to each of them.
        protocol: ``official`` or ``fixed``.

    Raises:
        Dropped: Official only: no row of the item counts, or a parent is missing.
        UserError: An unknown protocol, or not one answer a question.
    """
    if protocol not in PROTOCOLS:
        raise unknown("protocol of dpg", protocol, PROTOCOLS)
    if len(questions) != len(answers):
        raise UserError(
            f"{len(answers)} answers for {len(questions)} questions: they are of another question file; judge these images again"
        )
    official = protocol == "official"
    kept = _official_rows(questions) if official else range(len(questions))
    asked: dict[int, Question] = {}
    answered: dict[int, bool] = {}
    for index in kept:  # an id that comes twice keeps its first place and takes its last row
        asked[questions[index].number] = questions[index]
        answered[questions[index].number] = answers[index] == YES
    if not asked:
        raise Dropped("no row of this item counts")
    counted = _in_file_order(asked, answered) if official else _through_ancestors(asked, answered)
    return Picture(score=sum(counted.values()) / len(counted), answered=answered, counted=counted, questions=asked)


def read_answers(observation: JsonObject, *, where: str) -> list[str]:
    """Read a judge's answers about one picture.

    Raises:
        UserError: The observation is not a list of texts under ``answers``.
    """
    answers = observation.get("answers")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise UserError(f"{where}: an observation of dpg is {{'answers': [text, ...]}}, one for each question")
    return [str(answer) for answer in answers]


def _official_rows(questions: Sequence[Question]) -> list[int]:
    """List the rows that the official script keeps: not the file's first, and of an item's runs only the last."""
    start = 0
    for index in range(1, len(questions)):
        if questions[index].row != questions[index - 1].row + 1:
            start = index
    return [index for index in range(start, len(questions)) if questions[index].row > 0]


def _in_file_order(asked: Mapping[int, Question], answered: Mapping[int, bool]) -> dict[int, bool]:
    """Walk once through the file: a parent counts as it stands when its child's turn comes, and the first bad one ends the search."""
    counted = dict(answered)
    for number, question in asked.items():
        for parent in question.parents:
            if parent not in counted:
                raise Dropped(f"proposition {number} depends on {parent}, which is missing")
            if not counted[parent]:
                counted[number] = False
                break
    return counted


def _through_ancestors(asked: Mapping[int, Question], answered: Mapping[int, bool]) -> dict[int, bool]:
    """Count a question where it and all its ancestors were answered yes."""
    counted = dict(answered)
    changed = True
    while changed:
        changed = False
        for number, question in asked.items():
            if counted[number] and not all(counted.get(parent, False) for parent in question.parents):
                counted[number] = False
                changed = True
    return counted
