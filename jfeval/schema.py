"""The words of the harness as data: what is asked, what came back, how it was judged, and the number in the end.

Flow: a `Benchmark` lists `Sample`s; a model answers their requests; a judge, where there is one, looks at the outputs and returns
raw observations; the scorer turns those into `Score`s by pure rules; statistics turn scores into `Metric`s.

Everything here is a frozen dataclass without torch, numpy or pandas, so that reports and tests can import it in milliseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]

Edition: TypeAlias = Literal["official", "shapes", "shapes-small"]
EDITIONS: tuple[Edition, ...] = get_args(Edition)


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
    images: Sequence[bytes] = ()
    """Encoded image files (PNG or JPEG), in the order of the question's references to them; `jfeval.pictures.Pictures` reads them late."""
    system: str = ""
    separator: str = "\n"
    """What stands between an image and the text after it, for models whose prompt is one string."""
    max_new_tokens: int = 32
    options: tuple[str, ...] = ()
    """Answers to weigh: the model then writes nothing but returns the loss of each. Empty for a question that is to be answered."""
    sample_id: str = ""
    """Which sample asks; set when a model is asked. Finds a ready answer; says nothing to a model that looks."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An earlier question of a conversation, with its answer."""

    request: TextRequest
    answer: str


Request: TypeAlias = ImageRequest | TextRequest


@dataclass(frozen=True, kw_only=True)
class ImageJob:
    """One image to draw."""

    prompt: str
    seed: int
    """Seeds this image's own generator (0 <= seed < 2**63), so that its noise is the same in every batch."""
    row: int = 0
    """Position of the sample in the benchmark's full list. Names the folder of a ready image; says nothing to a model that draws."""
    index: int = 0
    """Which of the sample's images this is."""


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What a judge saw in all of a run's outputs, for numbers that are of a whole set; read anew whenever it is looked at."""

    samples: tuple[Sample, ...]
    """Those that were judged, in the benchmark's order."""
    read: Callable[[str], Judgement]
    """Returns a sample's observations by its id, from the store each time: what is not kept needs no memory."""
    judge: JsonObject
    """Who judged: its identity."""
    kept: Path | None = None
    """Folder of what a bundle brought along because scoring reads it, such as a reference's features; None where there is none."""


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
    labels: Mapping[str, str] = field(default_factory=dict)
    """What numbers are broken down by beside the task, for example ``{"semantic": "attr", "said": "red"}``."""
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
    """Standard error over items (se_items): had the benchmark drawn other prompts or questions of the same kind."""
    se_seed: float | None = None
    """Standard error over noise: the same items drawn again. None where nothing was drawn more than once."""
    ci_low: float | None = None
    ci_high: float | None = None
    """95 % interval over items (prompts as a sample of prompts); None where it cannot be given."""
    task: str = ""
    """The task this is the value of; empty for a metric over all tasks."""
    headline: bool = False
    """True for the one number by which the benchmark is usually quoted."""
    detail: str = ""
    """One line that says what this is, for reports."""
    paper: str = ""
    """Why this is the number to hold against the paper's; empty for every other number."""
    chance: float | None = None
    """What guessing scores on the same rows; None where guessing means nothing."""
    better: Literal["higher", "lower", "neither"] = "higher"
    """Which way is an improvement; ``neither`` for a number that only describes, such as the share of questions answered "yes"."""


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


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was asked to do, what it depends on, and how far it came."""

    name: str
    """For people; the run folder's name."""
    model: str
    """Its name among the models of `jfeval list`."""
    title: str = ""
    """For people; what tables call the model. Empty in runs that were stored without one: its name."""
    benchmark: str
    edition: Edition
    protocol: str
    """Protocol of the scores shown by default."""
    seed: int
    limit: int | None = None
    """The ``--limit`` it was given; None for every sample."""
    batch_size: int
    """Images (or questions) per planned batch."""
    benchmark_settings: JsonObject = field(default_factory=dict)
    """The benchmark's own settings, such as the prompt protocol; empty for a benchmark that takes none."""
    model_identity: JsonObject = field(default_factory=dict)
    """Weights hash, recipe, dtype, as the model states them."""
    data_identity: JsonObject = field(default_factory=dict)
    judge_identity: JsonObject = field(default_factory=dict)
    """Empty until judged, and where outputs are scored as they are."""
    fingerprint: str
    """Hash of everything that can change an output."""
    judge_fingerprint: str = ""
    """Hash of the above and of everything that can change an observation; empty until judged."""
    counts: Counts
    provenance: JsonObject = field(default_factory=dict)
    """Where and with what it was made, as of its last invocation. Keys: ``jfeval``, ``python``, ``platform`` (str); ``packages`` (name to
    version); ``git`` (``commit``, ``branch``, ``dirty``; empty outside a checkout); ``hardware`` (``cpu``, ``cores``, ``threads``,
    ``memory_gib``, ``accelerator``); ``seconds`` (wall time of ``load``, ``generate``, ``judge``, ``score``; generate and judge add up over
    resumed runs); ``peak_memory_bytes``; ``images`` (how many are stored); ``judged_images_per_second`` (of one worker, loading aside)."""
    started_at: str
    """UTC, ISO 8601, of the first invocation."""
    finished_at: str = ""
    """UTC, ISO 8601; empty while unfinished."""

    @property
    def shown(self) -> str:
        """What tables call the model."""
        return self.title or self.model

    @property
    def identities(self) -> dict[str, JsonObject]:
        """What the run depends on: ``model`` (with its recipe), ``data`` and, once judged, ``judge``."""
        named = {"model": self.model_identity, "data": self.data_identity, "judge": self.judge_identity}
        return {name: identity for name, identity in named.items() if identity}
