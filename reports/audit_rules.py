"""Which figures a benchmark can give at all: counts of right answers over known numbers of rows, rounded.

A reading is one protocol's way to a figure. It says how the figure can have come about, or that it cannot; row numbers are those of the
published data.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_ROUND = 1e-9
"""Slack for the binary form of decimal numbers, as a share of one row."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The fractions that a printed figure can stand for, both ends included: a figure half-way may have been rounded either way."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The figure itself."""
        return (self.low + self.high) / 2

    def meets(self, other: "Span") -> bool:
        """Tell whether a figure can stand for both."""
        return self.low <= other.high + _ROUND and other.low <= self.high + _ROUND


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One protocol's way to a figure."""

    protocol: str
    explain: Callable[[Span], str]
    """Says how a figure in this span can come about; empty where it cannot."""
    rows: int = 0
    """How many steps the figure has from 0 to 1, where they are even; 0 where they are not."""


def count_of(protocol: str, rows: int) -> Reading:
    """Read the figure as the share of right ones among ``rows``."""

    def explain(span: Span) -> str:
        first, last = math.ceil(span.low * rows - _ROUND), math.floor(span.high * rows + _ROUND)
        first, last = max(first, 0), min(last, rows)
        if first > last:
            return ""
        return f"{first} of {rows}" if first == last else f"{first} to {last} of {rows}"

    return Reading(protocol=protocol, explain=explain, rows=rows)


def f1_of(protocol: str, positives: int, negatives: int) -> Reading:
    """Read the figure as an F1 over rows of which so many ask for a yes and so many for a no.

    With t right yeses and f wrong ones, F1 = 2 t / (t + f + positives).
    """

    def explain(span: Span) -> str:
        for right in range(positives, -1, -1):
            if right == 0:
                return f"no right yes of {positives}" if span.low <= _ROUND else ""
            fewest = max(0, math.ceil(2 * right / min(span.high, 1.0) - right - positives - _ROUND)) if span.high > 0 else negatives + 1
            most = negatives if span.low <= 0 else min(negatives, math.floor(2 * right / span.low - right - positives + _ROUND))
            if fewest <= most:
                return f"for example {right} of {positives} yeses right, {fewest} of {negatives} wrong"
        return ""

    return Reading(protocol=protocol, explain=explain)


def share(protocol: str, what: str) -> Reading:
    """Read the figure as a mean whose steps are finer than anything that is printed: any fraction will do."""

    def explain(span: Span) -> str:
        return what if span.high >= 0 and span.low <= 1 else ""

    return Reading(protocol=protocol, explain=explain)


GENEVAL_PROMPTS: Mapping[str, int] = {
    "single_object": 80,
    "two_object": 99,
    "counting": 80,
    "colors": 94,
    "position": 100,
    "color_attr": 100,
}
"""Source: djghosh13/geneval at af4902f24d3c, ``prompts/evaluation_metadata.jsonl``: 553 rows."""
GENEVAL_IMAGES = 4
DPG_PROMPTS = 1065
"""Source: TencentQQGYLab/ELLA, ``dpg_bench/prompts``."""
DPG_IMAGES = 4
POPE_SPLIT, POPE_OLD_SPLIT = 3000, 2910
"""Source: AoiDragon/POPE at 3df3ba1b: three splits of 3,000 questions, half of each to be answered with yes; at e3e39262 the random split
lacks 90 that are to be answered with no."""

_EACH, _ONE = "official: each of four images a prompt", "one image a prompt, or prompts with any of several right"
_prompts = sum(GENEVAL_PROMPTS.values())
_half = POPE_SPLIT // 2

_POPE_SHARES = (
    count_of("accuracy of one split", POPE_SPLIT),
    count_of("accuracy of the older random split", POPE_OLD_SPLIT),
    count_of("accuracy of three splits, together or on average", 3 * POPE_SPLIT),
)
_POPE_F1 = (
    f1_of("F1 of one split", _half, _half),
    f1_of("F1 of the older random split", _half, POPE_OLD_SPLIT - _half),
    f1_of("F1 of three splits together", 3 * _half, 3 * _half),
    share("mean F1 of three splits", "any"),
)
_POPE: Mapping[str, Sequence[Reading]] = {
    "f1": _POPE_F1,
    "accuracy": _POPE_SHARES,
    "recall": (count_of("recall of one split", _half), count_of("recall of three splits, together or on average", 3 * _half)),
}
_SPLITS = ("", "random_", "popular_", "adversarial_")

READINGS: Mapping[tuple[str, str], Sequence[Reading]] = {
    **{
        ("geneval", task): (count_of(_EACH, GENEVAL_IMAGES * prompts), count_of(_ONE, prompts)) for task, prompts in GENEVAL_PROMPTS.items()
    },
    ("geneval", "overall"): (
        share("official: mean of six task means", "any"),
        count_of("mean over images, four a prompt", GENEVAL_IMAGES * _prompts),
        count_of("mean over images, one a prompt", _prompts),
    ),
    ("dpg", "overall"): (share("official: mean over prompts", "any"),),
    **{("dpg", name): (share("official: share of questions", "any"),) for name in ("global", "entity", "attribute", "relation", "other")},
    ("pope", "paper"): (*_POPE_F1, *_POPE_SHARES),
    **{("pope", split + name): readings for split in _SPLITS for name, readings in _POPE.items()},
    ("gqa", "accuracy"): (count_of("testdev balanced", 12578),),
    ("seed", "image"): (count_of("image questions, as scored officially", 14232), count_of("image questions, as usually quoted", 14233)),
    ("mmbench", "dev"): (
        count_of("all rows of the dev set, not circular", 4329),
        count_of("circular, or first passes alone", 1164),
        count_of("first release of the dev set", 4377),
    ),
    ("mmbench", "circular"): (count_of("circular", 1164),),
}
"""What each printed metric can be. Row numbers of MMBench, SEED-Bench and GQA: the published files' own; see the benchmarks' pages."""


GREEDY = ("pope", "gqa", "seed", "mmbench")
"""Benchmarks whose answers are the likeliest tokens, without noise."""


def noise_bound(benchmark: str, metric: str, value: float, tasks: Mapping[str, float]) -> float | None:
    """Return a standard error over noise that a figure's own cannot exceed; 0 for greedy answers, None where nothing is known.

    An image's verdict varies most where every prompt has the same chance p; then the mean over n images has p (1 - p) / n.

    Args:
        benchmark: Its name.
        metric: As in the table.
        value: The figure as a fraction.
        tasks: The same report's task figures, as fractions, where they are printed.
    """
    if benchmark in GREEDY:
        return 0.0
    p = min(max(value, 0.0), 1.0)
    if benchmark == "geneval" and metric in GENEVAL_PROMPTS:
        return math.sqrt(p * (1 - p) / (GENEVAL_IMAGES * GENEVAL_PROMPTS[metric]))
    if benchmark == "geneval" and metric == "overall":
        if set(GENEVAL_PROMPTS) <= set(tasks):
            parts = [tasks[name] * (1 - tasks[name]) / (GENEVAL_IMAGES * prompts) for name, prompts in GENEVAL_PROMPTS.items()]
            return math.sqrt(math.fsum(parts)) / len(parts)
        smallest = GENEVAL_IMAGES * min(GENEVAL_PROMPTS.values())
        return math.sqrt(p * (1 - p) / (smallest * len(GENEVAL_PROMPTS)))
    if benchmark == "dpg" and metric == "overall":
        return math.sqrt(p * (1 - p) / (DPG_IMAGES * DPG_PROMPTS))
    return None
