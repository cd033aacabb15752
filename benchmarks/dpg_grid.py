"""DPG-Bench's picture files: one gapless grid a prompt, named by the item's id, or a folder of separate pictures.

::

    FOLDER/partiprompts97.png       2x2 cells: top left, top right, bottom left, bottom right
    FOLDER/partiprompts97/0.png     or its pictures one by one, in the order of their numbers

Source: TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench/compute_dpg_bench.py, crop_image and compute_dpg_one_sample (cells, their order, stems
cut at the first dot).
Differs: the official script crops whatever it is given, and what lies outside the picture becomes black; here a wrong size is refused.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jfeval.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MAX_PIXELS = 64_000_000


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds for a set of prompts."""

    pictures: dict[str, tuple[Path, ...]]
    """Item's id to its grid, or to its separate pictures in order."""
    missing: tuple[str, ...]
    """Items without a picture."""
    extra: tuple[str, ...]
    """Names of pictures and folders that are of no item."""

    @property
    def complete(self) -> bool:
        """True where every item has its picture and nothing else lies there."""
        return not self.missing and not self.extra


def list_pictures(folder: Path, items: Iterable[str]) -> Listing:
    """Find each item's pictures; opens none.

    Raises:
        UserError: No such folder, or two files for one item.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; DPG-Bench's pictures are FOLDER/ITEM.png, one 2x2 grid for each prompt")
    wanted = list(items)
    found: dict[str, tuple[Path, ...]] = {}
    extra: list[str] = []
    for entry in sorted(folder.iterdir()):
        stem = entry.name.split(".")[0]
        if not stem or not (entry.is_dir() or entry.suffix.lower() in SUFFIXES):
            continue
        if stem in found:
            raise UserError(f"{folder} holds two pictures of item {stem[:60]!r}: {found[stem][0].name[:60]!r} and {entry.name[:60]!r}")
        found[stem] = tuple(_numbered(entry)) if entry.is_dir() else (entry,)
    known = set(wanted)
    extra = [name for name in found if name not in known]
    pictures = {name: found[name] for name in wanted if found.get(name)}
    return Listing(pictures=pictures, missing=tuple(name for name in wanted if name not in pictures), extra=tuple(extra))


def open_cells(files: tuple[Path, ...], *, count: int, side: int) -> list[Image.Image]:
    """Open one item's pictures as RGB.

    Args:
        files: One grid, or ``count`` separate pictures.
        count: How many cells are asked for, 1 to 4; the official script's ``pic-num``.
        side: Width and height of one cell in pixels; the official script's ``resolution``.

    Raises:
        UserError: A file is broken or of another size, or there are too few; says which, and both sizes.
    """
    images = [_open(file) for file in files]
    if len(images) == 1 and count > 1:
        return split_grid(images[0], count=count, side=side, where=files[0].name)
    if len(images) < count:
        raise UserError(f"{files[0].parent.name if files else 'this item'} holds {len(images)} pictures, and {count} are asked for")
    for file, image in zip(files, images, strict=True):
        if image.size != (side, side):
            raise UserError(f"{file.name} has {_size(image)} pixels, and {side}x{side} are asked for")
    return images[:count]


def split_grid(image: Image.Image, *, count: int, side: int, where: str) -> list[Image.Image]:
    """Cut a grid of two columns into its first cells, in reading order.

    Raises:
        UserError: The grid has not two cells in each row and as many rows as the cells need; says both sizes.
    """
    if not 1 <= count <= 4:
        raise UserError(f"a grid of DPG-Bench has 1 to 4 cells, not {count}")
    allowed = {(side * min(count, 2), side * -(-count // 2)), (2 * side, 2 * side)}
    if image.size not in allowed:
        sizes = " or ".join(f"{width}x{height}" for width, height in sorted(allowed))
        raise UserError(
            f"{where}: the grid has {_size(image)} pixels; {count} cells of {side}x{side} need {sizes}. Give the size of one cell, "
            "or draw the pictures again"
        )
    corners = [(0, 0), (side, 0), (0, side), (side, side)]
    return [image.crop((x, y, x + side, y + side)) for x, y in corners[:count]]


def usual_side(listing: Listing, *, count: int) -> int:
    """Return the cell size that most pictures speak for: half of a grid's width, or a separate picture's own; 0 where none can be read."""
    sides: Counter[int] = Counter()
    for files in listing.pictures.values():
        try:
            with Image.open(files[0]) as image:
                grid = len(files) == 1 and count > 1
                sides[image.width // 2 if grid else image.width] += 1
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
            continue
    return max(sides, key=lambda side: (sides[side], side)) if sides else 0


def _numbered(folder: Path) -> list[Path]:
    """List a folder's pictures by the number that their names begin with."""
    numbered = [(int(match[0]), path) for path in folder.iterdir() if (match := re.match(r"[0-9]{1,12}", path.name)) and _is_picture(path)]
    return [path for _, path in sorted(numbered)]


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in SUFFIXES


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UserError(f"{file.name} has {_size(image)} pixels; at most {_MAX_PIXELS} are read")
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise UserError(f"{file.name} cannot be read as a picture ({type(error).__name__})") from error


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
