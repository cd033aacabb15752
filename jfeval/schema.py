"""The words of the harness as data: what is asked, what came back, how it was judged, and the number in the end.

Flow: a `Benchmark` lists `Sample`s; a model answers their requests; a judge, where there is one, looks at the outputs and returns
raw observations; the scorer turns those into `Score`s by pure rules; statistics turn scores into `Metric`s.

Everything here is a frozen dataclass without torch, numpy or pandas, so that reports and tests can import it in milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"
JsonObject: TypeAlias = dict[str, Json]

Edition: TypeAlias = Literal["official", "shapes"]
EDITIONS: tuple[Edition, ...] = ("official", "shapes")


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """Asks for images of one prompt."""

    prompt: str
    """The prompt as the benchmark states it; the model puts it into its own chat form."""
    num_images: int = 4


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """Asks one question about one or more images."""

    question: str
    images: tuple[bytes, ...] = ()
    """Encoded image files (PNG or JPEG), in the order of the question's references to them."""
    system: str = ""
    max_new_tokens: int = 32


Request: TypeAlias = ImageRequest | TextRequest


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a benchmark."""

    id: str
    """Unique within benchmark, edition and seed; stable across runs; never used as a path."""
    task: str
    """The category that task means are taken over, for example ``two_object``."""
    request: Request
    reference: JsonObject
    """What the scorer needs, in the published row's own form (for GenEval the metadata row)."""
    cluster: str = ""
    """Rows with the same cluster are not independent; defaults to the row itself."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a model returned for one sample, as stored."""

    sample_id: str
    images: tuple[str, ...] = ()
    """Content hashes (sha256) of PNG files in the run's store, one per image."""
    text: str = ""
    error: str = ""
    """Why this sample failed; empty when it did not."""
    seconds: float = 0.0
    """This sample's share of its batch's wall time."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A judge's raw observations of one output: detections, answers, features. No verdict yet."""

    sample_id: str
    observations: tuple[JsonObject, ...] = ()
    """One object per image, in order."""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The verdict on one image or one answer under one protocol."""

    sample_id: str
    task: str
    cluster: str
    index: int = 0
    """Which of the sample's images; 0 for an answer."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Score name to value, for example ``{"correct": 1.0, "exact_scene": 0.0}``."""
    reason: str = ""
    """Why, in words; untrusted text may appear inside it."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with its name, its protocol and its error bar."""

    name: str
    """For example ``overall``, ``task`` or ``image_mean``."""
    protocol: str
    value: float
    """A fraction in [0, 1] unless the benchmark's page says otherwise."""
    n: int
    """How many scores (images or answers) went in."""
    clusters: int
    """How many independent clusters (prompts or images) those form."""
    se: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    """95 % interval over items (prompts as a sample of prompts); None where it cannot be given."""
    task: str = ""
    """The task this is the value of; empty for a metric over all tasks."""
    headline: bool = False
    """True for the one number by which the benchmark is usually quoted."""
    detail: str = ""
    """One line that says what this is, for reports."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many samples a run asked for, finished and failed."""

    available: int
    """Samples in the full benchmark at this edition and seed."""
    asked: int
    finished: int
    failed: int

    @property
    def complete(self) -> bool:
        """True when nothing was left out and nothing failed."""
        return self.available == self.asked == self.finished and self.failed == 0
