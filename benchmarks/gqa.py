"""GQA: compositional questions about real scenes, answered in a word or a phrase.

Rows are in `gqa_rows`, when an answer matches in `gqa_rules`; here they become a benchmark with error bars. Source: Hudson and Manning
(arXiv 1902.09506); the official eval.py as in SHI-Labs/VCoder @ 4e85acef.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from jfeval.benchmarks.gqa_rows import FORMS, SEMANTIC, STRUCTURAL, Row, parse_row, read_folder
from jfeval.benchmarks.gqa_rules import BALANCED_ONLY, SCORERS, Grouped, distribution
from jfeval.benchmarks.pope_rules import vlmevalkit as yes_or_no
from jfeval.benchmarks.understanding.base import Understanding, answer_text
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import PAPER_MAX_NEW_TOKENS, SINGLE_WORD, Prompt, PromptName
from jfeval.benchmarks.understanding.ratios import estimate, ratio
from jfeval.errors import UserError
from jfeval.schema import EDITIONS, Edition, Json, JsonObject, Judgement, Metric, Sample, Score

_MAX_NEW_TOKENS: dict[PromptName, int] = {
    "paper": PAPER_MAX_NEW_TOKENS,
    "vlmevalkit": PAPER_MAX_NEW_TOKENS,
    "lmms-eval": 16,
    "llava": 128,
    "bare": 32,
}
"""Source: VLMEvalKit @ 8f2b1f0b, the Janus wrapper; lmms-eval, tasks/gqa/gqa.yaml; LLaVA, llava/eval/model_vqa_loader.py."""

_PAPER_SCORER = "llava"
_PAPER = (
    "The paper gives one GQA accuracy (60.3) and no scorer, and the team's VLMEvalKit reproduction leaves GQA out; the official metric on "
    "answers converted as LLaVA does it is how papers of its time report GQA. Comparable in the official edition under the prompt paper."
)
_ACCURACY = "Share of questions answered right"
_BALANCED = "; questions that are not balanced are left out"
_DISTRIBUTION = (
    "How far the answers given are distributed otherwise than the true ones: a chi-square over groups of questions, divided by 100. Lower "
    "is better, 0 is perfect; it may exceed 1."
)
_AMBIGUOUS = "Yes-or-no questions whose answer names neither, or both."


def prompt(name: PromptName, question: str) -> Prompt:
    """Put a question as a prompt protocol does.

    The authors' wrapper has no form of its own for GQA, so there the text follows the image without a newline, as in VLMEvalKit's.
    Source: VLMEvalKit @ e8e78f05, lmms-eval @ 75571cfe, LLaVA @ c121f043: the same sentence in all.
    """
    text = question if name == "bare" else f"{question}\n{SINGLE_WORD}"
    return Prompt(text=text, separator="\n" if name in ("llava", "bare") else "", max_new_tokens=_MAX_NEW_TOKENS[name])


class Gqa(Understanding[Row]):
    """Compositional questions: testdev balanced, 12,578 about 398 photographs (official), or 400 about 100 scenes of shapes (shapes)."""

    name = "gqa"
    editions: tuple[Edition, ...] = EDITIONS
    protocols: tuple[str, ...] = tuple(SCORERS)
    data_forms = FORMS

    @staticmethod
    def draw(seed: int, world: str = "shapes") -> list[Row]:
        """Draw an edition of a synthetic world."""
        from jfeval.benchmarks.gqa_shapes import gqa_rows
        from jfeval.benchmarks.shapes.world import world_named

        return gqa_rows(seed, world_named(world))

    def read(self, folder: Path) -> list[Row]:
        """Read whichever published form the folder holds; see `gqa_rows.read_folder`."""
        return read_folder(folder, any_size=self.settings.any_size)

    def sample(self, row: Row, edition: Edition) -> Sample:
        """Ask a question; its reference is the official row, as far as scoring needs it."""
        if row.reader is None:
            raise UserError(f"{row.where}: the image {row.image} is missing")
        request = prompt(self.prompt_of(edition), row.question).request(pictures(row.reader))
        return Sample(id=row.id, task=row.structural, request=request, reference=dict(row.official), cluster=row.image)

    def content(self, row: Row) -> Json:
        """Return what the data's hash is over."""
        return [row.id, row.image, row.question, row.answer, row.balanced]

    def counts(self, rows: Sequence[Row]) -> JsonObject:
        """Count questions and images."""
        return {"rows": len(rows), "images": len({row.image for row in rows})}

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Say whether the answer matches.

        Raises:
            UserError: An unknown protocol, or a reference that is not a GQA question.
        """
        self.check_protocol(protocol)
        row = parse_row(sample.id, sample.reference, where=f"sample {sample.id}")
        if protocol in BALANCED_ONLY and not row.balanced:
            return []
        answer, matcher = answer_text(sample, judgement), SCORERS[protocol]
        said, gold = matcher.said(answer), matcher.gold(row.answer)
        unclear = row.answer in ("yes", "no") and yes_or_no(answer) == "neither"
        values = {"correct": float(said == gold), **answer_kinds(answer, ambiguous=unclear), "words": float(row.words)}
        if row.steps is not None:
            values["steps"] = float(row.steps)
        labels = {"semantic": row.semantic, "kind": row.kind, "group": row.group, "gold": gold, "said": said}
        reason = "" if said == gold else f"the answer is {gold!r}, read as {said[:200]!r}"
        return [Score(sample_id=sample.id, task=row.structural, cluster=sample.cluster, values=values, labels=labels, reason=reason)]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return accuracy over all questions, binary and open ones, every type, steps and length, and the distribution.

        Images are the clusters. A type that no question has is left out; so is the distribution where no question is in a group, and under
        scorers that do not have it.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self.check_scores(scores, protocol)
        metric = Namer(protocol, headline="accuracy")
        rule = _BALANCED if protocol in BALANCED_ONLY else ""
        guesses = _guesses(scores)

        def accuracy(name: str, own: Sequence[Score], detail: str, *, task: str = "", paper: str = "") -> Metric:
            found = estimate(ratio((score.values["correct"], 1.0, score.cluster) for score in own))
            return metric(name, found, detail, task=task, paper=paper, chance=fmean(guesses[score.sample_id] for score in own))

        metrics = [accuracy("accuracy", scores, f"{_ACCURACY}{rule}.", paper=_PAPER if protocol == _PAPER_SCORER else "")]

        def parts(name: str, word: str, key: Callable[[Score], str], order: Iterable[str]) -> None:
            listed: dict[str, list[Score]] = {part: [] for part in order}
            for score in scores:
                listed.setdefault(key(score), []).append(score)
            metrics.extend(accuracy(name, own, f"{_ACCURACY}.", task=f"{word}{part}") for part, own in listed.items() if part and own)

        parts("accuracy", "", lambda score: score.labels["kind"], ("binary", "open"))
        parts("accuracy", "structural ", lambda score: score.task, STRUCTURAL)
        parts("accuracy", "semantic ", lambda score: score.labels["semantic"], SEMANTIC)
        parts("by_steps", "steps ", lambda score: _whole(score, "steps"), _counts(scores, "steps"))
        parts("by_length", "words ", lambda score: _whole(score, "words"), _counts(scores, "words"))
        grouped = [
            Grouped(group=s.labels["group"], gold=s.labels["gold"], said=s.labels["said"], cluster=s.cluster)
            for s in scores
            if s.labels["group"]
        ]
        if grouped and protocol in BALANCED_ONLY:
            metrics.append(metric("distribution", distribution(grouped), _DISTRIBUTION))
        return metrics + answer_counts(scores, metric, ambiguous=_AMBIGUOUS)


def _guesses(scores: Iterable[Score]) -> dict[str, float]:
    """Return how likely a guess is right, by sample: one of two for binary questions, else one of all answers to questions of its group.

    The answers are those of the scored rows themselves. An open question without a group counts with all others without one.
    """
    open_ones = [score for score in scores if score.labels["kind"] != "binary" and score.labels["gold"] not in ("yes", "no")]
    answers: dict[str, set[str]] = {}
    for score in open_ones:
        answers.setdefault(score.labels["group"], set()).add(score.labels["gold"])
    found = {score.sample_id: 1 / 2 for score in scores}
    return found | {score.sample_id: 1 / len(answers[score.labels["group"]]) for score in open_ones}


def _whole(score: Score, name: str) -> str:
    return str(int(score.values[name])) if name in score.values else ""


def _counts(scores: Iterable[Score], name: str) -> list[str]:
    return [str(count) for count in sorted({int(score.values[name]) for score in scores if name in score.values})]
