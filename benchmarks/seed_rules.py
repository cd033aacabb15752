"""SEED-Bench's verdicts and tables: by the letter that a model writes, and by the likelihood of each option's text.

Source: Li et al., "SEED-Bench" (arXiv 2307.16125), section 3.3 (answer ranking); AILab-CVC/SEED-Bench @ 991e849b, eval.py;
open-compass/VLMEvalKit @ e8e78f05 and @ 8f2b1f0b; EvolvingLMMs-Lab/lmms-eval @ 75571cfe, tasks/seedbench/utils.py;
haotian-liu/LLaVA @ c121f043, scripts/convert_seed_for_submission.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jfeval.benchmarks.mmbench_options import Choices, Inference, as_stored, infer
from jfeval.errors import unknown
from jfeval.stats import Estimate, clustered_mean

DIMENSIONS: dict[int, str] = {
    1: "Scene Understanding",
    2: "Instance Identity",
    3: "Instance Attributes",
    4: "Instance Location",
    5: "Instances Counting",
    6: "Spatial Relation",
    7: "Instance Interaction",
    8: "Visual Reasoning",
    9: "Text Understanding",
    10: "Action Recognition",
    11: "Action Prediction",
    12: "Procedure Understanding",
}
"""Evaluation dimensions by number. Source: AILab-CVC/SEED-Bench, SEED-Bench.json, key question_type."""
IMAGE_DIMENSIONS: tuple[str, ...] = tuple(name for number, name in DIMENSIONS.items() if number <= 9)
LETTERS = "ABCD"
OFFICIAL_SUMMARY_ERROR = "KeyError: 'gt'"
"""How the official script ends after the last question: its records lack what its summary reads. Its numbers here are those that it prints
once the records hold both fields. Source: AILab-CVC/SEED-Bench @ 991e849b, eval.py, run_inference."""

LetterScorer: TypeAlias = Literal["vlmevalkit-nov2024", "vlmevalkit-head", "lmms-eval", "llava"]
LETTER_SCORERS: tuple[LetterScorer, ...] = get_args(LetterScorer)


@dataclass(frozen=True, kw_only=True)
class Read:
    """What a scorer reads in one answer."""

    letter: str
    """An option's letter in upper case; anything else (nothing, a word, another sign) is wrong."""
    ambiguous: bool = False
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class DimensionVerdict:
    """One scored question."""

    dimension: str
    hit: float
    """1 where it is right, 0 where it is not; of a guess, how likely it is right."""
    cluster: str
    """Questions of one cluster (those about one image) are not independent."""


@dataclass(frozen=True, kw_only=True)
class DimensionTable:
    """Accuracy as shares in [0, 1]."""

    overall: Estimate
    """Over all questions together (micro): dimensions differ in size by a factor of fifty."""
    dimensions: dict[str, Estimate]
    """By name, in the official order, for those that have a question."""


def read_letter(answer: str, choices: Choices, scorer: LetterScorer) -> Read:
    """Read the option that an answer names.

    Args:
        answer: The model's text.
        choices: The row's options; only VLMEvalKit's rules look at them.
        scorer: Whose rules. ``llava`` strips the text, as LLaVA does at generation; its scorer alone is `llava_letter`.

    Raises:
        UserError: An unknown scorer.
    """
    if scorer == "vlmevalkit-nov2024" or scorer == "vlmevalkit-head":
        return _of_inference(infer(as_stored(answer), choices, scorer))
    if scorer == "lmms-eval":
        return Read(letter=first_character(answer).upper())
    if scorer == "llava":
        return Read(letter=llava_letter(answer.strip()))
    raise unknown("letter scorer of seed", scorer, LETTER_SCORERS)


def first_character(answer: str) -> str:
    """Return what lmms-eval keeps of an answer, which it compares without regard to case: "Because" is B, "(B)" is a bracket.

    Source: lmms-eval @ 75571cfe, tasks/seedbench/utils.py, seed_process_result.
    """
    return answer.strip()[:1]


def llava_letter(text: str) -> str:
    """Return the letter of a text that is nothing but one; LLaVA compares the whole text: "B." is wrong."""
    return text if text in tuple(LETTERS) else ""


def rank(losses: Sequence[float]) -> str:
    """Return the option of the smallest loss; of equal ones the first, where torch.argsort leaves the order open.

    Raises:
        ValueError: Not one finite loss for each of the four options.
    """
    if len(losses) != len(LETTERS) or not all(math.isfinite(loss) for loss in losses):
        raise ValueError(f"need {len(LETTERS)} finite losses, one for each option, got {list(losses)}")
    return LETTERS[min(range(len(losses)), key=losses.__getitem__)]


def dimension_table(verdicts: Sequence[DimensionVerdict]) -> DimensionTable:
    """Return accuracy over all questions and by dimension, with intervals over clusters.

    A dimension without a right answer counts as 0, where LLaVA's and the official summary stop with a KeyError.

    Raises:
        ValueError: Nothing to average.
    """
    by_name: dict[str, list[DimensionVerdict]] = {}
    for verdict in verdicts:
        by_name.setdefault(verdict.dimension, []).append(verdict)
    known = [name for name in DIMENSIONS.values() if name in by_name]
    others = sorted(set(by_name) - set(known))
    return DimensionTable(overall=_estimate(verdicts), dimensions={name: _estimate(by_name[name]) for name in [*known, *others]})


def _of_inference(found: Inference) -> Read:
    return Read(letter=found.letter, ambiguous=found.ambiguous, refused=found.by == "refusal")


def _estimate(verdicts: Sequence[DimensionVerdict]) -> Estimate:
    return clustered_mean([float(verdict.hit) for verdict in verdicts], [verdict.cluster for verdict in verdicts])
