"""POPE's rules: what an answer says under each published scorer, and the numbers counted from that.

===================  =====================================================================  ==========================================
scorer               what counts as "no"                                                    what counts as neither
===================  =====================================================================  ==========================================
``official``         a word ``No``, ``no`` or ``not`` before the first full stop            nothing: all else, even silence, is "yes"
``llava``            the same, on the answer without white space around it                  nothing
``vlmevalkit-*``     the word "no" in any case, punctuation aside, and no word "yes"        both words, or neither
``lmms-eval``        the whole answer is "no" in any case                                   anything but exactly "yes" or "no"
===================  =====================================================================  ==========================================

Source: RUCAIBox/POPE @ 3df3ba1b, evaluate.py; haotian-liu/LLaVA @ c121f043, llava/eval/eval_pope.py; open-compass/VLMEvalKit @ 8f2b1f0b
(Nov 2024) and e8e78f05 (HEAD), vlmeval/dataset/utils/yorn.py and vqa_eval.py; EvolvingLMMs-Lab/lmms-eval @ 75571cfe, tasks/pope/utils.py.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from jfeval.benchmarks.mmbench_options import as_stored
from jfeval.benchmarks.understanding.protocols import ScorerName
from jfeval.benchmarks.understanding.ratios import Ratio, Row, ratio_of_counts

Said: TypeAlias = Literal["yes", "no", "neither"]
Figure: TypeAlias = Literal["accuracy", "precision", "recall", "f1", "yes_ratio"]
FIGURES: tuple[Figure, ...] = get_args(Figure)

_OFFICIAL_NO = frozenset({"No", "no", "not"})
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
"""Source: VLMEvalKit, vqa_eval.py, `punct`."""
_DIGITS_WITH_COMMA = re.compile(r"\d,\d")
_LOOSE_STOP = re.compile(r"\.(?!\d)")
_MOST_STOPS = 32
"""The original passes re.UNICODE, which is 32, where the number of replacements stands."""


def official(answer: str) -> Said:
    """Read an answer by the official script: "no" where a word before the first full stop is No, no or not; else "yes".

    Words are what single spaces separate, commas deleted; other white space and punctuation stay part of a word.
    """
    words = answer.split(".", 1)[0].replace(",", "").split(" ")
    return "yes" if _OFFICIAL_NO.isdisjoint(words) else "no"


def llava(answer: str) -> Said:
    """Read an answer by LLaVA's script: the official rule, on answers that were stripped when they were generated."""
    return official(answer.strip())


def vlmevalkit(answer: str) -> Said:
    """Read an answer by VLMEvalKit's function, without a judge: the one of the words yes and no that occurs."""
    words = without_punctuation(answer.lower()).split()
    yes, no = "yes" in words, "no" in words
    if yes == no:
        return "neither"
    return "yes" if yes else "no"


def vlmevalkit_stored(answer: str) -> Said:
    """Read an answer as a run of VLMEvalKit does, where answers pass through a spreadsheet."""
    return vlmevalkit(as_stored(answer))


def lmms_eval(answer: str) -> Said:
    """Read an answer by lmms-eval: it must be yes or no and nothing more."""
    text = answer.lower().strip()
    return text if text in ("yes", "no") else "neither"


SCORERS: Mapping[str, Callable[[str], Said]] = {
    "llava": llava,
    "official": official,
    "vlmevalkit-nov2024": vlmevalkit_stored,
    "vlmevalkit-head": vlmevalkit_stored,
    "lmms-eval": lmms_eval,
}
"""The two states of VLMEvalKit read POPE alike."""


def without_punctuation(text: str) -> str:
    """Take punctuation out as VLMEvalKit's VQA code does.

    Each mark is deleted where it stands next to a space anywhere in the text, or where the text holds digit-comma-digit; else it becomes
    a space. Then full stops that no digit follows are deleted, 32 of them at most.
    """
    joined = _DIGITS_WITH_COMMA.search(text) is not None
    out = text
    for mark in _MARKS:
        out = out.replace(mark, "" if joined or f"{mark} " in text or f" {mark}" in text else " ")
    return _LOOSE_STOP.sub("", out, count=_MOST_STOPS)


class Answered(NamedTuple):
    """One question with what was said."""

    label: Literal["yes", "no"]
    said: Said
    cluster: Hashable = None
    """The image."""


def figures(rows: Iterable[Answered], scorer: ScorerName | str) -> dict[Figure, Ratio]:
    """Count accuracy, precision, recall, F1 and yes-ratio; "yes" is the positive class.

    A number whose denominator is 0 is 0. Differs: the official script stops with a division by zero there.

    lmms-eval departs in two: recall (and so F1) leaves out answers that are neither yes nor no, and its yes-ratio is that of the labels.
    """
    counts = Counter(rows)
    strict = scorer == "lmms-eval"
    tops_and_bottoms: dict[Figure, Callable[[Answered], tuple[float, float]]] = {
        "accuracy": lambda r: (float(r.said == r.label), 1.0),
        "precision": lambda r: (_hit(r), _said_yes(r)),
        "recall": lambda r: (_hit(r), _relevant(r, strict=strict)),
        "f1": lambda r: (2 * _hit(r), _said_yes(r) + _relevant(r, strict=strict)),
        "yes_ratio": lambda r: (float(r.label == "yes") if strict else _said_yes(r), 1.0),
    }
    found: dict[Figure, Ratio] = {}
    for name, parts in tops_and_bottoms.items():
        parted: Counter[Row] = Counter()
        for row, count in counts.items():
            parted[*parts(row), row.cluster] += count
        found[name] = ratio_of_counts(parted)
    return found


def _hit(row: Answered) -> float:
    return float(row.said == "yes" and row.label == "yes")


def _said_yes(row: Answered) -> float:
    return float(row.said == "yes")


def _relevant(row: Answered, *, strict: bool) -> float:
    return float(row.label == "yes" and not (strict and row.said == "neither"))
