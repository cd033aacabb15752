"""Training data on disk: reading what a world wrote, decoding it once, and drawing batches that depend on the step alone.

The format is the only thing the synthetic world and the trainer share::

    DIR/scenes/{train,test,heldout}-*.parquet   scene_id, image {bytes, path}, captions [str], questions [{question, answer, kind}], objects
    DIR/text/train-*.parquet                    text
    DIR/meta.json                               whatever the writer wants to state about itself

`decode` turns that into arrays beside the run, so that training never decodes a PNG and never looks at DIR again. Training reads the
split ``train`` only (`Scenes.open_train`); the others exist for measurements.
"""

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.training.held_out import HeldOut
from jfeval.models.training.part import NO_EFFECT, Part

log = logging.getLogger(__name__)

TRAIN = "train"
SPLITS = (TRAIN, "test", "heldout")
_ROWS_PER_READ = 2048


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about a scene with its true answer."""

    question: str
    answer: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class DecodeReport:
    """What decoding one split found."""

    split: str
    rows: int
    """Rows kept."""
    skipped: tuple[str, ...]
    """One line per row left out: file, row, scene and reason."""


class StepRng:
    """All randomness of one training step: a pure function of (seed, step), so that a resumed run needs no saved generator."""

    def __init__(self, seed: int, step: int) -> None:
        first, second = np.random.SeedSequence([seed, step]).generate_state(2, np.uint64)
        self.numpy = np.random.default_rng(int(first))
        self.torch = torch.Generator().manual_seed(int(second >> np.uint64(1)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block (initialising a module) under its own seed, leaving the process-wide generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class Sampler:
    """Draws row numbers for each step: every row once per epoch, in an order that depends on (seed, epoch) alone."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        if rows < 1 or batch_size < 1:
            raise UserError(f"a sampler needs at least one row and one place in the batch; got {rows} rows and batch size {batch_size}")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return self._order

    def indices(self, step: int) -> np.ndarray:
        """Return the row numbers (batch_size,) of batch number `step` (from 0); a batch may reach into the next epoch."""
        return self.between(step * self.batch_size, (step + 1) * self.batch_size)

    def between(self, position: int, end: int) -> np.ndarray:
        """Return the row numbers at places `position` to `end` of the endless order, the end left out."""
        pieces = [np.empty(0, np.int64)]
        while position < end:
            epoch, offset = divmod(position, self.rows)
            piece = self._permutation(epoch)[offset : offset + end - position]
            pieces.append(piece)
            position += len(piece)
        return np.concatenate(pieces)


class Scenes:
    """One decoded split: images as one memory-mapped array, everything else as one Arrow table.

    Attributes:
        split: Which split this is.
        images: (N, 3, H, W) uint8, memory-mapped; rows that were skipped when decoding stay zero and are never reached.
        ids: The scene id of each kept row.
    """

    def __init__(self, folder: Path, split: str) -> None:
        rows = folder / f"{split}-rows.parquet"
        if not rows.is_file():
            raise UserError(f"no decoded split {split!r} in {folder}; run the recipe's data part first")
        self.split = split
        self.images: np.ndarray = np.load(folder / f"{split}-images.npy", mmap_mode="r")
        self._table: pa.Table = pq.read_table(rows).combine_chunks()
        self._place = self._table.column("image_row").to_numpy()
        self.ids: list[str] = self._table.column("scene_id").to_pylist()

    @classmethod
    def open_train(cls, folder: Path) -> "Scenes":
        """Open the split that training may see."""
        return cls(folder, TRAIN)

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """Return the images of `rows` as float32 (B, 3, H, W) in [-1, 1]."""
        picked = np.ascontiguousarray(self.images[self._place[np.asarray(rows)]])
        return torch.from_numpy(picked).float().div_(127.5).sub_(1.0)

    def captions(self, row: int) -> list[str]:
        """Return every caption of one scene."""
        return self._table.column("captions")[int(row)].as_py()

    def questions(self, row: int) -> list[Question]:
        """Return every question of one scene."""
        return [Question(**q) for q in self._table.column("questions")[int(row)].as_py()]

    def objects(self, row: int) -> Any:  # noqa: ANN401 - the world's own record, opaque to the trainer
        """Return the world's own record of what the scene holds, as plain Python values."""
        return self._table.column("objects")[int(row)].as_py() if "objects" in self._table.column_names else None

    def all_captions(self) -> Iterator[list[str]]:
        """Yield the captions of every scene, in order."""
        for chunk in self._table.column("captions").chunks:
            for start in range(0, len(chunk), _ROWS_PER_READ):
                yield from chunk.slice(start, _ROWS_PER_READ).to_pylist()

    def all_questions(self) -> Iterator[list[Question]]:
        """Yield the questions of every scene, in order."""
        for chunk in self._table.column("questions").chunks:
            for start in range(0, len(chunk), _ROWS_PER_READ):
                for row in chunk.slice(start, _ROWS_PER_READ).to_pylist():
                    yield [Question(**q) for q in row]


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
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_PER_READ):
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
            table = pa.Table.from_batches([batch]).drop_columns(["image"]).take([local for local, _ in kept])
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
    for batch in pq.ParquetFile(folder / f"{TRAIN}-rows.parquet").iter_batches(_ROWS_PER_READ):
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
