"""GQA's rules: when an answer matches under each published scorer, and the official numbers that are not plain means.

====================  ==============================================================  ===========================================
scorer                the answer before it is compared                                the recorded answer before it is compared
====================  ==============================================================  ===========================================
``official``          as it stands                                                    as it stands
``llava``             white space around it and full stops at its end removed, lower  as it stands
``lmms-eval``         white space around it and ASCII punctuation removed, lower      ASCII punctuation removed, lower
``vlmevalkit-*``      white space around it removed, lower                            the same
====================  ==============================================================  ===========================================

None drops articles, plurals or synonyms. ``official`` and ``llava`` leave out questions that are not balanced; the others take every row.

Source: Hudson and Manning, "GQA" (arXiv 1902.09506), section 4.4; the official eval.py as in SHI-Labs/VCoder @ 4e85acef; haotian-liu/LLaVA
@ c121f043, scripts/convert_gqa_for_eval.py; EvolvingLMMs-Lab/lmms-eval @ 75571cfe, api/metrics.py, exact_match; open-compass/VLMEvalKit
@ 8f2b1f0b and e8e78f05, vlmeval/dataset/utils/vqa_eval.py.
"""

import math
import string
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jfeval.benchmarks.mmbench_options import as_stored
from jfeval.stats import Estimate

BALANCED_ONLY = frozenset({"official", "llava"})
"""Scorers that leave out questions which are not balanced."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NOT_STEPS = ("exist", "query: name", "choose name")
"""Source: eval.py, getStepsNum."""
_T_QUANTILE = 0.975


@dataclass(frozen=True, kw_only=True)
class Matcher:
    """How a scorer prepares the two texts that it then compares for equality."""

    said: Callable[[str], str]
    gold: Callable[[str], str]


def llava_converted(answer: str) -> str:
    """Convert an answer as LLaVA's script does: full stops at the end off, lower case."""
    return answer.rstrip(".").lower()


def lmms_eval_said(answer: str) -> str:
    """Prepare an answer as lmms-eval does."""
    return answer.strip().lower().translate(_NO_PUNCTUATION)


def _same(text: str) -> str:
    return text


def _stripped_lower(text: str) -> str:
    return text.strip().lower()


VLMEVALKIT_FUNCTION = Matcher(said=_stripped_lower, gold=_stripped_lower)
"""VLMEvalKit's function by itself; in a run of it answers pass through a spreadsheet first."""
_VLMEVALKIT = Matcher(said=lambda text: _stripped_lower(as_stored(text)), gold=_stripped_lower)

SCORERS: Mapping[str, Matcher] = {
    "llava": Matcher(said=lambda text: llava_converted(text.strip()), gold=_same),
    "official": Matcher(said=_same, gold=_same),
    "vlmevalkit-nov2024": _VLMEVALKIT,
    "vlmevalkit-head": _VLMEVALKIT,
    "lmms-eval": Matcher(said=lmms_eval_said, gold=lambda text: text.lower().translate(_NO_PUNCTUATION)),
}
"""The two states of VLMEvalKit compare alike."""


def matches(matcher: Matcher, answer: str, gold: str) -> bool:
    """Tell whether an answer is right."""
    return matcher.said(answer) == matcher.gold(gold)


def steps(program: Iterable[Mapping[str, object]]) -> int:
    """Count the reasoning steps of a question's program: its operations but those that ask whether something exists or for a name.

    Source: eval.py, getStepsNum.
    """
    return sum(not any(text in f"{one['operation']}: {one['argument']}" for text in _NOT_STEPS) for one in program)


def words(question: str) -> int:
    """Count a question's words. Source: eval.py, getWordsNum."""
    return len(question.split())


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """One answer to a question that belongs to a group of similar ones (such as those about colour)."""

    group: str
    gold: str
    said: str
    cluster: Hashable = None


def distribution(rows: Sequence[Grouped]) -> Estimate:
    """Measure how far the answers given are distributed otherwise than the true ones: a chi-square, lower is better.

    ::

        sum over groups of n_g * sum over true answers a of (said_ga - gold_ga)^2 / gold_ga,   divided by 100 * sum of n_g

    with n_g questions in group g. The interval is from the jackknife over clusters (Efron, Annals of Statistics 9, 1981), and cut off at 0.

    Source: eval.py, chiSquare and "distribution".

    Raises:
        ValueError: No row is given.
    """
    if not rows:
        raise ValueError("need at least one answer in a group")
    gold: dict[str, Counter[str]] = {}
    said: dict[str, Counter[str]] = {}
    by_cluster: dict[Hashable, dict[str, list[Grouped]]] = {}
    for row in rows:
        gold.setdefault(row.group, Counter())[row.gold] += 1
        said.setdefault(row.group, Counter())[row.said] += 1
        by_cluster.setdefault(row.cluster, {}).setdefault(row.group, []).append(row)
    parts = {group: _chi_square(gold[group], said[group]) for group in gold}
    total, size = math.fsum(parts.values()), len(rows)
    value = total / size / 100
    without = []
    for own in by_cluster.values():
        left = size - sum(len(listed) for listed in own.values())
        if not left:
            continue
        change = 0.0
        for group, listed in own.items():
            less_gold = gold[group] - Counter(row.gold for row in listed)
            less_said = said[group] - Counter(row.said for row in listed)
            change += _chi_square(less_gold, less_said) - parts[group]
        without.append((total + change) / left / 100)
    return _jackknife(value, without, n=size)


def _chi_square(gold: Counter[str], said: Counter[str]) -> float:
    return gold.total() * math.fsum((said[answer] - count) ** 2 / count for answer, count in gold.items())


def _jackknife(value: float, without: Sequence[float], *, n: int) -> Estimate:
    from scipy.special import stdtrit

    groups = len(without)
    if groups < 2:
        return Estimate(value=value, se=None, ci_low=0.0, ci_high=math.inf, n=n, clusters=max(groups, 1))
    mean = math.fsum(without) / groups
    se = math.sqrt((groups - 1) / groups * math.fsum((one - mean) ** 2 for one in without))
    half = float(stdtrit(groups - 1, _T_QUANTILE)) * se
    return Estimate(value=value, se=se, ci_low=max(0.0, value - half), ci_high=value + half, n=n, clusters=groups, df=groups - 1)
