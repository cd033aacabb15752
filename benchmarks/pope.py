"""POPE: does a model say that objects are in a picture which are not (object hallucination)?

Rows are in `pope_rows`, what an answer says under each scorer in `pope_rules`; here they become a benchmark with error bars. Each distinct
question is asked once and counts in every split that holds it. Source: Li et al. (arXiv 2305.10355); RUCAIBox/POPE @ 3df3ba1b.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from jfeval.benchmarks.pope_rows import FORMS, SPLITS, TSV_SUFFIX, Label, Row, read_folder
from jfeval.benchmarks.pope_rules import SCORERS, Answered, Figure, figures, vlmevalkit
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import SINGLE_WORD, Prompt, PromptName, Understanding, answer_text
from jfeval.benchmarks.understanding.ratios import estimate, mean_ratio
from jfeval.errors import UserError
from jfeval.schema import Edition, JsonObject, Judgement, Metric, Sample, Score

REVISION = "3df3ba1b110ecce25696989577fad583b67d4239"
"""Of RUCAIBox/POPE, whose question files the published counts are of."""

_SHORT_ANSWER = 128
"""Source: LLaVA, llava/eval/model_vqa_loader.py, and lmms-eval, tasks/pope/pope.yaml: max_new_tokens."""
_BARE_ANSWER = 32

_PAPER_SCORER = "vlmevalkit-nov2024"
_PAPER = (
    "The authors' team reproduces its POPE figures with VLMEvalKit and quotes the random split, whose score in VLMEvalKit is F1. That the "
    "JanusFlow paper (88.0) did the same is inferred, not stated. Comparable in the official edition under the prompt paper."
)
_DETAILS = {
    "accuracy": "Share of questions answered right.",
    "precision": 'Of the answers "yes", the share that are right.',
    "recall": 'Of the questions whose answer is yes, the share answered "yes".',
    "f1": 'Harmonic mean of precision and recall of "yes".',
    "yes_ratio": 'Share of questions answered "yes"; half of them should be.',
}
_LMMS_DETAILS = {
    "recall": " lmms-eval leaves out answers that are neither yes nor no.",
    "f1": " lmms-eval's recall leaves out answers that are neither yes nor no.",
    "yes_ratio": " lmms-eval counts the labels here, not the answers.",
}
_AVERAGED: tuple[Figure, ...] = ("f1", "accuracy")
_SHOWN: tuple[Figure, ...] = ("f1", "accuracy", "precision", "recall", "yes_ratio")
_HEADLINES = {"llava": "mean_f1", "official": "mean_f1"}
"""How results are quoted: LLaVA's line averages the splits' F1, VLMEvalKit and lmms-eval pool all rows."""


def prompt(name: PromptName, question: str) -> Prompt:
    """Put a question as a prompt protocol does.

    Source: VLMEvalKit @ e8e78f05, the Janus wrapper (``paper``) and the data set's own form (``vlmevalkit``); lmms-eval @ 75571cfe; LLaVA
    @ c121f043.
    """
    single_word = f"{question}\n{SINGLE_WORD}"
    if name == "paper":
        return Prompt(text=single_word)
    if name == "vlmevalkit":
        return Prompt(text=question + TSV_SUFFIX, separator="")
    if name == "lmms-eval":
        return Prompt(text=single_word, separator="", max_new_tokens=_SHORT_ANSWER)
    if name == "llava":
        return Prompt(text=single_word, max_new_tokens=_SHORT_ANSWER)
    return Prompt(text=question, max_new_tokens=_BARE_ANSWER)


class Pope(Understanding):
    """Is this object in the picture? 3 x 3,000 questions about COCO photographs (official), or 3 x 300 about coloured shapes (shapes)."""

    name = "pope"
    protocols: tuple[str, ...] = tuple(SCORERS)
    data_forms = FORMS

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every distinct question, in the order of the random, popular and adversarial files; see `Benchmark.samples`."""
        asked = self.prompt_of(edition)
        return [_sample(row, asked) for row in self._rows(edition, seed, data)]

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return the prompt protocol, counts, and a hash of the questions, labels and image names."""
        rows = self._rows(edition, seed, data)
        content = json.dumps([[row.id, row.image, row.question, row.label, row.splits] for row in rows])
        identity: JsonObject = {"name": self.name if edition == "official" else f"{self.name}-shapes", "prompt": self.prompt_of(edition)}
        identity |= {"revision": REVISION} if edition == "official" else {"seed": seed}
        counts: JsonObject = {split: sum(split in row.splits for row in rows) for split in SPLITS}
        return {**identity, "distinct": len(rows), "rows": counts, "sha256": hashlib.sha256(content.encode()).hexdigest()}

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Say what the answer says and whether that is right, once for every split that holds the question.

        Raises:
            UserError: An unknown protocol, or a reference that is not a POPE row.
        """
        self.check_protocol(protocol)
        label, splits = _reference(sample)
        answer = answer_text(sample, judgement)
        said = SCORERS[protocol](answer)
        values = {"correct": float(said == label), **answer_kinds(answer, ambiguous=vlmevalkit(answer) == "neither")}
        reason = "" if said == label else f"the answer is {label}, read as {said}: {answer[:200]!r}"
        score = Score(
            sample_id=sample.id, task="", cluster=sample.cluster, values=values, labels={"label": label, "said": said}, reason=reason
        )
        return [replace(score, task=split, index=index) for index, split in enumerate(splits)]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return every figure per split, the means of F1 and accuracy over splits, and every figure over all rows pooled.

        Images are the clusters, across splits too: these share images, questions and answers.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self.check_protocol(protocol)
        if not scores:
            raise UserError(f"{self.name} has no scores to aggregate")
        rows = [_answered(score) for score in scores]
        splits = [split for split in SPLITS if any(score.task == split for score in scores)]
        per_split = {split: figures([r for r, s in zip(rows, scores, strict=True) if s.task == split], protocol) for split in splits}
        pooled = figures(rows, protocol)
        headline = _HEADLINES.get(protocol, "pooled_f1")
        details = {name: text + (_LMMS_DETAILS.get(name, "") if protocol == "lmms-eval" else "") for name, text in _DETAILS.items()}
        metric = Namer(protocol, headline=headline)
        metrics = []
        for name in _AVERAGED:
            mean = estimate(mean_ratio([per_split[split][name] for split in splits]))
            metrics.append(metric(f"mean_{name}", mean, f"{details[name]} Mean of the splits."))
        for name in _SHOWN:
            for split in splits:
                compares = protocol == _PAPER_SCORER and (name, split) == ("f1", "random")
                metrics.append(metric(name, estimate(per_split[split][name]), details[name], task=split, paper=_PAPER if compares else ""))
            metrics.append(metric(f"pooled_{name}", estimate(pooled[name]), f"{details[name]} All splits' rows together."))
        return metrics + answer_counts(scores, metric)

    def _rows(self, edition: Edition, seed: int, data: Path | None) -> list[Row]:
        self.check_edition(edition)
        if edition == "official":
            return list(_official_rows(self.data_folder(data), self.settings.any_size))
        self.check_no_data(data)
        return list(_shapes_rows(seed))


@lru_cache(maxsize=2)
def _official_rows(folder: Path, any_size: bool) -> tuple[Row, ...]:
    """Read and check the data; a run asks for it several times."""
    return tuple(read_folder(folder, any_size=any_size))


@lru_cache(maxsize=4)
def _shapes_rows(seed: int) -> tuple[Row, ...]:
    from jfeval.benchmarks.pope_shapes import pope_rows

    return tuple(pope_rows(seed))


def _sample(row: Row, asked: PromptName) -> Sample:
    """Build a sample; its task is the label, so that a limited run asks about as much that is there as that is not."""
    if row.reader is None:
        raise UserError(f"{row.where}: the image {row.image} is missing")
    reference: JsonObject = {"image": row.image, "text": row.question, "label": row.label, "splits": list(row.splits)}
    request = prompt(asked, row.question).request(pictures(row.reader))
    return Sample(id=row.id, task=row.label, request=request, reference=reference, cluster=row.image)


def _reference(sample: Sample) -> tuple[Label, list[str]]:
    label, splits = sample.reference.get("label"), sample.reference.get("splits")
    if label not in ("yes", "no") or not isinstance(splits, list) or not splits or not set(splits) <= set(SPLITS):
        raise UserError(f"sample {sample.id}: its reference is not a POPE row; run it again with --overwrite")
    return label, splits  # pyright: ignore[reportReturnType]


def _answered(score: Score) -> Answered:
    labels = score.labels
    return Answered(label=labels["label"], said=labels["said"], cluster=score.cluster)  # pyright: ignore[reportArgumentType]
