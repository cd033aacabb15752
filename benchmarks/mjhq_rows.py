"""MJHQ-30K as it is published: prompts in one JSON file, reference images in ten categories.

::

    meta_data.json              {HASH: {"category": "animals", "prompt": ...}, ...}, 30,000 of them
    mjhq30k_imgs.zip            CATEGORY/HASH.jpg; read as it is, or unpacked here or in a folder of the archive's name
    data/test-*.parquet         the same images with their category's number, without prompts; read where neither of the above is

Source: Hugging Face playgroundai/MJHQ-30K.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from jfeval.benchmarks.features import ImageFile, in_archive, in_folder
from jfeval.benchmarks.understanding.fields import text_field, wrong
from jfeval.benchmarks.understanding.tables import parquet_files, read_parquet
from jfeval.errors import UserError

META = "meta_data.json"
ARCHIVE = "mjhq30k_imgs.zip"
CATEGORIES = ("animals", "art", "fashion", "food", "indoor", "landscape", "logo", "people", "plants", "vehicles")
"""In the order of the labels that the hub's table gives."""
PER_CATEGORY = 3_000

_MAX_PROMPT = 10_000
_MAX_ID = 200
_PARQUET = "data/test-*"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt."""

    id: str
    """The hash that its reference image's file is named by."""
    category: str
    prompt: str


def read_prompts(folder: Path, *, any_size: bool = False) -> list[Row]:
    """Read the prompts, in the order of the file.

    Args:
        folder: The data folder.
        any_size: Take other numbers than 3,000 of each category.

    Raises:
        UserError: The file is missing or no such JSON, a row is malformed, or numbers differ; names file, row and field.
    """
    path = folder / META
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; it is part of playgroundai/MJHQ-30K: `jfeval data fetch mjhq`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict) or not data:
        raise UserError(f"{path} must be one JSON object of prompts by the name of their image")
    rows = [_row(key, value, f"{path}, row {ascii(key)[:60]}") for key, value in data.items()]
    counts = Counter(row.category for row in rows)
    if not any_size and any(counts[category] != PER_CATEGORY for category in CATEGORIES):
        found = ", ".join(f"{category} {counts[category]}" for category in CATEGORIES)
        raise UserError(
            f"{path} holds {len(rows):,} prompts ({found}), not {PER_CATEGORY:,} of each category; fetch it again, or take it as it is "
            "with --set-benchmark any_size=true"
        )
    return rows


def reference_images(folder: Path, rows: Sequence[Row], *, any_size: bool = False) -> list[ImageFile]:
    """List the reference images, named ``CATEGORY/FILE``.

    Args:
        folder: The data folder.
        rows: All published prompts; each must have its image.
        any_size: Take the images that are there.

    Raises:
        UserError: There are none, or not one for every prompt; lists the first that are missing or too many.
    """
    files = _listed(folder)
    if any_size:
        return files
    if files[0].name.endswith(".row"):
        counts = Counter(file.name.partition("/")[0] for file in files)
        wanted = Counter(row.category for row in rows)
        if counts != wanted:
            raise UserError(f"{folder}: the tables hold {dict(counts)} images, and {dict(wanted)} are published; fetch them again")
        return files
    found = {str(PurePosixPath(file.name).with_suffix("")) for file in files}
    asked = {f"{row.category}/{row.id}" for row in rows}
    missing, extra = sorted(asked - found), sorted(found - asked)
    if missing or extra:
        raise UserError(
            f"the reference images in {folder} are not the published ones: {len(missing)} missing{_first(missing)}, {len(extra)} too many"
            f"{_first(extra)}; FID against another set is another number. Fetch them again, or take them with --set-benchmark any_size=true"
        )
    return files


def _listed(folder: Path) -> list[ImageFile]:
    """List images in the first form that is there; names begin with the category."""
    for place in (folder, folder / Path(ARCHIVE).stem):
        if any((place / category).is_dir() for category in CATEGORIES):
            return _in_categories(in_folder(place))
    if (folder / ARCHIVE).is_file():
        return _in_categories(in_archive(folder / ARCHIVE))
    tables = parquet_files(folder, _PARQUET)
    if tables:
        return _in_tables(tables)
    raise UserError(
        f"{folder} holds no reference images; expected {ARCHIVE}, the folders {', '.join(CATEGORIES[:3])}, ... or {_PARQUET}.parquet of "
        "playgroundai/MJHQ-30K (`jfeval data fetch mjhq`), or name others by --set-benchmark reference=FOLDER"
    )


def _in_categories(files: list[ImageFile]) -> list[ImageFile]:
    """Take images of the ten categories, whatever folder of an archive these lie in."""
    kept = []
    for file in files:
        parts = PurePosixPath(file.name).parts[-2:]
        if len(parts) == 2 and parts[0] in CATEGORIES:
            kept.append(ImageFile(name="/".join(parts), read=file.read))
    return sorted(kept, key=lambda file: file.name)


def _in_tables(tables: list[Path]) -> list[ImageFile]:
    files = []
    for number, row in enumerate(read_parquet(tables, columns=("label",))):
        label = row.cells["label"]
        if not isinstance(label, int) or not 0 <= label < len(CATEGORIES) or len(row.images) != 1:
            raise wrong(row.where, "label", label, f"a category's number from 0 to {len(CATEGORIES) - 1}, and one image")
        files.append(ImageFile(name=f"{CATEGORIES[label]}/{number:05d}.row", read=row.images[0]))
    return files  # in the table's order, in which they are read fast


def _row(key: str, value: object, where: str) -> Row:
    name = text_field(key, "name", where, longest=_MAX_ID)
    if not name.isprintable() or "/" in name or "\\" in name:
        raise wrong(where, "name", key, "the bare name of an image file")
    if not isinstance(value, dict):
        raise wrong(where, "row", value, "an object with category and prompt")
    category = value.get("category")
    if category not in CATEGORIES:
        raise wrong(where, "category", category, ", ".join(CATEGORIES))
    return Row(id=name, category=str(category), prompt=text_field(value.get("prompt"), "prompt", where, longest=_MAX_PROMPT))


def _first(names: Sequence[str]) -> str:
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
