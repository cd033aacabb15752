"""Metrics that every benchmark of understanding reports in the same words: named estimates, and counts of answers that say little."""

from collections.abc import Mapping, Sequence
from typing import Literal

from jfeval.benchmarks.mmbench_options import REFUSALS
from jfeval.benchmarks.scorers.metrics import as_metric
from jfeval.benchmarks.understanding.ratios import estimate, ratio
from jfeval.schema import Metric, Score
from jfeval.stats import Estimate

ANSWER_KINDS = {
    "empty": "Share of answers without a character.",
    "refused": "Share of answers with one of the phrases that VLMEvalKit takes for a refusal.",
    "ambiguous": "Share of answers that name none of the possible answers, or several.",
}

_BETTER: Mapping[str, Literal["lower", "neither"]] = {
    **dict.fromkeys((*ANSWER_KINDS, "uninferred", "distribution"), "lower"),
    **dict.fromkeys(("yes_ratio", "mean_yes_ratio", "pooled_yes_ratio"), "neither"),
}
"""Numbers of which more is not better."""


class Namer:
    """Builds the metrics of one protocol."""

    def __init__(self, protocol: str, *, headline: str = "") -> None:
        """Remember the protocol and the one metric without a task that results are quoted by."""
        self.protocol, self.headline = protocol, headline

    def __call__(self, name: str, found: Estimate, detail: str, *, task: str = "", paper: str = "", chance: float | None = None) -> Metric:
        """Name an estimate, with what guessing scores on the same rows."""
        return as_metric(
            found,
            name=name,
            protocol=self.protocol,
            detail=detail,
            task=task,
            headline=not task and name == self.headline,
            paper=paper,
            chance=chance,
            better=_BETTER.get(name, "higher"),
        )


def answer_kinds(answer: str, *, ambiguous: bool) -> dict[str, float]:
    """Say what kind of answer this is, as values of a score; each is 0 or 1."""
    refused = any(phrase in answer for phrase in REFUSALS)
    empty = not answer.strip()
    return {"empty": float(empty), "refused": float(refused), "ambiguous": float(ambiguous and not empty and not refused)}


def answer_counts(scores: Sequence[Score], metric: Namer, *, ambiguous: str = "") -> list[Metric]:
    """Return the share of empty, refused and ambiguous answers, each answer counted once however many scores it has.

    Args:
        scores: Scores with the values of `answer_kinds`.
        metric: Names the metrics.
        ambiguous: Says what is ambiguous here, where that is not the usual.
    """
    first = list({score.sample_id: score for score in scores}.values())
    found = []
    for name, usual in ANSWER_KINDS.items():
        detail = ambiguous if name == "ambiguous" and ambiguous else usual
        share = estimate(ratio((score.values[name], 1.0, score.cluster) for score in first))
        count = round(share.value * share.n)
        found.append(metric(name, share, f"{detail} {count} of {share.n} answers."))
    return found
