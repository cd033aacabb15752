"""SEED-Bench, image part: four options, nine dimensions; answered by letter (``seed``) or by likelihood (``seed-likelihood``).

Rows are in `seed_rows`, prompts in `mmbench_prompts`, verdicts and tables in `seed_rules`; here they become benchmarks with error bars.
The two modes are different measurements: the first asks the model to write an answer, the second ranks the options' texts by the model's
loss. Source: Li et al., "SEED-Bench" (arXiv 2307.16125).
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from jfeval.benchmarks.mmbench_prompts import choice_prompt
from jfeval.benchmarks.seed_rows import (
    HOW_TO_GET,
    HUB,
    IMAGE_ROWS,
    JSON_FILE,
    TSV_FILE,
    TSV_MD5,
    Published,
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
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import Understanding, answer_text
from jfeval.errors import UserError
from jfeval.schema import Edition, JsonObject, Judgement, Metric, Sample, Score, TextRequest
from jfeval.stats import clustered_mean, mean_of

log = logging.getLogger(__name__)

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


class Seed(Understanding):
    """Four options about an image: 14,233 questions of nine dimensions (official), or 308 about coloured shapes (shapes)."""

    name: ClassVar[str] = "seed"
    protocols: tuple[str, ...] = LETTER_SCORERS

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every question in order; see `Benchmark.samples`."""
        rows = self._rows(edition, seed, data)
        return [
            Sample(
                id=row.id,
                task=row.dimension,
                request=self._request(published, row, edition),
                reference=published.reference,
                cluster=published.image_key[:32],
            )
            for published, row in rows
        ]

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return how is asked, counts, a hash of the rows, and whether the file is the published one where its hash is known."""
        rows = self._rows(edition, seed, data)
        content = "\n".join(json.dumps([published.reference, published.image_key]) for published, _ in rows)
        identity: JsonObject = {
            "name": self.name if edition == "official" else f"{self.name}-shapes",
            "prompt": self._asked(edition),
            "rows": len(rows),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        if edition == "shapes":
            return {**identity, "seed": seed}
        first = data_files(self.data_folder(data))[0]
        form = first.name if first.name in (TSV_FILE, JSON_FILE) else HUB
        return {**identity, "form": form, "revision": "unpinned", "published": form == TSV_FILE and _md5(first) == TSV_MD5}

    def data_folder(self, data: Path | None) -> Path:
        """Return the folder of official data; says what gets it where none is named."""
        if data is None:
            raise UserError(f"{self.name}'s official edition needs its data: {HOW_TO_GET}")
        return super().data_folder(data)

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
        return [Score(sample_id=sample.id, task=row.dimension, cluster=sample.cluster, values=values, labels=_labels(read), reason=reason)]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return accuracy over all questions (the headline), by dimension, the dimensions' mean, and counts of answers.

        Images are the clusters.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self.check_protocol(protocol)
        if not scores:
            raise UserError(f"{self.name} has no scores to aggregate")
        table = table_of(scores)
        metric = Namer(protocol, headline="accuracy")
        missing = [name for name in IMAGE_DIMENSIONS if name not in table.dimensions]
        note = f" Without {', '.join(missing)}: no question here." if missing else ""
        missed = [score.values["uninferred"] for score in scores]
        uninferred = clustered_mean(missed, [score.cluster for score in scores])
        return [
            metric("accuracy", table.overall, _ACCURACY, paper=_PAPER if protocol == _PAPER_SCORER else ""),
            *(metric("task", found, _DIMENSION, task=name) for name, found in table.dimensions.items()),
            metric("dimension_mean", mean_of(list(table.dimensions.values())), _MEAN + note),
            metric("uninferred", uninferred, f"{_UNINFERRED} {round(sum(missed))} of {len(missed)} answers."),
            *answer_counts(scores, metric),
        ]

    def _asked(self, edition: Edition) -> str:
        return self.prompt_of(edition)

    def _request(self, published: Published, row: SeedRow, edition: Edition) -> TextRequest:
        name = self.prompt_of(edition)
        options = row.read_by_pandas if name in ("paper", "vlmevalkit") else row.options
        return choice_prompt("seed", name, row.question, options).request(pictures(published.image))

    def _read(self, sample: Sample, row: SeedRow, answer: str, protocol: str) -> Read:  # noqa: ARG002
        return read_letter(answer, row.read_by_pandas, protocol)  # pyright: ignore[reportArgumentType]  checked in score

    def _rows(self, edition: Edition, seed: int, data: Path | None) -> list[tuple[Published, SeedRow]]:
        self.check_edition(edition)
        if edition == "official":
            files = data_files(self.data_folder(data))
            return list(_official_rows(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)))
        self.check_no_data(data)
        from jfeval.benchmarks.seed_shapes import published_rows

        return [(one, parse_row(one.reference, where=one.where)) for one in published_rows(seed)]


class SeedLikelihood(Seed):
    """SEED-Bench's image questions by likelihood: the option whose text the model finds least surprising is its answer."""

    name: ClassVar[str] = "seed-likelihood"
    protocols: tuple[str, ...] = ("official",)

    def __init__(self) -> None:
        """There is one way to ask: letters and their instruction have no part in it."""
        super().__init__()

    def _asked(self, edition: Edition) -> str:
        return LIKELIHOOD_QUESTION if edition == "official" else "{question}"

    def _request(self, published: Published, row: SeedRow, edition: Edition) -> TextRequest:
        text = self._asked(edition).replace("{question}", row.question)
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
    return dimension_table([DimensionVerdict(dimension=s.task, hit=s.values["correct"] == 1.0, cluster=s.cluster) for s in scores])


@lru_cache(maxsize=2)
def _official_rows(files: tuple[tuple[Path, int, int], ...]) -> tuple[tuple[Published, SeedRow], ...]:
    """Read and check files, each with its size and time of change; a run asks for them several times."""
    rows = [(one, parse_row(one.reference, where=one.where)) for one in read_published([path for path, _, _ in files])]
    check_unique((row, published.where) for published, row in rows)
    if len(rows) not in IMAGE_ROWS:
        quoted = " or ".join(f"{count:,}" for count in IMAGE_ROWS)
        log.warning(
            "%s: %d questions about images, where %s are published; the run says how many it scored", files[0][0], len(rows), quoted
        )
    return tuple(rows)


def _labels(read: Read) -> dict[str, str]:
    return {"read": read.letter[:8]}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
