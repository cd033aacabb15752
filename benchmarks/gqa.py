"""GQA: compositional questions about real scenes, answered in a word or a phrase.

Rows are in `gqa_rows`, when an answer matches in `gqa_rules`; here they become a benchmark with error bars. Source: Hudson and Manning
(arXiv 1902.09506); the official eval.py as in SHI-Labs/VCoder @ 4e85acef.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from jfeval.benchmarks.gqa_rows import FORMS, SEMANTIC, STRUCTURAL, Row, parse_row, read_folder
from jfeval.benchmarks.gqa_rules import BALANCED_ONLY, SCORERS, Grouped, distribution
from jfeval.benchmarks.pope_rules import vlmevalkit as yes_or_no
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import PAPER_MAX_NEW_TOKENS, SINGLE_WORD, Prompt, PromptName, Understanding, answer_text
from jfeval.benchmarks.understanding.ratios import estimate, ratio
from jfeval.errors import UserError
from jfeval.schema import Edition, JsonObject, Judgement, Metric, Sample, Score
from jfeval.stats import Estimate

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


class Gqa(Understanding):
    """Compositional questions: testdev balanced, 12,578 about 398 photographs (official), or 400 about 100 scenes of shapes (shapes)."""

    name = "gqa"
    protocols: tuple[str, ...] = tuple(SCORERS)
    data_forms = FORMS

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every question in order; see `Benchmark.samples`."""
        asked = self.prompt_of(edition)
        return [_sample(row, asked) for row in self._rows(edition, seed, data)]

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return the prompt protocol, the count, and a hash of questions, answers and image ids."""
        rows = self._rows(edition, seed, data)
        content = json.dumps([[row.id, row.image, row.question, row.answer, row.balanced] for row in rows])
        identity: JsonObject = {"name": self.name if edition == "official" else f"{self.name}-shapes", "prompt": self.prompt_of(edition)}
        if edition == "shapes":
            identity["seed"] = seed
        images = len({row.image for row in rows})
        return {**identity, "rows": len(rows), "images": images, "sha256": hashlib.sha256(content.encode()).hexdigest()}

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
        self.check_protocol(protocol)
        if not scores:
            raise UserError(f"{self.name} has no scores to aggregate")
        metric = Namer(protocol, headline="accuracy")
        rule = _BALANCED if protocol in BALANCED_ONLY else ""
        paper = _PAPER if protocol == _PAPER_SCORER else ""
        metrics = [metric("accuracy", _accuracy(scores), f"{_ACCURACY}{rule}.", paper=paper)]

        def parts(name: str, word: str, key: Callable[[Score], str], order: Iterable[str]) -> None:
            listed: dict[str, list[Score]] = {part: [] for part in order}
            for score in scores:
                listed.setdefault(key(score), []).append(score)
            metrics.extend(
                metric(name, _accuracy(own), f"{_ACCURACY}.", task=f"{word}{part}") for part, own in listed.items() if part and own
            )

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
    from jfeval.benchmarks.gqa_shapes import gqa_rows

    return tuple(gqa_rows(seed))


def _sample(row: Row, asked: PromptName) -> Sample:
    """Build a sample whose reference is the official row, as far as scoring needs it."""
    if row.reader is None:
        raise UserError(f"{row.where}: the image {row.image} is missing")
    request = prompt(asked, row.question).request(pictures(row.reader))
    return Sample(id=row.id, task=row.structural, request=request, reference=dict(row.official), cluster=row.image)


def _accuracy(scores: Iterable[Score]) -> Estimate:
    return estimate(ratio((score.values["correct"], 1.0, score.cluster) for score in scores))


def _whole(score: Score, name: str) -> str:
    return str(int(score.values[name])) if name in score.values else ""


def _counts(scores: Iterable[Score], name: str) -> list[str]:
    return [str(count) for count in sorted({int(score.values[name]) for score in scores if name in score.values})]
