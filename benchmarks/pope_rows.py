"""POPE's questions, read from each published form, checked, and joined: one row per distinct pair of image and question.

The three splits ask 3,000 questions each of the same 500 images. They share all 1,500 positives and some negatives, so they hold 5,127
distinct pairs; each is asked once and counts in every split that holds it.

==========================  =================================================================================
form                        files in the data folder
==========================  =================================================================================
official JSON Lines         ``coco_pope_{random,popular,adversarial}.json`` and the images in ``val2014/``
VLMEvalKit                  ``POPE.tsv``
Hugging Face hub            ``data/test-*.parquet`` (default), or ``Full/{random,popular,adversarial}-*.parquet``
==========================  =================================================================================

Source: RUCAIBox/POPE @ 3df3ba1b, output/coco; VLMEvalKit @ e8e78f05, POPE.tsv; Hugging Face lmms-lab/POPE.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jfeval.benchmarks.understanding.fields import text_field
from jfeval.benchmarks.understanding.media import Reader, check_image, file_reader
from jfeval.benchmarks.understanding.tables import parquet_files, read_parquet, read_tsv
from jfeval.errors import UserError, unknown
from jfeval.schema import Json

Split: TypeAlias = Literal["random", "popular", "adversarial"]
SPLITS: tuple[Split, ...] = get_args(Split)
Label: TypeAlias = Literal["yes", "no"]

ROWS_PER_SPLIT = 3000
PAIRS = 5127
"""Source: counted in the official files @ 3df3ba1b."""
OLDER_RANDOM = 2910
"""Rows of the random split @ e3e39262, which LLaVA's published numbers use. Source: RUCAIBox/POPE history; haotian-liu/LLaVA docs."""

TSV_SUFFIX = " Please answer yes or no."
"""What VLMEvalKit's table appends to every question."""
IMAGE_FOLDERS = ("val2014", "images", ".")

OFFICIAL = "official JSON Lines"
_FILE = "coco_pope_{}.json"
_TSV = "POPE.tsv"
_REPOSITORY = "lmms-lab/POPE"
_GET_QUESTIONS = "output/coco of https://github.com/RUCAIBox/POPE (revision 3df3ba1) holds it"
_GET_IMAGES = "get http://images.cocodataset.org/zips/val2014.zip and unpack it there"
FORMS = (
    f"{_FILE.format('random')}, popular and adversarial ({_GET_QUESTIONS}) with the COCO images in val2014/, or VLMEvalKit's {_TSV}, "
    f"or the hub's Parquet files (`jfeval data fetch pope`)"
)
_MAX_TEXT = 2000
_MOST_PROBLEMS = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One distinct question about an image."""

    id: str
    """The first split that holds it and its number there, such as ``random-12``; VLMEvalKit's form has ``tsv-`` and the row's index."""
    image: str
    """Name of the image's file without its ending; in VLMEvalKit's form a hash of the image."""
    question: str
    """Without any instruction."""
    label: Label
    splits: tuple[Split, ...]
    where: str
    """File and row, for messages."""
    reader: Reader | None = None
    """Reads the image; None until images are attached."""


def read_folder(folder: Path, *, any_size: bool = False) -> list[Row]:
    """Read whichever published form a folder holds, images attached and checked.

    Args:
        folder: The data folder.
        any_size: Take other counts than the published ones.

    Raises:
        UserError: No form is there, an image or a file of it is missing, or a row is malformed; names file, row and field, and what gets
            what is missing.
    """
    form = form_of(folder)
    if form == _TSV:
        return checked(_read_tsv(folder / _TSV), any_size=any_size)
    if form == _REPOSITORY:
        return checked(_read_hub(_hub_files(folder)), any_size=any_size)
    return attach_images(checked(read_questions(folder), any_size=any_size), folder)


def form_of(folder: Path) -> str:
    """Name the published form that a folder holds: the table's file, the hub's repository, or `OFFICIAL`.

    Raises:
        UserError: None is there.
    """
    if (folder / _TSV).is_file():
        return _TSV
    if _hub_files(folder):
        return _REPOSITORY
    if any((folder / _FILE.format(split)).is_file() for split in SPLITS):
        return OFFICIAL
    raise UserError(f"{folder} holds no published form of POPE; expected {FORMS}")


def _hub_files(folder: Path) -> list[Path]:
    return parquet_files(folder, "data/test-*", "test-*") or parquet_files(folder, *(f"**/{split}-*" for split in SPLITS))


def read_questions(folder: Path) -> list[Row]:
    """Read the official JSON Lines of the three splits and join them; images are not looked for.

    Raises:
        UserError: A file is missing, a row is malformed or stands twice, or the splits contradict each other.
    """
    rows = []
    for split in SPLITS:
        path = folder / _FILE.format(split)
        try:
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; {_GET_QUESTIONS}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                data = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: not a JSON object ({error}); each line holds one question") from error
            rows.append(parse_row(data, split, where=where))
    return join(rows)


def parse_row(data: object, split: Split, *, where: str, reader: Reader | None = None) -> Row:
    """Check one row of the official form.

    Args:
        data: What the JSON text held.
        split: The file's split.
        where: File and line, for messages.
        reader: Reads the image, where that is known already.

    Raises:
        UserError: Names the place, the field, what stands there and what may.
    """
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected an object with question_id, image, text and label, found {str(data)[:60]!r}")
    return Row(
        id=f"{split}-{_number(data.get('question_id'), where, 'question_id')}",
        image=Path(text_field(data.get("image"), "image", where, longest=_MAX_TEXT)).stem,
        question=text_field(data.get("text"), "text", where, longest=_MAX_TEXT),
        label=_label(data.get("label"), where, "label"),
        splits=(split,),
        where=where,
        reader=reader,
    )


def join(rows: Iterable[Row]) -> list[Row]:
    """Put rows that ask the same of the same image together, in the order of their first occurrence.

    Raises:
        UserError: An id or a pair stands twice in one split, or one pair has two labels.
    """
    joined: dict[tuple[str, str], Row] = {}
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            raise UserError(f"{row.where}, field question_id: {row.id} stands twice, first in {seen[row.id]}")
        seen[row.id] = row.where
        pair = (row.image, row.question)
        first = joined.get(pair)
        if first is None:
            joined[pair] = row
            continue
        if set(first.splits) & set(row.splits):
            raise UserError(f"{row.where}: the question {row.question!r} about {row.image} stands twice in a split, first in {first.where}")
        if first.label != row.label:
            raise UserError(
                f"{row.where}, field label: {row.label!r} for {row.question!r} about {row.image}; {first.where} has {first.label!r}"
            )
        joined[pair] = replace(first, splits=(*first.splits, *row.splits))
    return list(joined.values())


def checked(rows: list[Row], *, any_size: bool) -> list[Row]:
    """Compare counts with the published ones.

    Raises:
        UserError: They differ and ``any_size`` is not set; names the first differences.
    """
    per_split = Counter(split for row in rows for split in row.splits)
    yes = Counter(split for row in rows for split in row.splits if row.label == "yes")
    older = per_split["random"] == OLDER_RANDOM
    problems = []
    for split in SPLITS:
        expected = OLDER_RANDOM if older and split == "random" else ROWS_PER_SPLIT
        if per_split[split] != expected:
            problems.append(f"{split} has {per_split[split]} rows, published {expected}")
        if yes[split] != ROWS_PER_SPLIT // 2:
            problems.append(f'{split} has {yes[split]} rows with label "yes", published {ROWS_PER_SPLIT // 2}')
    if not older and len(rows) != PAIRS:
        problems.append(f"{len(rows)} distinct pairs of image and question, published {PAIRS}")
    if problems and not any_size:
        shown = "; ".join(problems[:_MOST_PROBLEMS])
        raise UserError(f"this is not the published POPE: {shown}. Fetch it again, or take it as it is with --set-benchmark any_size=true")
    return rows


def attach_images(rows: list[Row], folder: Path) -> list[Row]:
    """Find each row's image (``NAME.jpg`` or ``NAME.png``) in the folder's image folder.

    Raises:
        UserError: One is missing or no image; names it and what gets it.
    """
    places = [folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    readers: dict[str, Reader] = {}
    for row in rows:
        if row.image not in readers:
            place, name = next(
                (
                    (place, f"{row.image}{ending}")
                    for place in places
                    for ending in (".jpg", ".png")
                    if (place / f"{row.image}{ending}").is_file()
                ),
                (None, ""),
            )
            if place is None:
                raise UserError(f"{row.where}, field image: no {row.image}.jpg in {folder / IMAGE_FOLDERS[0]}; {_GET_IMAGES}")
            readers[row.image] = file_reader(place, name, where=f"{row.where}, field image")
    return [replace(row, reader=readers[row.image]) for row in rows]


def _read_tsv(path: Path) -> list[Row]:
    rows = []
    for line in read_tsv(path, columns=("question", "answer", "category"), get="it is VLMEvalKit's POPE table"):
        splits: tuple[Split, ...] = tuple(_split(name.strip(), line.where, "category") for name in line.cells["category"].split(","))
        if len(set(splits)) != len(splits):
            raise UserError(f"{line.where}, field category: a split stands twice in {line.cells['category'][:80]!r}")
        rows.append(
            Row(
                id=f"tsv-{line.cells['index']}",
                image=line.image_key[:16],
                question=text_field(line.cells["question"], "question", line.where, longest=_MAX_TEXT).removesuffix(TSV_SUFFIX),
                label=_label(line.cells["answer"].lower(), line.where, "answer"),
                splits=splits,
                where=line.where,
                reader=line.image,
            )
        )
    return join(rows)


def _read_hub(files: list[Path]) -> list[Row]:
    columns = ("question_id", "question", "answer", "image_source", "category")
    rows = []
    checked_images: set[str] = set()
    for line in read_parquet(files, columns=columns):
        cells, where = line.cells, line.where
        split = _split(cells["category"], where, "category")
        image = Path(text_field(cells["image_source"], "image_source", where, longest=_MAX_TEXT)).stem
        if image not in checked_images:
            if not line.images:
                raise UserError(f"{where}, field image: empty; fetch the file again")
            check_image(line.images[0](), where=f"{where}, field image")
            checked_images.add(image)
        official: Mapping[str, Json] = {
            "question_id": cells["question_id"],
            "image": cells["image_source"],
            "text": cells["question"],
            "label": cells["answer"],
        }
        rows.append(parse_row(official, split, where=where, reader=line.images[0] if line.images else None))
    return join(rows)


def _split(value: object, where: str, field: str) -> Split:
    if value not in SPLITS:
        raise UserError(f"{where}, field {field}: {unknown('split', str(value)[:40], SPLITS)}")
    return value  # pyright: ignore[reportReturnType]  one of SPLITS


def _label(value: object, where: str, field: str) -> Label:
    if value not in ("yes", "no"):
        raise UserError(f"{where}, field {field}: expected yes or no, found {str(value)[:40]!r}")
    return value  # pyright: ignore[reportReturnType]


def _number(value: object, where: str, field: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"{where}, field {field}: expected a whole number, found {str(value)[:40]!r}")
    return value
