"""What benchmarks of image understanding have in common: where rows come from, how they are asked, and what identifies them.

A benchmark says how one row is read, drawn, asked and scored; the rest stands here::

    class Pope(Understanding[Row]):
        name = "pope"
        protocols = ("llava", "official", ...)     # the first is the default
        draw = staticmethod(pope_rows)             # a seed's rows of the shapes edition
        def read(self, folder): ...                # the official rows of a data folder
        def sample(self, row, edition): ...        # what is asked
        def content(self, row): ...                # what the data's hash is over
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from jfeval.benchmarks.understanding.protocols import DEFAULT_PROMPT, PROMPTS, PromptName
from jfeval.errors import UserError, unknown
from jfeval.fetching.lock import fetched_folder, read_lock
from jfeval.schema import Edition, Json, JsonObject, Judgement, Sample, Score, TextRequest

RowT = TypeVar("RowT")

IMAGES = ("shown", "withheld")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark of understanding asks."""

    prompt: str = ""
    """Prompt protocol: paper, vlmevalkit, lmms-eval, llava or bare; empty for paper (official edition) or bare (shapes)."""
    images: str = "shown"
    """``withheld`` asks every question without its image: a baseline that shows what the words alone give away."""
    any_size: bool = False
    """Take official data of another size than the published one, for example a part of it."""

    def __post_init__(self) -> None:
        if self.prompt and self.prompt not in PROMPTS:
            raise unknown("prompt", self.prompt, PROMPTS)
        if self.images not in IMAGES:
            raise unknown("way with images", self.images, IMAGES)


_DEFAULTS = Settings()


class Understanding(ABC, Generic[RowT]):
    """A benchmark of questions about images; see `jfeval.benchmarks.base.Benchmark`."""

    name: ClassVar[str]
    editions: tuple[Edition, ...] = ("official", "shapes")
    protocols: tuple[str, ...]
    prompts: ClassVar[Sequence[PromptName]] = PROMPTS
    data_set: ClassVar[str] = ""
    """What `jfeval data fetch` calls the official data; empty for the benchmark's own name."""
    data_forms: ClassVar[str] = ""
    """The published forms that a data folder may hold and what gets them, for messages."""

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        """Check that the benchmark has the prompt.

        Raises:
            UserError: It has not.
        """
        self.settings = settings
        self._official: tuple[Path, Sequence[RowT]] | None = None
        if self.settings.prompt and self.settings.prompt not in self.prompts:
            raise unknown(f"prompt of {self.name}", self.settings.prompt, self.prompts)

    # what a benchmark of its own says

    @staticmethod
    def draw(seed: int) -> Sequence[RowT]:
        """Draw the rows of the shapes edition, once per seed; a benchmark of several worlds takes the name of another one second."""
        raise UserError(f"there is no shapes edition (seed {seed})")

    @abstractmethod
    def read(self, folder: Path) -> Sequence[RowT]:
        """Read and check the official rows of a data folder.

        Raises:
            UserError: Something is missing or malformed; names file, row and field.
        """

    @abstractmethod
    def sample(self, row: RowT, edition: Edition) -> Sample:
        """Ask one row; its cluster is its image."""

    @abstractmethod
    def content(self, row: RowT) -> Json:
        """Return what can change a score: question, answer, the image's key."""

    def counts(self, rows: Sequence[RowT]) -> JsonObject:
        """Count rows, for the run's identity."""
        return {"rows": len(rows)}

    def published(self, folder: Path) -> JsonObject:
        """Say which published data a folder holds: by default the revision that `jfeval data fetch` recorded there."""
        return {"revision": recorded_revision(folder)}

    def asked(self, edition: Edition) -> str:
        """Say how questions are put, for the run's identity."""
        return self.prompt_of(edition)

    # what is the same for all

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every question, those about one image together, so that a model may look at it once; see `Benchmark.samples`."""
        found = [self.sample(row, edition) for row in self.rows(edition, seed=seed, data=data)]
        if self.settings.images == "withheld":
            found = [replace(one, request=_blind(one.request)) for one in found]
        first: dict[str, int] = {}
        for place, one in enumerate(found):
            first.setdefault(one.cluster, place)
        return sorted(found, key=lambda one: first[one.cluster])

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return how is asked, counts, a hash of the rows, and the seed or the published data's revision."""
        rows = self.rows(edition, seed=seed, data=data)
        content = json.dumps([self.content(row) for row in rows])
        identity: JsonObject = {
            "name": self.name if edition == "official" else f"{self.name}-{edition}",
            "prompt": self.asked(edition),
            **self.counts(rows),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        if self.settings.images == "withheld":
            identity["images_withheld"] = True
        return identity | (self.published(self.data_folder(data)) if edition == "official" else {"seed": seed})

    def rows(self, edition: Edition, *, seed: int, data: Path | None = None) -> Sequence[RowT]:
        """List the edition's rows, read or drawn once however often a run asks for them."""
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)
        if edition != "official":
            if data is not None:
                raise UserError(f"the {edition} edition draws its questions from the seed and reads no data; leave out --data {data}")
            return _drawn(type(self).draw, seed, *([] if edition == "shapes" else [edition]))
        folder = self.data_folder(data)
        if self._official is None or self._official[0] != folder:
            self._official = folder, self.read(folder)
        return self._official[1]

    def data_folder(self, data: Path | None) -> Path:
        """Return the folder of official data: the one that is named, else what `jfeval data fetch` stored.

        Raises:
            UserError: There is none; says what gets it.
        """
        name = self.data_set or self.name
        folder = data if data is not None else fetched_folder(name)
        if not folder.is_dir():
            forms = f" It holds {self.data_forms}." if self.data_forms else ""
            what = f"{data} is no folder" if data is not None else f"there is no {folder}"
            raise UserError(
                f"{self.name}'s official edition needs its data, and {what}: get it with `jfeval data fetch {name}`, or name a folder with "
                f"--data FOLDER.{forms} Or use --edition shapes, which needs no data."
            )
        return folder

    def prompt_of(self, edition: Edition) -> PromptName:
        """Return the prompt protocol in use: the setting, or the edition's own."""
        return self.settings.prompt or DEFAULT_PROMPT[edition]  # pyright: ignore[reportReturnType]  checked in Settings

    def judge(self, edition: Edition) -> None:  # noqa: ARG002
        """Answers are scored as they are."""
        return

    def check_protocol(self, protocol: str) -> None:
        """Raise UserError where the benchmark has no such scorer."""
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)

    def check_scores(self, scores: Sequence[Score], protocol: str) -> None:
        """Raise UserError where the benchmark has no such scorer, or there is nothing to aggregate."""
        self.check_protocol(protocol)
        if not scores:
            raise UserError(f"{self.name} has no scores to aggregate")


def recorded_revision(folder: Path) -> str:
    """Return the revision that was recorded when a folder was fetched; ``unpinned`` where none was."""
    lock = read_lock(folder)
    return lock.revision if lock is not None else "unpinned"


def answer_text(sample: Sample, judgement: Judgement) -> str:
    """Return the stored answer of a sample.

    Raises:
        UserError: There is not exactly one answer.
    """
    found = [observation.get("text") for observation in judgement.observations]
    if len(found) != 1 or not isinstance(found[0], str):
        raise UserError(f"sample {sample.id}: expected one stored answer, found {len(found)} observations; run it again with --overwrite")
    return found[0]


@lru_cache(maxsize=8)
def _drawn(draw: Callable[..., Sequence[Any]], seed: int, *world: str) -> tuple[Any, ...]:
    return tuple(draw(seed, *world))


def _blind(request: object) -> TextRequest:
    assert isinstance(request, TextRequest)
    return replace(request, images=())
