"""SEED-Bench, image part: four options, nine dimensions; answered by letter (``seed``) or by likelihood (``seed-likelihood``).

Rows are in `seed_rows`, prompts in `mmbench_prompts`, verdicts and tables in `seed_rules`; here they become benchmarks with error bars.
The two modes are different measurements: the first asks the model to write an answer, the second ranks the options' texts by the model's
loss. Source: Li et al., "SEED-Bench" (arXiv 2307.16125).
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeAlias

from jfeval.benchmarks.mmbench_prompts import choice_prompt
from jfeval.benchmarks.seed_rows import (
    HOW_TO_GET,
    HUB,
    IMAGE_ROWS,
    JSON_FILE,
    TSV_FILE,
    TSV_MD5,
    SeedRow,
    check_unique,
    data_files,
    parse_row,
    read_published,
)
from jfeval.benchmarks.seed_rules import (
    IMAGE_DIMENSIONS,
    LETTER_SCORERS,
    DimensionTable,
    DimensionVerdict,
    Read,
    dimension_table,
    rank,
    read_letter,
)
from jfeval.benchmarks.understanding.base import Understanding, answer_text
from jfeval.benchmarks.understanding.media import Published, md5, pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import PromptName
from jfeval.errors import UserError
from jfeval.schema import Edition, Json, JsonObject, Judgement, Metric, Sample, Score, TextRequest
from jfeval.stats import clustered_mean, mean_of

log = logging.getLogger(__name__)

_Item: TypeAlias = tuple[Published, SeedRow]

_PAPER_SCORER = "vlmevalkit-nov2024"
_PAPER = (
    "The authors' team reproduces its figures with VLMEvalKit on SEEDBench_IMG, whose overall is the mean over rows (VLMEvalKit pull "
    "request 541). That the JanusFlow paper (70.5) did the same is inferred, not stated. Comparable in the official edition under the "
    "prompt paper."
)
LIKELIHOOD_QUESTION = "Question: {question}\nAnswer:"
"""What the options are weighed after in the official edition; in the shapes edition it is the bare question.

Source: AILab-CVC/SEED-Bench, instruct_blip_interface.py, process_prompt; the loss is the sum over the option's tokens, its end included.
"""
_ACCURACY = "Share of right answers over all questions together (micro)."
_DIMENSION = "Share of right answers of the dimension."
_MEAN = "Unweighted mean of the dimensions' accuracies; dimensions differ in size, so this is not the quoted number."
_UNINFERRED = "Share of answers in which the scorer reads no option; they count as wrong."


class Seed(Understanding[_Item]):
    """Four options about an image: 14,233 questions of nine dimensions (official), or 308 about coloured shapes (shapes)."""

    name: ClassVar[str] = "seed"
    data_forms: ClassVar[str] = HOW_TO_GET
    protocols: tuple[str, ...] = LETTER_SCORERS

    @staticmethod
    def draw(seed: int) -> list[_Item]:
        """Draw the shapes edition."""
        from jfeval.benchmarks.seed_shapes import published_rows

        return [(one, parse_row(one.reference, where=one.where)) for one in published_rows(seed)]

    def read(self, folder: Path) -> list[_Item]:
        """Read and check a published form; another number of questions than the published ones is logged."""
        files = data_files(folder)
        rows = [(one, parse_row(one.reference, where=one.where)) for one in read_published(files)]
        check_unique((row, published.where) for published, row in rows)
        if len(rows) not in IMAGE_ROWS:
            quoted = " or ".join(f"{count:,}" for count in IMAGE_ROWS)
            log.warning(
                "%s: %d questions about images, where %s are published; the run says how many it scored", files[0], len(rows), quoted
            )
        return rows

    def sample(self, row: _Item, edition: Edition) -> Sample:
        """Ask one question."""
        published, choice = row
        return Sample(
            id=choice.id,
            task=choice.dimension,
            request=self.request(published, choice, edition),
            reference=published.reference,
            cluster=published.image_key[:32],
        )

    def request(self, published: Published, row: SeedRow, edition: Edition) -> TextRequest:
        """Ask for an option's letter."""
        name = self.prompt_of(edition)
        options = row.read_by_pandas if name in ("paper", "vlmevalkit") else row.options
        return choice_prompt("seed", name, row.question, options).request(pictures(published.image))

    def content(self, row: _Item) -> Json:
        """Return what the data's hash is over."""
        return [row[0].reference, row[0].image_key]

    def published(self, folder: Path) -> JsonObject:
        """Say which form the folder holds, at which recorded revision, and whether a table is the published one."""
        first = data_files(folder)[0]
        form = first.name if first.name in (TSV_FILE, JSON_FILE) else HUB
        return {"form": form, **super().published(folder), "published": form == TSV_FILE and md5(first) == TSV_MD5}

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Turn one answer into one verdict.

        Raises:
            UserError: An unknown protocol, or a row or an answer that is not one.
        """
        self.check_protocol(protocol)
        row = parse_row(sample.reference, where=f"sample {sample.id}")
        answer = answer_text(sample, judgement)
        read = self._read(sample, row, answer, protocol)
        correct = read.letter == row.answer
        missed = read.letter not in row.options
        values = {"correct": float(correct), "uninferred": float(missed), **answer_kinds(answer, ambiguous=missed)}
        reason = "" if correct else f"the answer is {row.answer}, read as {read.letter[:1] or 'no option'}: {answer[:200]!r}"
        labels = {"read": read.letter[:8], "options": str(len(row.options))}
        return [Score(sample_id=sample.id, task=row.dimension, cluster=sample.cluster, values=values, labels=labels, reason=reason)]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return accuracy over all questions (the headline), by dimension, the dimensions' mean, and counts of answers.

        Images are the clusters.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self.check_scores(scores, protocol)
        table, guess = table_of(scores), table_of([_guessed(score) for score in scores])
        by_guess = list(guess.dimensions.values())
        metric = Namer(protocol, headline="accuracy")
        missing = [name for name in IMAGE_DIMENSIONS if name not in table.dimensions]
        note = f" Without {', '.join(missing)}: no question here." if missing else ""
        missed = [score.values["uninferred"] for score in scores]
        uninferred = clustered_mean(missed, [score.cluster for score in scores])
        return [
            metric("accuracy", table.overall, _ACCURACY, paper=_PAPER if protocol == _PAPER_SCORER else "", chance=guess.overall.value),
            *(
                metric("task", found, _DIMENSION, task=name, chance=guess.dimensions[name].value)
                for name, found in table.dimensions.items()
            ),
            metric("dimension_mean", mean_of(list(table.dimensions.values())), _MEAN + note, chance=mean_of(by_guess).value),
            metric("uninferred", uninferred, f"{_UNINFERRED} {round(sum(missed))} of {len(missed)} answers."),
            *answer_counts(scores, metric),
        ]

    def _read(self, sample: Sample, row: SeedRow, answer: str, protocol: str) -> Read:  # noqa: ARG002
        return read_letter(answer, row.read_by_pandas, protocol)  # pyright: ignore[reportArgumentType]  checked in score


class SeedLikelihood(Seed):
    """SEED-Bench's image questions by likelihood: the option whose text the model finds least surprising is its answer."""

    name: ClassVar[str] = "seed-likelihood"
    data_set: ClassVar[str] = "seed"
    prompts: ClassVar[Sequence[PromptName]] = ()
    protocols: tuple[str, ...] = ("official",)

    def asked(self, edition: Edition) -> str:
        """Say how questions are put: letters and their instruction have no part in it."""
        return LIKELIHOOD_QUESTION if edition == "official" else "{question}"

    def request(self, published: Published, row: SeedRow, edition: Edition) -> TextRequest:
        """Ask for the loss of every option."""
        text = self.asked(edition).replace("{question}", row.question)
        return TextRequest(question=text, images=pictures(published.image), options=tuple(row.options.values()))

    def _read(self, sample: Sample, row: SeedRow, answer: str, protocol: str) -> Read:  # noqa: ARG002
        try:
            losses = json.loads(answer)
            return Read(letter=rank([float(loss) for loss in losses]))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"sample {sample.id}: expected {len(row.options)} losses as stored by a run of {self.name}, found {answer[:80]!r} ({error})"
            ) from error


def table_of(scores: Sequence[Score]) -> DimensionTable:
    """Return the table of stored verdicts."""
    return dimension_table([DimensionVerdict(dimension=s.task, hit=s.values["correct"], cluster=s.cluster) for s in scores])


def _guessed(score: Score) -> Score:
    """Return how likely a guess is right in place of the verdict."""
    return replace(score, values={"correct": 1 / int(score.labels["options"])})
