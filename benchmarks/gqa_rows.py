"""GQA's questions, read from each published form and checked.

==========================  =======================================================================================================
form                        files in the data folder
==========================  =======================================================================================================
official JSON               ``testdev_balanced_questions.json`` (or ``testdev_balanced_all_questions.json``) and the images in ``images/``
Hugging Face hub            ``testdev_balanced_instructions/testdev-*.parquet`` and ``testdev_balanced_images/testdev-*.parquet``
VLMEvalKit                  ``GQA_TestDev_Balanced.tsv``, which holds question and answer alone: no types, no groups
==========================  =======================================================================================================

Source: the GQA site's testdev files; Hugging Face lmms-lab/GQA; VLMEvalKit @ e8e78f05.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from jfeval.benchmarks.gqa_rules import steps, words
from jfeval.benchmarks.understanding.fields import text_field
from jfeval.benchmarks.understanding.media import Reader, bare_name, check_image, file_reader
from jfeval.benchmarks.understanding.tables import parquet_files, read_parquet, read_tsv
from jfeval.errors import UserError, unknown
from jfeval.schema import Json

Structural: TypeAlias = Literal["verify", "query", "choose", "logical", "compare"]
STRUCTURAL: tuple[Structural, ...] = get_args(Structural)
Semantic: TypeAlias = Literal["obj", "attr", "cat", "rel", "global"]
SEMANTIC: tuple[Semantic, ...] = get_args(Semantic)

QUESTIONS = 12_578
"""Of testdev balanced. Source: haotian-liu/LLaVA, issue 584 (log of the official script)."""

IMAGE_FOLDERS = ("images", ".")
_FILES = ("testdev_balanced_questions.json", "testdev_balanced_all_questions.json")
_TSV = "GQA_TestDev_Balanced.tsv"
_INSTRUCTIONS, _IMAGES = "testdev_balanced_instructions", "testdev_balanced_images"
_GET_QUESTIONS = "https://downloads.cs.stanford.edu/nlp/data/gqa/questions1.2.zip holds it"
_GET_IMAGES = "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip holds it"
_GET_HUB = "`jfeval data fetch gqa`"
FORMS = (
    f"{_FILES[0]} ({_GET_QUESTIONS}) with the images in images/ ({_GET_IMAGES}), or the hub's Parquet files ({_GET_HUB}), "
    f"or VLMEvalKit's {_TSV}"
)
_SCORED = ("imageId", "question", "answer", "isBalanced", "types", "groups", "semantic")
_MAX_TEXT = 2000
_MAX_PROGRAM = 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question about an image."""

    id: str
    image: str
    """The image's id."""
    question: str
    answer: str
    balanced: bool = True
    structural: str = ""
    """One of `STRUCTURAL`; empty where the form does not say."""
    semantic: str = ""
    """One of `SEMANTIC`; empty where the form does not say."""
    detailed: str = ""
    group: str = ""
    """Similar questions, such as those about colour; empty for a question that is in no group."""
    steps: int | None = None
    """Reasoning steps; None where the form does not say."""
    official: Mapping[str, Json] = field(default_factory=dict)
    """The fields of the published row that scoring needs."""
    where: str
    """File and row, for messages."""
    reader: Reader | None = None
    """Reads the image; None until images are attached."""

    @property
    def words(self) -> int:
        """How many words the question has."""
        return words(self.question)

    @property
    def kind(self) -> str:
        """``open`` for a query, ``binary`` for every other structural type, empty where that is not known."""
        return "" if not self.structural else "open" if self.structural == "query" else "binary"


def read_folder(folder: Path, *, any_size: bool = False) -> list[Row]:
    """Read whichever published form a folder holds, images attached and checked.

    Args:
        folder: The data folder.
        any_size: Take another number of questions than the published one.

    Raises:
        UserError: No form is there, an image or a file of it is missing, or a row is malformed; names file, row and field, and what gets
            what is missing.
    """
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    instructions = parquet_files(folder, f"**/{_INSTRUCTIONS}/testdev-*")
    if instructions:
        rows = _read_hub(instructions, folder)
    elif (folder / _TSV).is_file():
        rows = _read_tsv(folder / _TSV)
    elif file is not None:
        rows = attach_images(read_questions(file), folder)
    else:
        raise UserError(f"{folder} holds no published form of GQA; expected {FORMS}")
    if len(rows) != QUESTIONS and not any_size:
        raise UserError(
            f"{folder} holds {len(rows)} questions, GQA's balanced testdev has {QUESTIONS}: fetch it again, or take it as it is with "
            "--set-benchmark any_size=true"
        )
    return rows


def read_questions(path: Path) -> list[Row]:
    """Read the official object of questions; images are not looked for.

    Raises:
        UserError: It is no such object, an id stands twice, or a question is malformed.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: _without_doubles(pairs, path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not the object of questions that was expected ({error}); {_GET_QUESTIONS}") from error
    if not isinstance(data, dict) or not data:
        raise UserError(f"{path}: expected an object of questions by id; {_GET_QUESTIONS}")
    return [parse_row(key, value, where=f"{path}, question {key[:40]}") for key, value in data.items()]


def parse_row(row_id: object, data: object, *, where: str, reader: Reader | None = None) -> Row:
    """Check one question of the official form; types, groups and program may be absent, as they are in other forms.

    Args:
        row_id: The question's id.
        data: What the JSON text held.
        where: File and question, for messages.
        reader: Reads the image, where that is known already.

    Raises:
        UserError: Names the place, the field, what stands there and what may.
    """
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected an object with question, answer and imageId, found {str(data)[:60]!r}")
    types = _object(data.get("types"), where, "types")
    program = data.get("semantic")
    balanced = data.get("isBalanced", True)
    if not isinstance(balanced, bool):
        raise UserError(f"{where}, field isBalanced: expected true or false, found {str(balanced)[:40]!r}")
    return Row(
        id=text_field(row_id, "id", where, longest=_MAX_TEXT),
        image=text_field(data.get("imageId"), "imageId", where, longest=_MAX_TEXT),
        question=text_field(data.get("question"), "question", where, longest=_MAX_TEXT),
        answer=text_field(data.get("answer"), "answer", where, longest=_MAX_TEXT),
        balanced=balanced,
        structural=_one_of(types.get("structural"), STRUCTURAL, where, "types.structural"),
        semantic=_one_of(types.get("semantic"), SEMANTIC, where, "types.semantic"),
        detailed=str(types.get("detailed") or "")[:_MAX_TEXT],
        group=str(_object(data.get("groups"), where, "groups").get("global") or "")[:_MAX_TEXT],
        steps=None if program is None else steps(_program(program, where)),
        official={key: data[key] for key in _SCORED if data.get(key) is not None},
        where=where,
        reader=reader,
    )


def attach_images(rows: list[Row], folder: Path) -> list[Row]:
    """Find each row's image (``ID.jpg`` or ``ID.png``) in the folder's image folder.

    Raises:
        UserError: One is missing or no image; names it and what gets it.
    """
    readers: dict[str, Reader] = {}
    for row in rows:
        if row.image not in readers:
            bare_name(row.image, where=f"{row.where}, field imageId")
            names = [(folder / place, row.image + ending) for place in IMAGE_FOLDERS for ending in (".jpg", ".png")]
            found = next(((place, name) for place, name in names if (place / name).is_file()), None)
            if found is None:
                raise UserError(f"{row.where}, field imageId: no {row.image[:80]}.jpg in {folder / IMAGE_FOLDERS[0]}; {_GET_IMAGES}")
            readers[row.image] = file_reader(*found, where=f"{row.where}, field imageId")
    return [replace(row, reader=readers[row.image]) for row in rows]


def _read_hub(files: list[Path], folder: Path) -> list[Row]:
    pictures = parquet_files(folder, f"**/{_IMAGES}/testdev-*")
    if not pictures:
        raise UserError(f"{folder} has the hub's {_INSTRUCTIONS} without {_IMAGES}/testdev-*.parquet; get them with {_GET_HUB}")
    readers: dict[str, Reader] = {}
    for line in read_parquet(pictures, columns=("id",)):
        key = text_field(line.cells["id"], "id", line.where, longest=_MAX_TEXT)
        if key in readers:
            raise UserError(f"{line.where}, field id: the image {key[:40]} stands twice")
        if not line.images:
            raise UserError(f"{line.where}, field image: empty; fetch the file again")
        check_image(line.images[0](), where=f"{line.where}, field image")
        readers[key] = line.images[0]
    needed = ("id", "imageId", "question", "answer", "isBalanced")
    rows: dict[str, Row] = {}
    for line in read_parquet(files, columns=needed, optional=("types", "groups", "semantic"), image=""):
        row = parse_row(line.cells["id"], dict(line.cells), where=line.where)
        if row.id in rows:
            raise UserError(f"{line.where}, field id: {row.id[:40]} stands twice, first in {rows[row.id].where}")
        if row.image not in readers:
            raise UserError(f"{line.where}, field imageId: no image {row.image[:40]} in {_IMAGES}; get it with {_GET_HUB}")
        rows[row.id] = replace(row, reader=readers[row.image])
    return list(rows.values())


def _read_tsv(path: Path) -> list[Row]:
    rows = []
    for line in read_tsv(path, columns=("question", "answer"), get="it is VLMEvalKit's GQA table"):
        data = {"imageId": line.image_key[:16], "question": line.cells["question"], "answer": line.cells["answer"]}
        rows.append(parse_row(f"tsv-{line.cells['index']}", data, where=line.where, reader=line.image))
    return rows


def _without_doubles(pairs: list[tuple[str, object]], path: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise UserError(f"{path}: the key {key[:40]!r} stands twice in one object")
        found[key] = value
    return found


def _object(value: object, where: str, field: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}, field {field}: expected an object, found {str(value)[:40]!r}")
    return value


def _program(value: object, where: str) -> list[Mapping[str, object]]:
    if not isinstance(value, list) or len(value) > _MAX_PROGRAM:
        raise UserError(f"{where}, field semantic: expected a list of at most {_MAX_PROGRAM} operations, found {str(value)[:40]!r}")
    for one in value:
        if not isinstance(one, dict) or not isinstance(one.get("operation"), str) or not isinstance(one.get("argument"), str):
            raise UserError(f"{where}, field semantic: expected operation and argument as texts, found {str(one)[:60]!r}")
    return value


def _one_of(value: object, allowed: tuple[str, ...], where: str, field: str) -> str:
    if value is None:
        return ""
    if value not in allowed:
        raise UserError(f"{where}, field {field}: {unknown('type', str(value)[:40], allowed)}")
    return str(value)
