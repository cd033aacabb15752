"""SEED-Bench's image questions, read from every published form and brought into the official JSON's.

==========================  =================================================================================
form                        files in the data folder
==========================  =================================================================================
VLMEvalKit                  ``SEEDBench_IMG.tsv``
official JSON               ``SEED-Bench.json`` and the images in ``SEED-Bench-image/``
Hugging Face hub            ``data/test-*.parquet`` of lmms-lab/SEED-Bench
==========================  =================================================================================

Questions about videos (dimensions 10 to 12) are left out. Source: AILab-CVC/SEED-Bench @ 991e849b; VLMEvalKit @ e8e78f05,
SEEDBench_IMG.tsv; lmms-eval @ 75571cfe, tasks/seedbench.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jfeval.benchmarks.mmbench_options import NA_TOKENS
from jfeval.benchmarks.seed_rules import DIMENSIONS, LETTERS
from jfeval.benchmarks.understanding.fields import text_field, wrong
from jfeval.benchmarks.understanding.media import Published, Reader, check_image, file_reader
from jfeval.benchmarks.understanding.tables import TableRow, TextRow, parquet_files, read_parquet, read_tsv
from jfeval.errors import UserError, unknown
from jfeval.schema import Json, JsonObject

TSV_FILE, TSV_MD5 = "SEEDBench_IMG.tsv", "68017231464752261a2526d6ca3a10c0"
"""Source: VLMEvalKit @ e8e78f05, dataset/image_mcq.py, DATASET_MD5."""
JSON_FILE = "SEED-Bench.json"
IMAGE_FOLDERS = ("SEED-Bench-image", "seed_bench_image", "images")
HUB = "lmms-lab/SEED-Bench"
IMAGE_ROWS = (14_232, 14_233)
"""Image questions: the first counted in the repository's own result file, the second as usually quoted. Not verified against the data."""

CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
FIELDS = ("question_id", "question_type_id", "data_type", "data_id", "question", *CHOICES, "answer")
"""Fields of the official JSON that are read."""

_GET_TSV = "`jfeval data fetch seed`"
_GET_JSON = "`hf download AILab-CVC/SEED-Bench --repo-type dataset --local-dir FOLDER`, then unpack its SEED-Bench-image.zip there"
_GET_HUB = "`jfeval data fetch seed-hub`"
HOW_TO_GET = (
    f"{TSV_FILE} ({_GET_TSV}), or {JSON_FILE} with the images in {IMAGE_FOLDERS[0]}/ ({_GET_JSON}), or data/test-*.parquet ({_GET_HUB})"
)
"""What the data folder holds, and what gets it."""

_MAX_TEXT = 20_000
_MAX_FILE = 256 * 2**20
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """One question about an image."""

    id: str
    question: str
    options: dict[str, str]
    """Letter to text, A to D, as written."""
    answer: str
    dimension: str
    """Name of the evaluation dimension."""

    @property
    def read_by_pandas(self) -> dict[str, str]:
        """The options that VLMEvalKit sees: pandas reads "None" or "N/A" as missing."""
        return {letter: text for letter, text in self.options.items() if text not in NA_TOKENS}


def parse_row(reference: Mapping[str, Json], *, where: str) -> SeedRow:
    """Check one question.

    Raises:
        UserError: A field is missing or of another kind; names place, field, what stands there and what may.
    """
    identity = reference.get("question_id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str) or not identity or len(identity) > _SHOWN or not identity.isprintable():
        raise wrong(where, "question_id", identity, f"an id of 1 to {_SHOWN} characters")
    number = reference.get("question_type_id")
    if not isinstance(number, int) or isinstance(number, bool) or number not in DIMENSIONS:
        raise wrong(where, "question_type_id", number, f"a whole number from 1 to {max(DIMENSIONS)}")
    options = {
        letter: text_field(reference.get(name), name, where, longest=_MAX_TEXT) for letter, name in zip(LETTERS, CHOICES, strict=True)
    }
    answer = reference.get("answer")
    if answer not in options:
        raise wrong(where, "answer", answer, f"one of {', '.join(LETTERS)}")
    question = text_field(reference.get("question"), "question", where, longest=_MAX_TEXT)
    return SeedRow(id=identity, question=question, options=options, answer=str(answer), dimension=DIMENSIONS[number])


def data_files(folder: Path) -> list[Path]:
    """Find a published form in a local folder.

    Raises:
        UserError: There is none; says what gets one.
    """
    for name in (TSV_FILE, JSON_FILE):
        if (folder / name).is_file():
            return [folder / name]
    files = parquet_files(folder, "data/test-*.parquet", "test-*.parquet")
    if not files:
        raise UserError(f"{folder} holds no published form of SEED-Bench: {HOW_TO_GET}")
    return files


def read_published(files: list[Path]) -> list[Published]:
    """Read the image questions of `data_files`, in their order.

    Raises:
        UserError: What is in them is malformed, or an image is missing or none; names file, row and field.
    """
    if files[0].name == TSV_FILE:
        rows: Iterable[Published] = map(_from_tsv, read_tsv(files[0], columns=("question", *LETTERS, "answer", "category"), get=_GET_TSV))
    elif files[0].name == JSON_FILE:
        rows = _from_json(files[0])
    else:
        table = read_parquet(files, columns=FIELDS)
        rows = (_from_hub(row) for row in table if row.cells["data_type"] == "image")
    return list(rows)


def check_unique(rows: Iterable[tuple[SeedRow, str]]) -> None:
    """Raise UserError where a question id stands twice."""
    seen: dict[str, str] = {}
    for row, where in rows:
        if row.id in seen:
            raise UserError(f"{where}, field question_id: {row.id} stands twice, first in {seen[row.id]}")
        seen[row.id] = where


def _from_tsv(row: TextRow) -> Published:
    cells = row.cells
    numbers = {name: number for number, name in DIMENSIONS.items()}
    if cells["category"] not in numbers:
        raise UserError(f"{row.where}, field category: {unknown('dimension', cells['category'][:_SHOWN], numbers)}")
    reference: JsonObject = {
        "question_id": cells["index"],
        "question_type_id": numbers[cells["category"]],
        "data_type": "image",
        "data_id": row.image_key[:16],
        "question": cells["question"],
        **{name: cells[letter] for letter, name in zip(LETTERS, CHOICES, strict=True)},
        "answer": cells["answer"],
    }
    return Published(reference=reference, where=row.where, image=row.image, image_key=row.image_key)


def _from_json(path: Path) -> Iterable[Published]:
    folder = next((path.parent / name for name in IMAGE_FOLDERS if (path.parent / name).is_dir()), None)
    if folder is None:
        raise UserError(f"{path.parent / IMAGE_FOLDERS[0]} is missing: the folder of the images that {path.name} asks about; {_GET_JSON}")
    readers: dict[str, Reader] = {}
    for place, reference in enumerate(_questions(path)):
        where = f"{path}, questions[{place}]"
        if not isinstance(reference, dict):
            raise wrong(where, "(itself)", reference, "an object")
        if reference.get("data_type") not in ("image", "video"):
            raise wrong(where, "data_type", reference.get("data_type"), "image or video")
        if reference["data_type"] == "image":
            name = text_field(reference.get("data_id"), "data_id", where, longest=_MAX_TEXT)
            if name not in readers:
                found = next((n for n in (name, f"{name}.jpg", f"{name}.png") if (folder / n).is_file()), name)
                readers[name] = file_reader(folder, found, where=f"{where}, field data_id")
            kept: JsonObject = {field: reference.get(field) for field in FIELDS}
            yield Published(reference=kept, where=where, image=readers[name], image_key=name)


def _questions(path: Path) -> list[Json]:
    if path.stat().st_size > _MAX_FILE:
        raise UserError(f"{path} has {path.stat().st_size} bytes; at most {_MAX_FILE} are taken")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); {_GET_JSON}") from error
    questions = data.get("questions") if isinstance(data, dict) else data
    if not isinstance(questions, list):
        raise UserError(f"{path}: expected an object with a list of questions; {_GET_JSON}")
    return questions


def _from_hub(row: TableRow) -> Published:
    if len(row.images) != 1:
        raise UserError(f"{row.where}, field image: {len(row.images)} images; a question about an image has one")
    data = row.images[0]()
    check_image(data, where=f"{row.where}, field image")
    reference: JsonObject = {name: row.cells[name] for name in FIELDS}
    return Published(reference=reference, where=row.where, image=row.images[0], image_key=hashlib.sha256(data).hexdigest())
