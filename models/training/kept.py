"""What a frozen network makes of images, kept on disk under the images' own content: no image is encoded twice, whoever asks for it.

Entries are numbered by network and pixels, so nothing can be taken for another network's or another image's, and one file serves every
stage that reads the same data. The file grows to a limit and is then only read. Values are 16-bit floats; a new one is rounded alike and
every image is encoded by itself, so a training does not depend on what is kept.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jfeval.errors import UserError

KEPT_FILE = "encoded.sqlite"
_PATIENCE = 60.0
"""Seconds to wait for another process that writes."""


def weights_digest(module: nn.Module) -> str:
    """Return a hash of a network's class and weights."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Kept:
    """Encoded images in one SQLite file."""

    def __init__(self, file: Path, limit: float) -> None:
        """Open the file, or make it.

        Args:
            file: Where it is.
            limit: Bytes of values after which nothing is added.

        Raises:
            UserError: The file is damaged.
        """
        self.file, self.limit = file, limit
        with self._damage_named():
            self._rows = sqlite3.connect(file, timeout=_PATIENCE)
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, shape TEXT NOT NULL, value BLOB NOT NULL)")
            self._bytes = int(self._rows.execute("SELECT COALESCE(SUM(LENGTH(value)), 0) FROM kept").fetchone()[0])

    def encode(self, network: str, pixels: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a network makes of images, from the file as far as it is there.

        Args:
            network: Identifies the network with whatever else decides its output; see `weights_digest`.
            pixels: (B, 3, S, S).
            encode: The network: pixels (1, 3, S, S) to (1, ...).

        Returns:
            Float32 (B, ...) on the pixels' device, rounded to 16-bit floats.

        Raises:
            UserError: The file is damaged.
        """
        keys = [_key(network, image) for image in pixels.detach().cpu()]
        with self._damage_named():
            found = {key: held for key in dict.fromkeys(keys) if (held := self._read(key)) is not None}
        fresh: dict[bytes, np.ndarray] = {}
        for place, key in enumerate(keys):
            if key not in found:
                fresh[key] = found[key] = encode(pixels[place : place + 1])[0].detach().to(torch.float16).cpu().numpy()
        self._add(fresh)
        return torch.stack([torch.from_numpy(found[key]).to(pixels.device, torch.float32) for key in keys])

    def _read(self, key: bytes) -> np.ndarray | None:
        row = self._rows.execute("SELECT shape, value FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[1], np.float16).reshape(json.loads(row[0])).copy()

    def _add(self, fresh: dict[bytes, np.ndarray]) -> None:
        """Write what there is room for."""
        rows: list[tuple[bytes, str, bytes]] = []
        for key, value in fresh.items():
            if self._bytes + value.nbytes <= self.limit:
                self._bytes += value.nbytes
                rows.append((key, json.dumps(value.shape), value.tobytes()))
        if rows:
            with self._damage_named(), self._rows:
                self._rows.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?, ?)", rows)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UserError(f"{self.file} cannot be used ({error}); delete it, and what it held is computed again") from error


def _key(network: str, image: Tensor) -> bytes:
    """Identify an image (3, S, S) under a network."""
    digest = hashlib.sha256(f"{network} {tuple(image.shape)}".encode())
    digest.update(image.float().contiguous().numpy().tobytes())
    return digest.digest()


def kept_beside(folder: Path, gib: float) -> Kept | None:
    """Open what is kept of a data part's images; None where nothing is to be.

    Args:
        folder: The data part's.
        gib: Size of all values together at most.
    """
    return Kept(folder / KEPT_FILE, gib * 2**30) if gib else None
