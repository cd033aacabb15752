"""A folder of ready images in place of a model, in the layout of GenEval's own generation script.

::

    FOLDER/00000/metadata.jsonl      the prompt's row (optional; checked when there)
    FOLDER/00000/samples/0000.png    images of the benchmark's first prompt, in order of their numbers

Source: djghosh13/geneval at af4902f24d3c, ``generation/diffusers_generate.py`` (layout) and ``evaluation/evaluate_images.py`` (which
folders and files count: names of digits, files that begin with digits and ``.png``).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError
from jfeval.pictures import MAX_PIXELS, identity_of_images
from jfeval.schema import ImageJob, JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the images are."""

    path: Path | None = None
    """The folder that holds 00000, 00001 and so on."""


def load(settings: Settings) -> "ReadyImages":
    """Your own images, one numbered folder a prompt: FOLDER/00000/samples/0000.png, as GenEval's own script writes them.

    Raises:
        UserError: There is no such folder, or nothing in it looks like that.
    """
    if settings.path is None:
        raise UserError("model 'folder' needs the folder of images: --set path=FOLDER, or `jfeval score --images FOLDER`")
    return ReadyImages(settings.path)


class ReadyImages:
    """Hands out images by the row of their prompt; a missing or broken one fails its prompt and no other.

    Args:
        path: The folder that holds 00000, 00001 and so on.

    Raises:
        UserError: There is no such folder, no numbered one in it, or two of one number.
    """

    name = "folder"

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UserError(f"there is no folder {path}")
        self.path = path
        self._rows = _numbered(path, re.compile(r"([0-9]{1,12})\Z"))
        if not self._rows:
            raise UserError(f"{path} holds no numbered folder; expected {path}/00000/samples/0000.png for the first prompt, and so on")

    def identity(self) -> JsonObject:
        """Return a hash of every image that can be read here, with its row and position; names do not matter.

        Raises:
            UserError: Two images of a row have one number.
        """
        return dict(self._identity)

    @cached_property
    def _identity(self) -> JsonObject:
        return identity_of_images(self._listed())

    def strangers(self, asked: Mapping[int, int]) -> list[str]:
        """Return the names of images that are of no prompt, or beyond what a prompt asks for.

        Args:
            asked: A prompt's row to how many images it asks for.
        """
        return [f"{row:05d}/samples/{file.name}" for row, index, file in self._listed() if index >= asked.get(row, 0)]

    def generate(self, jobs: Sequence[ImageJob]) -> "list[Image]":
        """Open each job's image.

        Raises:
            FileNotFoundError: There is none for a job.
            ValueError: The folder states another prompt, or the image is too large.
            OSError: The file is no image, or a broken one.
        """
        return [self._open(job) for job in jobs]

    def _open(self, job: ImageJob) -> "Image":
        from PIL import Image, ImageOps

        self._check_prompt(job)
        files = self._files(job.row)
        if job.index >= len(files):
            raise FileNotFoundError(f"{job.row:05d}/samples has {len(files)} images, image {job.index + 1} is missing")
        name = f"{job.row:05d}/samples/{files[job.index].name}"
        try:
            with Image.open(files[job.index]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{name}: {image.width}x{image.height} exceeds {MAX_PIXELS} pixels")
                return ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG is SyntaxError; its messages hold whole paths
            raise OSError(f"{name} is not an image that can be read ({type(error).__name__})") from error

    def _check_prompt(self, job: ImageJob) -> None:
        folder = self._rows.get(job.row)
        path = folder / "metadata.jsonl" if folder else None
        if path is None or not path.is_file():
            return
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{job.row:05d}/metadata.jsonl has no readable prompt: {error}") from error
        if stated != job.prompt:
            raise ValueError(f"{job.row:05d} holds images of {str(stated)[:100]!r}, not of {job.prompt[:100]!r}; made with another --seed?")

    def _listed(self) -> Iterator[tuple[int, int, Path]]:
        """Yield every image with its row and its place there."""
        return ((row, index, file) for row in sorted(self._rows) for index, file in enumerate(self._files(row)))

    def _files(self, row: int) -> list[Path]:
        """List a row's images in order of their numbers."""
        folder = self._rows.get(row)
        if folder is None or not (folder / "samples").is_dir():
            return []
        numbered = _numbered(folder / "samples", re.compile(r"([0-9]{1,12})\.png"))
        return [numbered[number] for number in sorted(numbered)]


def _numbered(folder: Path, name: re.Pattern[str]) -> dict[int, Path]:
    """Return what is in a folder by the numbers that names begin with.

    Raises:
        UserError: Two names have one number, such as 0 and 00000; only one can be meant.
    """
    numbered: dict[int, Path] = {}
    for entry in sorted(folder.iterdir()):
        if found := name.match(entry.name):
            first = numbered.setdefault(int(found[1]), entry)
            if first != entry:
                raise UserError(f"{folder} holds both {first.name} and {entry.name}, which are one number; keep one of the two")
    return numbered
