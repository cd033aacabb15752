"""Features of sets of image files: read once, kept under a hash of everything that can change them, mapped back from disk.

A set is a folder (nested ones count, as in clean-fid), a ZIP archive, or rows of a table; each image has a name and a way to read it.
Features are written to their file batch by batch, so that memory does not grow with the number of images.
"""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.schema import JsonObject

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Files that count as images."""

_BATCH = 32
_ROWS = 1024
_MAX_PIXELS = 64_000_000
_MAX_BYTES = 256 * 2**20


class Network(Protocol):
    """Turns images into features."""

    def identity(self) -> JsonObject:
        """Return what can change a feature."""
        ...

    def features(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(B, D)`` and logits ``(B, C)``, float32."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """One image of a set."""

    name: str
    """Its path inside the set, such as ``animals/0a1b.jpg``."""
    read: Callable[[], bytes]
    """Returns the encoded file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """Features of a set's images, in the order of their names."""

    key: str
    """Hash of every image's name and content, and of the network; names the files in the cache."""
    names: tuple[str, ...]
    rows: np.ndarray
    """``(N, D)`` float32, mapped from its file."""
    sizes: tuple[str, ...]
    """The different image sizes, for example ``384x384``."""

    def batches(self, only: np.ndarray | None = None) -> list[np.ndarray]:
        """Return the rows in parts that are read when they are looked at; of chosen positions, copies."""
        if only is not None:
            return [self.rows[part] for part in np.array_split(only, max(1, -(-len(only) // _ROWS)))]
        return [self.rows[start : start + _ROWS] for start in range(0, len(self.rows), _ROWS)]

    def some(self, most: int) -> np.ndarray:
        """Return at most so many rows, evenly spread."""
        if len(self.rows) <= most:
            return np.asarray(self.rows)
        return self.rows[np.arange(most) * len(self.rows) // most]

    def positions(self, category: str) -> np.ndarray:
        """Return where the images of a category stand: those in the folder of its name."""
        return np.array([i for i, name in enumerate(self.names) if name.partition("/")[0] == category], dtype=int)


def in_folder(folder: Path) -> list[ImageFile]:
    """List a folder's images, nested ones included, sorted.

    Raises:
        UserError: No such folder, or fewer than two images.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return enough([ImageFile(name=path.relative_to(folder).as_posix(), read=path.read_bytes) for path in files], str(folder))


def in_archive(path: Path) -> list[ImageFile]:
    """List the images of a ZIP archive, sorted; nothing is unpacked to disk.

    Raises:
        UserError: It is no such archive, or holds fewer than two images.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if Path(one.filename).suffix.lower() in SUFFIXES and not one.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as a ZIP archive ({error}); fetch it again") from error
    large = next((one.filename for one in members if one.file_size > _MAX_BYTES), None)
    if large is not None:
        raise UserError(f"{path}: {large[:80]!r} unpacks to more than {_MAX_BYTES} bytes")
    names = sorted(one.filename for one in members)
    return enough([ImageFile(name=name, read=partial(_member, path, name)) for name in names], str(path))


def enough(files: list[ImageFile], where: str) -> list[ImageFile]:
    """Return the files where a distance can be taken of them.

    Raises:
        UserError: Fewer than two.
    """
    if len(files) < 2:
        raise UserError(f"{where} holds {len(files)} images ({', '.join(SUFFIXES)}); a distance of sets needs at least 2")
    return files


def read_features(files: Sequence[ImageFile], network: Network, cache: Path, *, one_size: bool = False) -> FeatureSet:
    """Return a set's features, from the cache where every image and the network are the same.

    Raises:
        UserError: A broken image, or images of mixed size where one is asked for; each list is complete up to five names.
    """
    sizes, key = _checked(files, network.identity(), one_size=one_size)
    if not (cache / f"{key}.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f"{key}.part"
        _write(part, files, network)
        part.replace(cache / f"{key}.npy")
        about = {"names": [file.name for file in files], "sizes": sizes, "network": network.identity()}
        write_atomically(cache / f"{key}.json", json.dumps(about).encode())
    return load_features(key, cache)


def load_features(key: str, cache: Path) -> FeatureSet:
    """Return features that were made before, by their key.

    Raises:
        UserError: They are not in the cache, or damaged.
    """
    path = cache / f"{key}.npy"
    try:
        about = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        names = tuple(about["names"])
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is not here: the reference's features lie in the folder they were made in (--set-benchmark cache=FOLDER); copy them, "
            "or judge the run where the reference images are"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} or what belongs to it is damaged ({error}); delete both files and run again") from error
    if rows.shape[0] != len(names):
        raise UserError(f"{path} holds features of {rows.shape[0]} images instead of {len(names)}; delete it and run again")
    return FeatureSet(key=key, names=names, rows=rows, sizes=tuple(about["sizes"]))


def _write(path: Path, files: Sequence[ImageFile], network: Network) -> None:
    """Write features batch by batch into a file of known size."""
    store: np.memmap | None = None
    done = 0
    for batch in _loaded(files):
        rows, _ = network.features(batch)
        if store is None:
            store = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(files), rows.shape[1]))
        store[done : done + len(rows)] = rows
        done += len(rows)
        log.info("%d of %d images", done, len(files))
    if store is not None:
        store.flush()


def _loaded(files: Sequence[ImageFile]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(files), _BATCH):
        yield [_open(file) for file in files[start : start + _BATCH]]


def _checked(files: Sequence[ImageFile], identity: JsonObject, *, one_size: bool) -> tuple[tuple[str, ...], str]:
    """Look at every file once: its size in pixels, and the hash of all names and contents with the network's identity."""
    total = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    sizes: dict[str, list[str]] = {}
    broken: list[str] = []
    for file in files:
        data = file.read()
        total.update(json.dumps([file.name, hashlib.sha256(data).hexdigest()]).encode())
        try:
            with Image.open(io.BytesIO(data)) as image:
                sizes.setdefault(f"{image.width}x{image.height}", []).append(file.name)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
            broken.append(file.name)
    if broken:
        raise UserError(f"{len(broken)} of {len(files)} images cannot be read: {_first(broken)}; mend or remove them")
    if one_size and len(sizes) > 1:
        raise mixed_sizes(sizes)
    return tuple(sorted(sizes)), total.hexdigest()


def mixed_sizes(sizes: dict[str, list[str]]) -> UserError:
    """Build the error for a model's images that differ in size: the sizes, the most frequent first, each with how many and an example."""
    ordered = sorted(sizes.items(), key=lambda pair: -len(pair[1]))[:5]
    shown = "; ".join(f"{len(of)} of {size} ({_first(of[:1])})" for size, of in ordered)
    return UserError(f"generated images are of mixed size: {shown}; one model's images have one size")


def _open(file: ImageFile) -> Image.Image:
    try:
        with Image.open(io.BytesIO(file.read())) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UserError(f"{file.name} has {image.width}x{image.height} pixels; at most {_MAX_PIXELS:,} are read")
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise UserError(f"{file.name} cannot be read as an image: {error}") from error


def _member(path: Path, name: str) -> bytes:
    try:
        return _archive(path, path.stat().st_mtime_ns).read(name)
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"{path}: {name[:80]!r} cannot be unpacked ({error}); fetch the archive again") from error


@lru_cache(maxsize=4)
def _archive(path: Path, changed: int) -> zipfile.ZipFile:
    """Keep an archive open: its list of contents is long, and is read whenever it is opened."""
    del changed  # tells a replaced file from the one that was opened
    return zipfile.ZipFile(path)


def _first(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:5]) + (", ..." if len(names) > 5 else "")
