"""Training data on disk, decoded once.

The format is the only thing the synthetic world and the trainer share::

    DIR/scenes/{train,test,heldout}-*.parquet   scene_id, image {bytes, path}, captions [str], questions [{question, answer, kind}], objects
    DIR/text/train-*.parquet                    text
    DIR/meta.json                               whatever the writer wants to state about itself

`decode` turns that into arrays beside the run, so that training never decodes a PNG and never looks at DIR again.
"""

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.training.data import ROWS_PER_READ, TRAIN
from jfeval.models.training.held_out import HeldOut
from jfeval.models.training.part import Part
from jfeval.settings import NO_EFFECT

log = logging.getLogger(__name__)

SPLITS = (TRAIN, "test", "heldout")


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """What decoding one split found."""

    split: str
    rows: int
    """Rows kept."""
    skipped: tuple[str, ...]
    """One line per row left out: file, row, scene and reason."""


def _as_array(image: object, size: int) -> np.ndarray:
    """Decode one stored image to (3, size, size) uint8.

    Raises:
        ValueError: where the cell holds no image, or one of another size.
    """
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes):
        raise ValueError("the cell holds no image bytes")
    with Image.open(io.BytesIO(data)) as opened:
        if opened.size != (size, size):
            raise ValueError(f"the image is {opened.size[0]}x{opened.size[1]}, expected {size}x{size}")
        return np.asarray(opened.convert("RGB"), np.uint8).transpose(2, 0, 1)


def _check_row(row: dict[str, Any]) -> None:
    """Raise ValueError where a row lacks what training needs."""
    if not isinstance(row.get("scene_id"), str) or not row["scene_id"]:
        raise ValueError("scene_id is empty")
    captions = row.get("captions")
    if not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        raise ValueError("captions are missing or empty")
    for question in row.get("questions") or ():
        if not question.get("question") or not question.get("answer"):
            raise ValueError("a question or its answer is empty")


def _files(source: Path, kind: str, split: str) -> list[Path]:
    """List the Parquet files of one split, in order.

    Raises:
        UserError: where there are none.
    """
    files = sorted((source / kind).glob(f"{split}-*.parquet"))
    if not files:
        raise UserError(f"no {kind}/{split}-*.parquet in {source}; write the data first (jfeval data make shapes)")
    return files


def decode(source: Path, split: str, folder: Path, *, size: int, limit: int | None = None, max_skipped: int = 20) -> DecodeReport:
    """Decode one split of DIR into ``{split}-images.npy`` and ``{split}-rows.parquet`` in `folder`.

    A row that cannot be read is left out, counted and named; more than `max_skipped` of them stop the run.

    Raises:
        UserError: where the split is missing, or too many rows are bad.
    """
    files = _files(source, "scenes", split)
    total = sum(pq.ParquetFile(f).metadata.num_rows for f in files)
    total = total if limit is None else min(total, limit)
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / f"{split}-images.npy", "w+", np.uint8, (total, 3, size, size))
    tables: list[pa.Table] = []
    skipped: list[str] = []
    position = 0
    for file in files:
        first = 0
        for batch in pq.ParquetFile(file).iter_batches(ROWS_PER_READ):
            kept: list[tuple[int, int]] = []
            for local, row in enumerate(batch.slice(0, total - position).to_pylist()):
                try:
                    _check_row(row)
                    images[position] = _as_array(row["image"], size)
                    kept.append((local, position))
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    skipped.append(f"{file.name} row {first + local} ({str(row.get('scene_id'))[:80]}): {error}")
                    if len(skipped) > max_skipped:
                        raise UserError(f"more than {max_skipped} bad rows in {source}: {'; '.join(skipped[:3])} ...") from error
                position += 1
            wanted = pa.array([local for local, _ in kept], pa.int64())
            table = pa.Table.from_batches([batch]).drop_columns(["image"]).take(wanted)
            tables.append(table.append_column("image_row", pa.array([place for _, place in kept], pa.int64())))
            first += batch.num_rows
    images.flush()
    rows = pa.concat_tables(tables).replace_schema_metadata(None)
    pq.write_table(rows, folder / f"{split}-rows.parquet", compression="zstd")
    for line in skipped:
        log.warning("skipped %s", line)
    log.info("%s: %d scenes decoded, %d skipped", split, rows.num_rows, len(skipped))
    return DecodeReport(split=split, rows=rows.num_rows, skipped=tuple(skipped))


def read_texts(source: Path, split: str = TRAIN) -> list[str]:
    """Read the plain text of one split; empty where the world wrote none."""
    if not list((source / "text").glob(f"{split}-*.parquet")):
        return []
    columns = [pq.read_table(f, columns=["text"]).column("text") for f in _files(source, "text", split)]
    return [text for column in columns for text in column.to_pylist() if isinstance(text, str) and text.strip()]


def check_held_out(pairs: HeldOut, folder: Path, texts: Sequence[str]) -> None:
    """Check that no decoded training scene and no plain text holds a pair that training must not see.

    Raises:
        UserError: naming the first scene or text that does.
    """
    for batch in pq.ParquetFile(folder / f"{TRAIN}-rows.parquet").iter_batches(ROWS_PER_READ):
        for row in batch.to_pylist():
            if found := pairs.in_row(row):
                raise UserError(f"training scene {row['scene_id']} holds the held-out pair {found!r}; write the data again")
    for number, text in enumerate(texts):
        if found := pairs.in_text(text):
            raise UserError(f"training text {number} names the held-out pair {found!r}: {text[:100]!r}; write the data again")


def fingerprint(source: Path) -> str:
    """Return a sha256 over the names and contents of every Parquet file of DIR and its meta.json."""
    digest = hashlib.sha256()
    for file in sorted(p for p in source.rglob("*") if p.suffix == ".parquet" or p.name == "meta.json"):
        digest.update(str(file.relative_to(source)).encode() + b"\0")
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def read_meta(source: Path) -> dict[str, Any]:
    """Read DIR/meta.json.

    Raises:
        UserError: where it is missing or no JSON object.
    """
    try:
        meta = json.loads((source / "meta.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{source / 'meta.json'} cannot be read ({error}); write the data first (jfeval data make shapes)") from error
    if not isinstance(meta, dict):
        raise UserError(f"{source / 'meta.json'} holds no JSON object")
    return cast("dict[str, Any]", meta)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the data are and how much of them is used."""

    source: str = field(default="data/shapes", metadata=NO_EFFECT)
    """Folder in the format above; its contents, not its place, enter the hash."""
    world: str = "shapes"
    """Which world writes the data where the folder holds none."""
    image_size: int = 64
    """Side of every image in pixels; an image of another size is a bad row."""
    train_limit: int = 0
    """Use the first so many training scenes; 0 for all."""
    test_limit: int = 2000
    """Decode so many scenes of the splits that are only measured on."""
    max_skipped: int = 20
    """Bad rows per split after which the run stops."""


def prepare_data(settings: DataSettings, part: Part) -> dict[str, Any]:
    """Have the data written where they are missing, and decode every split into the part's folder."""
    source = Path(settings.source)
    if not (source / "meta.json").is_file():
        if settings.world not in part.prepare:
            raise UserError(f"no data in {source} (meta.json is missing); write them first (jfeval data make {settings.world})")
        part.prepare[settings.world](source)
    held_out = HeldOut.from_meta(read_meta(source))
    content = fingerprint(source)
    counts: dict[str, Any] = {}
    for split in SPLITS:
        if split != TRAIN and not list((source / "scenes").glob(f"{split}-*.parquet")):
            continue
        limit = settings.train_limit if split == TRAIN else settings.test_limit
        report = decode(source, split, part.folder, size=settings.image_size, limit=limit or None, max_skipped=settings.max_skipped)
        counts |= {f"{split}_scenes": report.rows, f"{split}_skipped": list(report.skipped)}
    texts = read_texts(source)
    check_held_out(held_out, part.folder, texts)
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), part.folder / "text.parquet", compression="zstd")
    return {"content": content, **counts, "texts": len(texts)}
