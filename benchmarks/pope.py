"""POPE: does a model say that objects are in a picture which are not (object hallucination)?

Rows are in `pope_rows`, what an answer says under each scorer in `pope_rules`; here they become a benchmark with error bars. Each distinct
question is asked once and counts in every split that holds it. Source: Li et al. (arXiv 2305.10355); RUCAIBox/POPE @ 3df3ba1b.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from jfeval.benchmarks.pope_rows import FORMS, OFFICIAL, SPLITS, TSV_SUFFIX, Label, Row, form_of, read_folder
from jfeval.benchmarks.pope_rules import SCORERS, Answered, Figure, figures, vlmevalkit
from jfeval.benchmarks.understanding.base import Understanding, answer_text, recorded_revision
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import SINGLE_WORD, Prompt, PromptName
from jfeval.benchmarks.understanding.ratios import estimate, mean_ratio
from jfeval.errors import UserError
from jfeval.schema import EDITIONS, Edition, Json, JsonObject, Judgement, Metric, Sample, Score

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


class Pope(Understanding[Row]):
    """Is this object in the picture? 3 x 3,000 questions about COCO photographs (official), or 3 x 300 about coloured shapes (shapes)."""

    name = "pope"
    editions: tuple[Edition, ...] = EDITIONS
    protocols: tuple[str, ...] = tuple(SCORERS)
    data_forms = FORMS

    @staticmethod
    def draw(seed: int, world: str = "shapes") -> list[Row]:
        """Draw an edition of a synthetic world."""
        from jfeval.benchmarks.pope_shapes import pope_rows
        from jfeval.benchmarks.shapes.world import world_named

        return pope_rows(seed, world_named(world))

    def read(self, folder: Path) -> list[Row]:
        """Read whichever published form the folder holds; see `pope_rows.read_folder`."""
        return read_folder(folder, any_size=self.settings.any_size)

    def sample(self, row: Row, edition: Edition) -> Sample:
        """Ask a question; its task is the label, so that a limited run asks about as much that is there as that is not."""
        if row.reader is None:
            raise UserError(f"{row.where}: the image {row.image} is missing")
        reference: JsonObject = {"image": row.image, "text": row.question, "label": row.label, "splits": list(row.splits)}
        request = prompt(self.prompt_of(edition), row.question).request(pictures(row.reader))
        return Sample(id=row.id, task=row.label, request=request, reference=reference, cluster=row.image)

    def content(self, row: Row) -> Json:
        """Return what the data's hash is over."""
        return [row.id, row.image, row.question, row.label, list(row.splits)]

    def counts(self, rows: Sequence[Row]) -> JsonObject:
        """Count distinct questions, and the rows of each split."""
        return {"distinct": len(rows), "rows": {split: sum(split in row.splits for row in rows) for split in SPLITS}}

    def published(self, folder: Path) -> JsonObject:
        """Say which published form the folder holds; the official questions, whose counts are checked, are of one revision."""
        form = form_of(folder)
        return {"form": form, "revision": REVISION if form == OFFICIAL and not self.settings.any_size else recorded_revision(folder)}

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
        self.check_scores(scores, protocol)
        splits = [split for split in SPLITS if any(score.task == split for score in scores)]
        rows = {split: [_answered(score) for score in scores if score.task == split] for split in splits}
        every = [row for own in rows.values() for row in own]
        per_split, guessed = ({split: figures(way(own), protocol) for split, own in rows.items()} for way in (list, _guessed))
        pooled, pooled_guess = figures(every, protocol), figures(_guessed(every), protocol)
        headline = _HEADLINES.get(protocol, "pooled_f1")
        details = {name: text + (_LMMS_DETAILS.get(name, "") if protocol == "lmms-eval" else "") for name, text in _DETAILS.items()}
        metric = Namer(protocol, headline=headline)
        metrics = []
        for name in _AVERAGED:
            mean, guess = (mean_ratio([found[split][name] for split in splits]) for found in (per_split, guessed))
            metrics.append(metric(f"mean_{name}", estimate(mean), f"{details[name]} Mean of the splits.", chance=guess.value))
        for name in _SHOWN:
            for split in splits:
                paper = _PAPER if protocol == _PAPER_SCORER and (name, split) == ("f1", "random") else ""
                found, guess = per_split[split][name], guessed[split][name]
                metrics.append(metric(name, estimate(found), details[name], task=split, paper=paper, chance=guess.value))
            detail = f"{details[name]} All splits' rows together."
            metrics.append(metric(f"pooled_{name}", estimate(pooled[name]), detail, chance=pooled_guess[name].value))
        return metrics + answer_counts(scores, metric)


def _reference(sample: Sample) -> tuple[Label, list[str]]:
    label, splits = sample.reference.get("label"), sample.reference.get("splits")
    if label not in ("yes", "no") or not isinstance(splits, list) or not splits or not set(splits) <= set(SPLITS):
        raise UserError(f"sample {sample.id}: its reference is not a POPE row; run it again with --overwrite")
    return label, splits  # pyright: ignore[reportReturnType]


def _answered(score: Score) -> Answered:
    labels = score.labels
    return Answered(label=labels["label"], said=labels["said"], cluster=score.cluster)  # pyright: ignore[reportArgumentType]


def _guessed(rows: Iterable[Answered]) -> list[Answered]:
    """Answer every row both ways, which gives the counts that a fair coin is expected to have."""
    return [row._replace(said=said) for row in rows for said in ("yes", "no")]
