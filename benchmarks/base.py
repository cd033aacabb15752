"""What the harness asks of a benchmark and of a judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jfeval.schema import Edition, JsonObject, Judged, Judgement, Metric, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image


class Judge(Protocol):
    """Looks at outputs and reports what it sees; knows no rules."""

    name: str

    def identity(self) -> JsonObject:
        """Return everything that can change an observation: weights hash, thresholds of the judge itself, version."""
        ...

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Return one JSON-serialisable observation per image, in order."""
        ...


class SizedJudge(Judge, Protocol):
    """A judge that reads pictures of one size; one of another fails its sample, and a model that states another is refused."""

    image_size: int
    """Side of a picture in pixels."""


class BatchJudge(Judge, Protocol):
    """A judge that is faster with several samples at once."""

    def observe_many(self, work: "Sequence[tuple[Sample, Sequence[Image]]]") -> list[tuple[JsonObject, ...]]:
        """Return for each sample what `observe` would, in order; where it raises, samples are looked at one by one."""
        ...


class Benchmark(Protocol):
    """A named set of samples with a way of judging and scoring them.

    Where networks that learned from captions have a part in numbers of an edition, those stand in ``trained_on_captions``, a mapping from
    edition to names of metrics and tasks; no verdict of an ablation may rest on them.
    """

    name: str
    editions: tuple[Edition, ...]
    protocols: tuple[str, ...]
    """Ways of scoring the same stored outputs; the first is the default."""

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every sample in order.

        Args:
            edition: Which data.
            seed: Draws the prompts of the shapes edition; the official edition does not depend on it.
            data: Local folder of official data; None uses what ``jfeval data fetch`` stored.

        Raises:
            jfeval.errors.UserError: A row is malformed; names file, line and field.
        """
        ...

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return the data's name, revision and content hash. Part of the run's fingerprint."""
        ...

    def judge(self, edition: Edition) -> Judge | None:
        """Load the edition's judge; None when outputs are scored as they are."""
        ...

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Turn observations into verdicts by pure rules."""
        ...

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Turn scores into the benchmark's published numbers, with intervals."""
        ...


class SetBenchmark(Benchmark, Protocol):
    """A benchmark whose numbers are of the set of outputs, not means over them, and whose editions may differ in protocol and judge.

    It has no use for ``score`` and ``aggregate``: the harness calls ``score_set``.
    """

    def protocols_of(self, edition: Edition) -> tuple[str, ...]:
        """Return the edition's ways of scoring, the default first."""
        ...

    def judge_under(self, edition: Edition, protocol: str) -> Judge:
        """Load the judge of a protocol, where what is looked at depends on it; what each saw is stored apart."""
        ...

    def locate(self, data: Path | None) -> None:
        """Say where the official data lies, for a judge that looks at it; a stored run is scored again without `samples` being called."""
        ...

    def files_for(self, judge: JsonObject) -> list[Path]:
        """List the files outside a run that `score_set` reads for what this judge saw, there or not; a bundle takes them along."""
        ...

    def score_set(self, judged: Judged, *, protocol: str) -> tuple[list[Score], list[Metric]]:
        """Turn all observations into numbers, and into one score per image that two runs can be paired by."""
        ...
