"""Ready images in a benchmark's own layout, in the place of a model: found by the names of their files, opened when they are asked for.

What is missing or broken fails its own prompt and no other; what is of no prompt is listed and not looked at.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from jfeval.benchmarks.features import SUFFIXES
from jfeval.errors import BadRequest, UserError
from jfeval.pictures import MAX_PIXELS, identity_of_images
from jfeval.schema import ImageJob, JsonObject, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable


class ReadySet:
    """Hands out images by the row of their prompt.

    Args:
        files: A prompt's row to its files.
        names: A prompt's row to the name that its file should have, for messages.
        extra: Names of what is of no prompt.
        cells: Opens a prompt's files and returns its images, in order; raises BadRequest where they are not what is asked for.
    """

    name = "folder"

    def __init__(
        self,
        files: Mapping[int, tuple[Path, ...]],
        names: Mapping[int, str],
        extra: Sequence[str],
        cells: "Callable[[tuple[Path, ...]], list[Image.Image]] | None" = None,
    ) -> None:
        self._files, self._names, self._extra = files, names, tuple(extra)
        self._cells = cells or (lambda found: [open_image(file) for file in found])

    def identity(self) -> JsonObject:
        """Return a hash of every image that is of a prompt, with its row; names do not matter."""
        return dict(self._identity)

    @cached_property
    def _identity(self) -> JsonObject:
        return identity_of_images((row, index, file) for row in sorted(self._files) for index, file in enumerate(self._files[row]))

    def strangers(self, asked: Mapping[int, int]) -> list[str]:
        """Return the names of what is of no prompt, whatever is asked."""
        del asked
        return list(self._extra)

    def generate(self, jobs: Sequence[ImageJob]) -> "list[Image.Image]":
        """Open each job's image; a prompt's files are opened once.

        Raises:
            FileNotFoundError: There is none for a job.
            BadRequest: A file is broken, or not of the size that is asked for.
        """
        opened: dict[int, list[Image.Image]] = {}
        for job in jobs:
            if job.row not in self._files:
                raise FileNotFoundError(f"there is no image of {self._names.get(job.row, job.row)}")
            if job.row not in opened:
                opened[job.row] = self._cells(self._files[job.row])
            if job.index >= len(opened[job.row]):
                raise FileNotFoundError(f"{self._names[job.row]} has {len(opened[job.row])} images, image {job.index + 1} is missing")
        return [opened[job.row][job.index] for job in jobs]


def by_stem(folder: Path, rows: "Iterable[tuple[int, Sample]]", *, stem: Callable[[str], str] = str) -> ReadySet:
    """Find one image for each sample by its file's stem, in the folder or any folder inside it.

    Args:
        folder: The images.
        rows: Samples with their rows.
        stem: Turns a file's stem, and a sample's id, into what both must agree in.

    Raises:
        UserError: No such folder, nothing in it is of a prompt, or two files are of the same.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    samples = list(rows)
    wanted = {stem(sample.id): row for row, sample in samples}
    found: dict[int, Path] = {}
    extra: list[str] = []
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        row, name = wanted.get(stem(file.stem)), file.relative_to(folder).as_posix()
        if row is None:
            extra.append(name)
        elif row in found:
            raise UserError(
                f"{folder} holds two images of one prompt: {found[row].relative_to(folder).as_posix()[:80]!r} and {name[:80]!r}"
            )
        else:
            found[row] = file
    if not found:
        raise UserError(
            f"{folder} holds no image of the benchmark's {len(samples)} prompts ({len(extra)} others); an image is named by its prompt's "
            f"id, for example {samples[0][1].id}.png, in the folder or in folders inside it"
        )
    return ReadySet({row: (file,) for row, file in found.items()}, {row: f"{sample.id[:80]}" for row, sample in samples}, extra)


def last_number(stem: str) -> str:
    """Return the last number of a name without leading zeros: ``COCO_val2014_000000000042`` and ``42`` are the same image."""
    digits = re.search(r"([0-9]+)$", stem)
    return str(int(digits[1])) if digits else stem


def open_image(file: Path) -> Image.Image:
    """Open an image as RGB, turned as its EXIF says.

    Raises:
        BadRequest: It is none, or too large; names the file without its folder.
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadRequest(f"{file.name}: {image.width}x{image.height} exceeds {MAX_PIXELS} pixels")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise BadRequest(f"{file.name} is not an image that can be read ({type(error).__name__})") from error
