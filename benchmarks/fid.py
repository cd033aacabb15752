"""FID between two folders of images under a named recipe, with its error: MJHQ-30K, COCO or any other set.

    python -m jfeval.benchmarks.fid GENERATED REFERENCE --weights weights-inception-2015-12-05-6726825d.pth --recipe gigagan

Features are written to files as they are made and mapped back from there, so memory does not grow with the number of images. They are kept
under the hash of everything that can change them (every file's content, the weights, the recipe): a reference is read once.
"""

import hashlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from jfeval.benchmarks.fid_metrics import frechet_metrics, kernel_metric
from jfeval.benchmarks.scorers.image_recipes import RECIPES
from jfeval.errors import UserError
from jfeval.schema import JsonObject, Metric

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Files that count as images."""
FULL = 30_000
"""Images of MJHQ-30K and of the usual COCO draw."""
SHORT = (10_000, 3_000)
"""Smaller numbers that papers print: FID-10k, and MJHQ's categories."""
MOST_FOR_KERNEL = 5_000
"""Images of each side that the kernel distance reads, evenly spread: it compares all pairs."""

_BATCH = 32
_ROWS = 1024
_MAX_PIXELS = 64_000_000


class Network(Protocol):
    """Turns images into features."""

    def identity(self) -> JsonObject:
        """Return what can change a feature."""
        ...

    def features(self, images: Sequence[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(B, D)`` and logits ``(B, C)``, float32."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSet:
    """Features of a folder's images, in the order of their names."""

    names: tuple[str, ...]
    """Paths inside the folder, sorted."""
    rows: np.ndarray
    """``(N, D)`` float32, mapped from its file."""
    sizes: tuple[str, ...]
    """The different image sizes, for example ``384x384``."""

    def batches(self) -> list[np.ndarray]:
        """Return the rows in parts."""
        return [self.rows[start : start + _ROWS] for start in range(0, len(self.rows), _ROWS)]

    def some(self, most: int) -> np.ndarray:
        """Return at most so many rows, evenly spread."""
        if len(self.rows) <= most:
            return np.asarray(self.rows)
        return self.rows[np.arange(most) * len(self.rows) // most]


def compare(generated: Path, reference: Path, network: Network, *, recipe: str, cache: Path, expected: int | None = None) -> list[Metric]:
    """Compare two folders; nested folders count, as in clean-fid.

    Args:
        generated: Images of a model.
        reference: Images to compare with; they count as a sample.
        network: Inception under the recipe.
        recipe: Its name, which becomes part of every metric's.
        cache: Folder for features.
        expected: How many generated images there must be; another number is refused.

    Returns:
        ``fid_RECIPE`` with the number of images in its label, the same without bias, and the kernel distance.

    Raises:
        UserError: A folder without images, a broken image, images of mixed size among the generated ones, or another number than expected.
    """
    drawn, wanted = read_features(generated, network, cache, one_size=True), read_features(reference, network, cache)
    if expected is not None and len(drawn.names) != expected:
        raise UserError(
            f"{generated} holds {len(drawn.names):,} images, and {expected:,} are expected; a part is not reported as the whole"
        )
    name = f"fid{label(len(drawn.names))}_{recipe}"
    metrics = frechet_metrics(drawn.batches(), wanted.batches(), name=name, protocol=recipe)
    kernel = kernel_metric(drawn.some(MOST_FOR_KERNEL), wanted.some(MOST_FOR_KERNEL), name=f"kid_{recipe}", protocol=recipe)
    return [*metrics, kernel]


def label(count: int) -> str:
    """Name the number of images, because FID depends on it: ``30k``, ``10k``, ``3k``, otherwise the number."""
    return f"{count // 1000}k" if count in (FULL, *SHORT) else f"{count}"


def read_features(folder: Path, network: Network, cache: Path, *, one_size: bool = False) -> FeatureSet:
    """Return a folder's features, from the cache where every file and the network are the same.

    Raises:
        UserError: No images, a broken one, or images of mixed size where one is asked for; each list is complete up to five names.
    """
    files = _files(folder)
    names = tuple(file.relative_to(folder).as_posix() for file in files)
    sizes, key = _checked(files, names, network.identity(), one_size=one_size)
    path = cache / f"{key}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        _write(part, files, network)
        part.replace(path)
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if rows.shape[0] != len(names):
        raise UserError(f"{path} holds features of {rows.shape[0]} images instead of {len(names)}; delete it and run again")
    return FeatureSet(names=names, rows=rows, sizes=sizes)


def _write(path: Path, files: Sequence[Path], network: Network) -> None:
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


def _loaded(files: Sequence[Path]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(files), _BATCH):
        yield [_open(file) for file in files[start : start + _BATCH]]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) < 2:
        raise UserError(f"{folder} holds {len(files)} images ({', '.join(SUFFIXES)}); a distance of sets needs at least 2")
    return files


def _checked(files: Sequence[Path], names: Sequence[str], identity: JsonObject, *, one_size: bool) -> tuple[tuple[str, ...], str]:
    """Look at every file once: its size in pixels, and the hash of all contents with the network's identity."""
    total = hashlib.sha256(repr(sorted(identity.items())).encode())
    sizes: dict[str, list[str]] = {}
    broken: list[str] = []
    for file, name in zip(files, names, strict=True):
        total.update(hashlib.sha256(file.read_bytes()).digest())
        try:
            with Image.open(file) as image:
                sizes.setdefault(f"{image.width}x{image.height}", []).append(name)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
            broken.append(name)
    if broken:
        raise UserError(f"{len(broken)} of {len(files)} images cannot be read: {_first(broken)}; mend or remove them")
    if one_size and len(sizes) > 1:
        shown = "; ".join(
            f"{len(of)} of {size} ({_first(of[:1])})" for size, of in sorted(sizes.items(), key=lambda pair: -len(pair[1]))[:5]
        )
        raise UserError(f"generated images are of mixed size: {shown}; one model's images have one size")
    return tuple(sorted(sizes)), total.hexdigest()


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UserError(f"{file} has {image.width}x{image.height} pixels; at most {_MAX_PIXELS:,} are read")
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from error


def _first(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two folders from the command line; prints one line a metric."""
    import argparse

    from jfeval.benchmarks.scorers.inception import WEIGHTS, Inception

    parser = argparse.ArgumentParser(prog="python -m jfeval.benchmarks.fid", description="FID of two folders of images, with its error.")
    parser.add_argument("generated", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help=f"{WEIGHTS} of torch-fidelity's release v0.2.0")
    parser.add_argument("--recipe", default=RECIPES[0], help=f"{', '.join(RECIPES)}; the default is the JanusFlow paper's")
    parser.add_argument("--cache", type=Path, default=Path("runs") / "features", help="folder for features")
    parser.add_argument("--expected", type=int, help="refuse another number of generated images, for example 30000")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    try:
        network = Inception(options.weights, options.recipe, device=options.device)
        metrics = compare(
            options.generated, options.reference, network, recipe=options.recipe, cache=options.cache, expected=options.expected
        )
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for metric in metrics:
        bounds = "-" if metric.ci_low is None or metric.ci_high is None else f"[{metric.ci_low:.4f}, {metric.ci_high:.4f}]"
        sys.stdout.write(f"{metric.name} {metric.value:.4f} {bounds} n={metric.n}  {metric.detail}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
