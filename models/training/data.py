"""Decoded training data: reading it, and drawing batches that depend on the step alone.

`jfeval.models.training.decoding` writes it. Training reads the split ``train`` only (`Scenes.open_train`); others exist for measurements.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from jfeval.errors import UserError

TRAIN = "train"
ROWS_PER_READ = 2048


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about a scene with its true answer."""

    question: str
    answer: str
    kind: str


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
            for start in range(0, len(chunk), ROWS_PER_READ):
                yield from chunk.slice(start, ROWS_PER_READ).to_pylist()

    def all_questions(self) -> Iterator[list[Question]]:
        """Yield the questions of every scene, in order."""
        for chunk in self._table.column("questions").chunks:
            for start in range(0, len(chunk), ROWS_PER_READ):
                for row in chunk.slice(start, ROWS_PER_READ).to_pylist():
                    yield [Question(**q) for q in row]
