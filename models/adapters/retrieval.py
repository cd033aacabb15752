"""The trivial baseline: answer a prompt with the training image whose caption is nearest.

What it scores is what memory alone can reach; a model that draws must do better where prompts combine what training never combined.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.models.adapters.nearest import SIMILARITY, BaselineSettings, TextIndex, training_files
from jfeval.schema import ImageJob, JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Settings(BaselineSettings):
    """Where the captions and images are."""


def load(settings: Settings) -> "NearestCaption":
    """The training image of the nearest training caption: the score that memory alone reaches.

    Raises:
        UserError: No folder is named, or it holds no training scenes.
    """
    return NearestCaption(settings.folder(NearestCaption.name))


class NearestCaption:
    """Finds captions by their words, see `TextIndex`; ties are broken by the image's seed.

    Args:
        data: Folder with ``scenes/train-*.parquet`` (columns captions and image).
    """

    name = "nearest-caption"

    def __init__(self, data: Path) -> None:
        import pyarrow.parquet as pq

        self._tables = [pq.read_table(file, columns=["captions", "image"]) for file in training_files(data)]
        captions = [caption for table in self._tables for row in table.column("captions").to_pylist() for caption in row]
        self._scene = np.repeat(
            np.arange(sum(len(t) for t in self._tables)), [len(r) for t in self._tables for r in t.column("captions").to_pylist()]
        )
        self._digest = hashlib.sha256("\n".join(captions).encode()).hexdigest()
        self._index = TextIndex(captions)
        self._found: dict[str, np.ndarray] = {}

    def identity(self) -> JsonObject:
        """Return the hash of the captions searched."""
        return {"model": self.name, "captions": self._digest, "recipe": {"similarity": SIMILARITY}}

    def nearest(self, prompt: str) -> np.ndarray:
        """Return the scenes (K,) whose caption is nearest, all that tie."""
        if prompt not in self._found:
            self._found[prompt] = np.unique(self._scene[self._index.nearest(prompt)])
        return self._found[prompt]

    def generate(self, jobs: Sequence[ImageJob]) -> "list[Image]":
        """Return one training image per job."""
        return [self._image(job) for job in jobs]

    def _image(self, job: ImageJob) -> "Image":
        from PIL import Image

        scenes = self.nearest(job.prompt)
        row = int(scenes[int(np.random.default_rng(job.seed).integers(len(scenes)))])
        for table in self._tables:
            if row < len(table):
                return Image.open(io.BytesIO(table.column("image")[row].as_py()["bytes"])).convert("RGB")
            row -= len(table)
        raise IndexError(row)
