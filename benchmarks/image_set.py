"""What benchmarks of image sets have in common: two editions with their own protocols, judges and references."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.benchmarks.photo_sets import CLIP, Settings, photo_judge, photo_results
from jfeval.benchmarks.prompt_files import asked_prompt, identity_of, protocols_under, rules_of, with_prompts
from jfeval.benchmarks.ready import ReadySet, by_stem
from jfeval.benchmarks.reference import reference_files
from jfeval.benchmarks.scene_sets import PROTOCOL, SceneFeatures, scene_results
from jfeval.benchmarks.scorers.contrastive import SIMILARITY, load_encoder
from jfeval.benchmarks.scorers.image_recipes import RECIPES
from jfeval.errors import UserError, unknown
from jfeval.fetching.lock import fetched_folder
from jfeval.schema import Edition, JsonObject, Judged, Metric, Sample, Score

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Judge
    from jfeval.benchmarks.features import ImageFile

_DEFAULTS = Settings()


class ImageSet(ABC):
    """A benchmark whose number is a distance between the images that a model draws and reference images, as sets.

    The official edition's protocols are the recipes by which images reach Inception; what is seen under each is stored apart.

    Args:
        settings: Which prompts are drawn from, and where weights, reference and CLIP are.
    """

    name: str
    editions: tuple[Edition, ...] = ("official", "shapes")
    protocols: tuple[str, ...] = (*RECIPES, PROTOCOL)
    trained_on_captions: Mapping[Edition, tuple[str, ...]] = {"official": (CLIP, SIMILARITY), "shapes": (CLIP, SIMILARITY)}
    categories: bool = False
    """Whether tasks are categories with references of their own."""

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        self.settings = settings
        self.protocols = protocols_under(self.protocols, settings)
        self._data: Path | None = None

    def protocols_of(self, edition: Edition) -> tuple[str, ...]:
        """Return the recipes of the official edition, or the features of the shapes edition."""
        self._check(edition)
        return protocols_under(tuple(RECIPES) if edition == "official" else (PROTOCOL,), self.settings)

    def locate(self, data: Path | None) -> None:
        """Say where the official data lies, which `samples` does otherwise."""
        self._data = data

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every prompt in order; see `Benchmark.samples`. The data folder is remembered: its images are the usual reference."""
        return with_prompts(self._samples(edition, seed, data), self.settings)

    def _samples(self, edition: Edition, seed: int, data: Path | None) -> list[Sample]:
        """List the benchmark's own prompts."""
        self._check(edition)
        if edition == "official":
            self._data = data
            return self._published(self._folder())
        if data is not None:
            raise UserError(f"the shapes edition draws its prompts from the seed and reads no data; leave out --data {data}")
        return self._drawn(seed)

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return where prompts come from and their hash; the reference is part of the judge's identity."""
        samples = self._samples(edition, seed, data)
        content = json.dumps([[s.id, s.task, s.reference, asked_prompt(s)] for s in samples], sort_keys=True)
        counted: JsonObject = {"rows": len(samples), "sha256": hashlib.sha256(content.encode()).hexdigest(), **identity_of(self.settings)}
        if edition == "shapes":
            return {"name": f"{self.name}-shapes", "seed": seed, **counted}
        return {**self._source(self._folder()), **counted}

    def judge(self, edition: Edition) -> "Judge":
        """Load the judge of the edition's first protocol."""
        return self.judge_under(edition, self.protocols_of(edition)[0])

    def judge_under(self, edition: Edition, protocol: str) -> "Judge":
        """Load Inception under a recipe, with the reference; in shapes the fixed network and the oracle.

        Raises:
            UserError: An unknown protocol; Inception's weights or the reference are missing.
        """
        allowed = self.protocols_of(edition)
        if protocol not in allowed:
            raise unknown(f"protocol of {self.name} ({edition})", protocol, allowed)
        if edition == "shapes":
            return SceneFeatures(load_encoder(self.settings.contrastive))
        return photo_judge(self.settings, rules_of(protocol), lambda: self._reference(self._folder()))

    def files_for(self, judge: JsonObject) -> list[Path]:
        """List the files of the reference that a run was judged against; none in the shapes edition."""
        return reference_files(judge, self.settings.cache)

    def score_set(self, judged: Judged, *, protocol: str) -> tuple[list[Score], list[Metric]]:
        """Turn what was seen into the distance and what stands beside it; see `scene_results` and `photo_results`.

        Raises:
            UserError: An unknown protocol, or nothing to compare.
        """
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)
        if rules_of(protocol) == PROTOCOL:
            return scene_results(judged, protocol=protocol, categories=self.categories)
        places = [place for place in (self.settings.cache, judged.kept) if place is not None]
        return photo_results(judged, protocol=protocol, places=places, categories=self.categories)

    def ready(self, folder: Path, rows: "Sequence[tuple[int, Sample]]") -> ReadySet:
        """Find ready images by their prompts' ids, in the folder or in folders inside it; see `jfeval.benchmarks.ready`."""
        return by_stem(folder, rows)

    @abstractmethod
    def _published(self, folder: Path) -> list[Sample]:
        """Read the official prompts."""

    @abstractmethod
    def _reference(self, folder: Path) -> "Sequence[ImageFile]":
        """List the official reference images."""

    @abstractmethod
    def _source(self, folder: Path) -> JsonObject:
        """Name the official prompts' source."""

    @abstractmethod
    def _drawn(self, seed: int) -> list[Sample]:
        """Draw the shapes edition's prompts, each with its scene."""

    def _folder(self) -> Path:
        folder = fetched_folder(self.name) if self._data is None else self._data
        if self._data is None and not folder.is_dir():
            raise UserError(
                f"{self.name}'s official edition needs --data FOLDER with its prompts and reference images; "
                f"`jfeval data fetch {self.name}` gets them; or use --edition shapes, which needs no data"
            )
        return folder

    def _check(self, edition: Edition) -> None:
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)


def evenly(count: int, wanted: int) -> list[int]:
    """Return ``wanted`` positions of ``count``, evenly spaced from the first."""
    return [i * count // wanted for i in range(wanted)]
