"""What the harness asks of a benchmark and of a judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jfeval.schema import Edition, JsonObject, Judgement, Metric, Sample, Score

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


class Benchmark(Protocol):
    """A named set of samples with a way of judging and scoring them."""

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
