"""COCO 2014's validation captions and images as they are published.

::

    annotations/captions_val2014.json     {"images": [{"id", "file_name"}, ...], "annotations": [{"id", "image_id", "caption"}, ...]}
    annotations_trainval2014.zip          holds the same file; read where it is not unpacked
    val2014/ or val2014.zip               the 40,504 images

Source: cocodataset.org, "Annotations format", captioning.
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from jfeval.benchmarks.features import ImageFile, in_archive, in_folder
from jfeval.benchmarks.understanding.fields import text_field, wrong
from jfeval.errors import UserError

CAPTIONS = "captions_val2014.json"
ARCHIVE = "annotations_trainval2014.zip"
IMAGES = "val2014"
COUNT = 40_504
"""Images of the validation set, each with captions. Source: cocodataset.org."""

_MEMBER = f"annotations/{CAPTIONS}"
_MAX_CAPTION = 2_000
_MAX_JSON = 2**30


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One image with its first caption."""

    image: int
    """COCO's number of the image."""
    caption: str
    """The caption with the lowest number."""


def read_captions(folder: Path, *, any_size: bool = False) -> list[Captioned]:
    """Read every image's first caption, in the order of the images' numbers.

    Args:
        folder: The data folder.
        any_size: Take another number of images than the published one.

    Raises:
        UserError: The file is missing or no such JSON, a row is malformed, an image has no caption, or their number differs; names file,
            row and field.
    """
    data, path = _load(folder)
    images, annotations = (data.get(key) if isinstance(data, dict) else None for key in ("images", "annotations"))
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise UserError(f"{path} must be a JSON object with the lists images and annotations, as COCO publishes captions")
    numbers = {_number(row, "id", f"{path}, images, row {i}") for i, row in enumerate(images)}
    first: dict[int, tuple[int, str]] = {}
    for i, row in enumerate(annotations):
        where = f"{path}, annotations, row {i}"
        number, image = _number(row, "id", where), _number(row, "image_id", where)
        if image not in numbers:
            raise wrong(where, "image_id", image, "the id of one of the file's images")
        caption = text_field(row.get("caption"), "caption", where, longest=_MAX_CAPTION)
        if image not in first or number < first[image][0]:
            first[image] = number, " ".join(caption.split())
    if missing := sorted(numbers - first.keys()):
        raise UserError(f"{path}: {len(missing)} images have no caption, the first of them {missing[0]}")
    if len(first) != COUNT and not any_size:
        raise UserError(
            f"{path} holds {len(first):,} images with captions, not {COUNT:,}; fetch it again, or take it as it is with "
            "--set-benchmark any_size=true"
        )
    return [Captioned(image=image, caption=first[image][1]) for image in sorted(first)]


def reference_images(folder: Path, *, any_size: bool = False) -> list[ImageFile]:
    """List the validation images.

    Raises:
        UserError: There are none, or another number than the published one.
    """
    if (folder / IMAGES).is_dir():
        files = in_folder(folder / IMAGES)
    elif (folder / f"{IMAGES}.zip").is_file():
        files = in_archive(folder / f"{IMAGES}.zip")
    else:
        raise UserError(
            f"{folder} holds no reference images; expected {IMAGES}/ or {IMAGES}.zip of COCO 2014 (`jfeval data fetch coco`), or name "
            "others by --set-benchmark reference=FOLDER"
        )
    if len(files) != COUNT and not any_size:
        raise UserError(
            f"{folder} holds {len(files):,} images of {IMAGES}, not {COUNT:,}; FID against another set is another number. Fetch them "
            "again, or take them with --set-benchmark any_size=true"
        )
    return files


def _load(folder: Path) -> tuple[object, Path]:
    """Return the captions' JSON and the file it came from."""
    path = next((one for one in (folder / _MEMBER, folder / CAPTIONS) if one.is_file()), folder / ARCHIVE)
    try:
        if path.name != ARCHIVE:
            return json.loads(path.read_text(encoding="utf-8")), path
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_MEMBER).file_size > _MAX_JSON:
                raise UserError(f"{path}: {_MEMBER} unpacks to more than {_MAX_JSON} bytes")
            return json.loads(archive.read(_MEMBER)), path
    except FileNotFoundError as error:
        raise UserError(f"{folder} lacks {_MEMBER} and {ARCHIVE}; `jfeval data fetch coco` gets COCO 2014's captions") from error
    except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as COCO's captions: {str(error)[:200]}") from error


def _number(row: object, field: str, where: str) -> int:
    value = row.get(field) if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(where, field, value, "a whole number from 0")
    return value
