"""MMBench's rows: one multiple-choice question as published, read from every published form and checked.

The forms are VLMEvalKit's TSV (images as base64 or as the index of another row), the Parquet files of lmms-lab/MMBench (images as bytes,
missing options and hints spelled "nan") and those of HuggingFaceM4/MMBench (the TSV's cells, English). A row's reference is its published
text, without the image.

Source: the column lists of VLMEvalKit @ e8e78f05, dataset/image_mcq.py, and lmms-eval @ 75571cfe, tasks/mmbench.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from jfeval.benchmarks.mmbench_options import NA_TOKENS
from jfeval.benchmarks.mmbench_rules import group_of, is_base
from jfeval.benchmarks.understanding.fields import text_field, wrong
from jfeval.benchmarks.understanding.media import Published, check_image, decode_base64
from jfeval.benchmarks.understanding.tables import REFERENCE_LENGTH, TableRow, TextRow, parquet_files, read_parquet, read_tsv
from jfeval.errors import UserError
from jfeval.schema import Json, JsonObject

Language: TypeAlias = Literal["en", "cn"]

LETTERS = "ABCD"
COLUMNS = ("question", "hint", *LETTERS, "answer", "category", "l2-category", "split")
"""Columns of the TSV that are read, beside index and image; source and comment are not."""
TSV_FILES: Mapping[Language, str] = {"en": "MMBench_DEV_EN.tsv", "cn": "MMBench_DEV_CN.tsv"}
TSV_MD5: Mapping[Language, str] = {"en": "b6caf1133a01c6bb705cf753bb527ed8", "cn": "08b8fc3324a5ed74155350f57be69fbd"}
"""Source: VLMEvalKit @ e8e78f05, dataset/image_mcq.py, DATASET_MD5."""
TSV_URL = "https://opencompass.openxlab.space/utils/benchmarks/MMBench/"
HUB, TEXT_HUB = "lmms-lab/MMBench", "HuggingFaceM4/MMBench"
ROWS, QUESTIONS = 4329, 1164
"""Rows and questions of the dev split, in either language."""
OLDER_ROWS = 4377
"""Rows of mmbench_dev_20230712, another set, which LLaVA's published numbers use."""

_MAX_TEXT = 20_000
_TEXT_COLUMNS = ("question", "hint", *LETTERS)


@dataclass(frozen=True, kw_only=True)
class ChoiceRow:
    """One row: a question with its options in one rotation."""

    index: int
    question: str
    hint: str
    """Empty where there is none."""
    options: dict[str, str]
    """Letter to text, in order, for the options that a published scorer sees: pandas reads an option "None" or "N/A" as missing."""
    answer: str
    category: str
    l2: str
    split: str


def parse_row(reference: Mapping[str, Json], *, where: str) -> ChoiceRow:
    """Check one published row.

    Raises:
        UserError: A field is missing or of another kind, there are fewer than two options, or the answer is none of them. Names place,
            field, what stands there and what may.
    """
    index = reference.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise wrong(where, "index", index, "a whole number from 0")
    texts = {name: text_field(reference.get(name), name, where, longest=_MAX_TEXT, empty=True) for name in COLUMNS}
    options = {letter: texts[letter] for letter in LETTERS if texts[letter] not in NA_TOKENS}
    written = [letter for letter in LETTERS if texts[letter]]
    if len(options) < 2:
        raise UserError(f"{where}, fields A to D: {len(options)} options that can be read; a question needs at least two")
    if not texts["question"].strip():
        raise wrong(where, "question", texts["question"], "text")
    answer = texts["answer"]
    if answer not in written:
        split = "; the test split has no answers, take the dev split" if not answer else ""
        raise wrong(where, "answer", answer, f"the letter of one of the row's options, {', '.join(written)}{split}")
    for name in ("category", "l2-category"):
        if not texts[name] or "/" in texts[name]:
            raise wrong(where, name, texts[name], "the name of an ability, without a slash")
    return ChoiceRow(
        index=index,
        question=texts["question"],
        hint="" if texts["hint"] in NA_TOKENS else texts["hint"],
        options=options,
        answer=answer,
        category=texts["category"],
        l2=texts["l2-category"],
        split=texts["split"],
    )


def data_files(folder: Path, language: Language) -> list[Path]:
    """Find the dev split of one language in a local folder: VLMEvalKit's TSV, else the hub's Parquet files.

    Raises:
        UserError: There is neither.
    """
    tsv = folder / TSV_FILES[language]
    patterns = (f"{language}/dev*.parquet", *(["data/validation*.parquet"] if language == "en" else []))
    files = [tsv] if tsv.is_file() else parquet_files(folder, *patterns)
    if not files:
        raise UserError(f"{folder} holds neither {tsv.name} nor {' nor '.join(patterns)}; it may hold {forms(language)}")
    return files


def form_of(files: Sequence[Path]) -> str:
    """Name the published form of `data_files`: the TSV's file name, or a hub id."""
    if files[0].suffix == ".tsv":
        return files[0].name
    return TEXT_HUB if files[0].name.startswith("validation") else HUB


def read_published(files: Sequence[Path], language: Language) -> list[Published]:
    """Read the rows of `data_files`, in their order.

    Raises:
        UserError: What is in them is malformed; names file, row and field.
    """
    if files[0].suffix == ".tsv":
        rows = read_tsv(files[0], columns=COLUMNS, get=forms(language))
        return [_from_tsv(row) for row in rows]
    if form_of(files) == TEXT_HUB:
        return _from_text_images(read_parquet(files, columns=["index", "image", *COLUMNS], image=""))
    table = read_parquet(files, columns=["index", *(_hub_name(name) for name in COLUMNS)])
    return [_from_hub(row) for row in table]


def forms(language: Language) -> str:
    """Say which files a data folder may hold, and what gets them."""
    name = "mmbench" if language == "en" else "mmbench-cn"
    return (
        f"{TSV_FILES[language]} (`jfeval data fetch {name}`, from {TSV_URL}), or the Parquet files {language}/dev* of {HUB} "
        f"(`jfeval data fetch {name}-hub`)"
    )


def check_whole(rows: Sequence[tuple[ChoiceRow, str]], *, any_size: bool) -> None:
    """Compare ids and counts with the published ones.

    Args:
        rows: Each row with its file and row number.
        any_size: Take other counts than the published ones.

    Raises:
        UserError: An index stands twice, or counts differ and ``any_size`` is not set.
    """
    seen: dict[int, str] = {}
    for row, where in rows:
        if row.index in seen:
            raise UserError(f"{where}, field index: {row.index} stands twice, first in {seen[row.index]}")
        seen[row.index] = where
    questions = len({group_of(index) for index in seen})
    if (len(rows), questions) != (ROWS, QUESTIONS) and not any_size:
        older = " (the older set of July 2023)" if len(rows) == OLDER_ROWS else ""
        raise UserError(
            f"this is not the published MMBench dev: {len(rows)} rows of {questions} questions{older}, published {ROWS} of {QUESTIONS}. "
            "Fetch it again, or take it as it is with --set-benchmark any_size=true"
        )


def check_groups(rows: Sequence[tuple[ChoiceRow, str]]) -> list[str]:
    """Compare the rotations of every question and list what does not fit together, with its place; nothing of it stops a run.

    Args:
        rows: Each row with its file and row number.
    """
    groups: dict[int, list[tuple[ChoiceRow, str]]] = {}
    for row, where in rows:
        groups.setdefault(group_of(row.index), []).append((row, where))
    notes = []
    for group, members in groups.items():
        first, where = min(members, key=lambda member: member[0].index)
        if not is_base(first.index):
            notes.append(f"{where}: question {group} has no row of index {group}; circular accuracy leaves it out")
        elif len(members) != len(first.options):
            notes.append(f"{where}: question {group} has {len(members)} rows for {len(first.options)} options")
        for row, place in members:
            if sorted(row.options.values()) != sorted(first.options.values()):
                notes.append(f"{place}: the options are not those of row index {first.index}")
            elif row.options.get(row.answer) != first.options.get(first.answer):
                notes.append(f"{place}, field answer: {row.answer} is another text than the answer of row index {first.index}")
    return notes


def hidden_options(reference: Mapping[str, Json]) -> list[str]:
    """List the letters of options whose text pandas reads as missing, so that no published scorer sees them."""
    return [letter for letter in LETTERS if reference.get(letter) and reference[letter] in NA_TOKENS]


def _from_tsv(row: TextRow) -> Published:
    texts: JsonObject = {name: row.cells[name] for name in COLUMNS}
    return Published(reference={"index": int(row.cells["index"]), **texts}, where=row.where, image=row.image, image_key=row.image_key)


def _from_text_images(table: Sequence[TableRow]) -> list[Published]:
    """Read rows whose images are text as in the TSV: base64, or the index of the row that holds it. These stay in memory."""
    texts = {str(row.cells["index"]): str(row.cells["image"] or "") for row in table}
    rows: list[Published] = []
    for row in table:
        where, text = f"{row.where}, field image", str(row.cells["image"] or "")
        if len(text) <= REFERENCE_LENGTH:
            target, text = text, texts.get(text, "")
            if len(text) <= REFERENCE_LENGTH:
                raise UserError(f"{where}: row index {target!r} is no row that holds an image; expected one, or base64 of an image file")
        data = decode_base64(text, where=where)
        check_image(data, where=where)
        image, key = partial(decode_base64, text, where=where), hashlib.sha256(data).hexdigest()
        reference = _hub_reference(row.cells, lambda name: name)
        rows.append(Published(reference=reference, where=row.where, image=image, image_key=key))
    return rows


def _hub_reference(cells: Mapping[str, Json], called: Callable[[str], str]) -> JsonObject:
    """Bring cells of the hub's forms into the TSV's: "nan" and null are empty cells, an index may be text."""
    index = cells["index"]
    reference: JsonObject = {"index": int(index) if isinstance(index, str) and index.isascii() and index.isdigit() else index}
    for name in COLUMNS:
        value = cells[called(name)]
        reference[name] = "" if value is None or (value == "nan" and name in _TEXT_COLUMNS) else value
    return reference


def _from_hub(row: TableRow) -> Published:
    reference = _hub_reference(row.cells, _hub_name)
    where = f"{row.where}, field image"
    if len(row.images) != 1:
        raise UserError(f"{where}: {len(row.images)} images; expected one")
    data = row.images[0]()
    check_image(data, where=where)
    return Published(reference=reference, where=row.where, image=row.images[0], image_key=hashlib.sha256(data).hexdigest())


def _hub_name(column: str) -> str:
    return "L2-category" if column == "l2-category" else column
