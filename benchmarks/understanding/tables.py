"""Tables as published data has them: tab-separated text with images as base64 (VLMEvalKit), and Parquet (the Hugging Face hub).

Rows are read at once; images stay on disk, and a row keeps where its image lies.
"""

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from jfeval.benchmarks.understanding.media import Reader, check_image, decode_base64
from jfeval.errors import UserError
from jfeval.schema import Json

MAX_ROW_BYTES = 64 * 2**20
"""Longest row of a table of text."""
REFERENCE_LENGTH = 64
"""An image cell of at most this many characters is the index of the row whose image it repeats. Source: VLMEvalKit @ e8e78f05."""

_ROW_GROUPS_KEPT = 2


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """One row of a TSV file: its cells as they stand (nothing is read as missing but an empty cell), without the image."""

    cells: Mapping[str, str]
    where: str
    """File and row, for messages."""
    image: Reader
    """Reads the image, its own or the one it refers to."""
    image_key: str
    """The same for rows of the same image: a hash of it."""


def read_tsv(path: Path, *, columns: Sequence[str], get: str) -> list[TextRow]:
    """Read VLMEvalKit's form: tab-separated, quoted as pandas does it, images as base64 or as the index of another row.

    Images stay on disk: a row keeps where it lies in the file. Every distinct image is checked once.

    Args:
        path: The file.
        columns: Columns that must be there, beside ``index`` and ``image``.
        get: What gets the file where it is missing, for the message.

    Raises:
        UserError: The file is missing or not such a table; an index is doubled or no number; an image is none, or refers to a row
            that is missing or has no image of its own. Names file, row and field.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; {get}")
    rows: list[tuple[dict[str, str], str]] = []
    places: dict[str, tuple[int, int]] = {}
    keys: dict[str, str] = {}
    references: dict[str, str] = {}
    with path.open("rb") as file:
        records = _records(file, path)
        header = next(records, (0, 0, []))[2]
        missing = [name for name in ("index", "image", *columns) if name not in header]
        if missing:
            raise UserError(f"{path}, row 1: the header lacks the column {', '.join(missing)}; it has {', '.join(header)[:200] or 'none'}")
        for number, (start, length, cells) in enumerate(records, start=2):
            where = f"{path}, row {number}"
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} cells where the header has {len(header)}")
            row = dict(zip(header, cells, strict=True))
            image, index = row.pop("image"), _whole(row["index"], where)
            if index in places or index in references:
                raise UserError(f"{where}, field index: {index} stands twice")
            row["index"] = index
            if len(image) <= REFERENCE_LENGTH:
                references[index] = _whole(image, where, field="image", extra=" or base64 of an image file")
            else:
                data = decode_base64(image, where=f"{where}, field image")
                check_image(data, where=f"{where}, field image")
                places[index], keys[index] = (start, length), hashlib.sha256(data).hexdigest()
            rows.append((row, where))
    for row, where in rows:
        target = references.get(row["index"])
        if target is not None and target not in places:
            why = "refers to another reference" if target in references else "is in no row"
            raise UserError(f"{where}, field image: row index {target} {why}; expected the index of a row that holds an image")
    column = header.index("image")
    readers = {index: _cell_reader(path, *place, column) for index, place in places.items()}
    owners = [references.get(row["index"], row["index"]) for row, _ in rows]
    return [
        TextRow(cells=row, where=where, image=readers[owner], image_key=keys[owner])
        for (row, where), owner in zip(rows, owners, strict=True)
    ]


def _records(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """Yield each record's offset, length in bytes and cells; a quoted cell may span lines."""
    start, held = 0, b""
    for number, line in enumerate(file, start=1):
        held += line
        if len(held) > MAX_ROW_BYTES:
            raise UserError(f"{path}, line {number}: a row of more than {MAX_ROW_BYTES} bytes; is a quotation mark left open?")
        if held.count(b'"') % 2:
            continue
        if held.strip():
            yield start, len(held), _cells(held, f"{path}, line {number}")
        start, held = start + len(held), b""
    if held:
        raise UserError(f"{path}: the last row leaves a quotation mark open; the file is cut off, fetch it again")


def _cells(record: bytes, where: str) -> list[str]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    try:
        return next(csv.reader(io.StringIO(record.decode("utf-8-sig"), newline=""), delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{where}: not tab-separated UTF-8 text ({error})") from error


def _cell_reader(path: Path, start: int, length: int, column: int) -> Reader:
    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            record = file.read(length)
        return decode_base64(_cells(record, str(path))[column], where=f"{path} at byte {start}")

    return read


def _whole(text: str, where: str, *, field: str = "index", extra: str = "") -> str:
    """Return a whole number as text, without the ".0" that a table with gaps gives it."""
    number = text.strip().removesuffix(".0")
    if not (number.isascii() and number.isdigit() and len(number) <= REFERENCE_LENGTH):
        raise UserError(f"{where}, field {field}: expected a whole number{extra}, found {text[:40]!r}")
    return str(int(number))


# Parquet (the Hugging Face hub's form)


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row of a set of Parquet files, without its images."""

    cells: Mapping[str, Json]
    where: str
    """File and row, for messages."""
    images: tuple[Reader, ...]
    """Reads its image, or images where the column holds a list; not checked yet."""


def parquet_files(folder: Path, *patterns: str) -> list[Path]:
    """List the Parquet files of a downloaded data set whose path in it matches one of the patterns, in order."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.suffix == ".parquet" and path.is_file()})


def read_parquet(files: Sequence[Path], *, columns: Sequence[str], optional: Sequence[str] = (), image: str = "image") -> list[TableRow]:
    """Read rows of Parquet files; image bytes stay on disk.

    Args:
        files: The files, in order.
        columns: Columns that must be there; others are left unread.
        optional: Columns that are read where they are there.
        image: The image column, ``{bytes, path}`` or a list of such; an empty name for a table without images.

    Raises:
        UserError: A file is not Parquet, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet as pq

    rows: list[TableRow] = []
    for path in files:
        try:
            file = pq.ParquetFile(path)
            missing = [name for name in (*columns, *([image] if image else [])) if name not in file.schema_arrow.names]
            if missing:
                raise UserError(f"{path} lacks the column {', '.join(missing)}; it has {', '.join(file.schema_arrow.names)[:200]}")
            wanted = [*columns, *(name for name in optional if name in file.schema_arrow.names)]
            number = 0
            for group in range(file.num_row_groups):
                sizes = _image_counts(file, group, image) if image else []
                for position, cells in enumerate(file.read_row_group(group, columns=wanted).to_pylist()):
                    number += 1
                    count = sizes[position] if image else 0
                    readers = tuple(_parquet_reader(path, group, image, position, item) for item in range(count))
                    rows.append(TableRow(cells=cells, where=f"{path}, row {number}", images=readers))
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{path} is not a Parquet file that can be read ({error}); fetch it again") from error
    return rows


def _image_counts(file: object, group: int, image: str) -> list[int]:
    column = _column(file, group, image)
    import pyarrow

    if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
        return [len(value) if value.is_valid else 0 for value in column]
    return [1 if value.is_valid else 0 for value in column]


def _column(file: object, group: int, image: str):  # noqa: ANN202  pyarrow's type, which is slow to import
    return file.read_row_group(group, columns=[image]).column(image).combine_chunks()  # pyright: ignore[reportAttributeAccessIssue]


@lru_cache(maxsize=_ROW_GROUPS_KEPT)
def _row_group(path: Path, group: int, image: str):  # noqa: ANN202
    import pyarrow.parquet as pq

    return _column(pq.ParquetFile(path), group, image)


def _parquet_reader(path: Path, group: int, image: str, position: int, item: int) -> Reader:
    def read() -> bytes:
        value = _row_group(path, group, image)[position].as_py()
        value = value[item] if isinstance(value, list) else value
        data = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(data, bytes):
            raise UserError(f"{path}, row group {group}, row {position + 1}, field {image}: holds no image bytes")
        return data

    return read
