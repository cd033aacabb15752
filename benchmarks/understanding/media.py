"""Images as published data holds them (files, base64 text, bytes): read late, bounded, and checked before a run begins.

A reader is a function without arguments that returns an encoded image file; `Pictures` of them go into a request. A check opens the image
and reads its header, so that what is no image is named with its file, row and field before any model is loaded.
"""

import base64
import binascii
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jfeval.errors import UserError
from jfeval.pictures import Pictures
from jfeval.schema import JsonObject

Reader: TypeAlias = Callable[[], bytes]

MAX_FILE_BYTES = 32 * 2**20
"""Largest encoded image."""
MAX_PIXELS = 64_000_000
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row with its image."""

    reference: JsonObject
    """What scoring needs, in the published form."""
    where: str
    """File and row, for messages."""
    image: Reader
    image_key: str
    """The same for rows of the same image."""


def check_image(data: bytes, *, where: str) -> None:
    """Read an image's header and, in formats with check sums, compare those; pixels are not decoded.

    Args:
        data: The encoded file.
        where: File, row and field, for the message.

    Raises:
        UserError: It is no image, of another kind than PNG, JPEG, WebP, GIF or BMP, cut off, or too large.
    """
    from PIL import Image

    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{where}: an image file of {len(data)} bytes; at most {MAX_FILE_BYTES} are taken")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            image.verify()
    except Image.DecompressionBombError as error:
        raise UserError(f"{where}: the image has too many pixels ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{where}: not an image ({len(data)} bytes that begin with {data[:8]!r}); expected a PNG or JPEG file") from error
    if width * height > MAX_PIXELS:
        raise UserError(f"{where}: an image of {width}x{height} pixels; at most {MAX_PIXELS} are taken")


def decode_base64(text: str, *, where: str) -> bytes:
    """Decode an image that is written as base64 text; line breaks and missing padding are forgiven.

    Raises:
        UserError: It is not base64; says where and how it begins.
    """
    packed = "".join(text.split())
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"{where}: not base64 ({error}); it begins with {text[:24]!r}") from error


def bare_name(name: object, *, where: str) -> str:
    """Return a file name that a data row states, once it is known to stay in its folder.

    Raises:
        UserError: It has a folder in it, or is none.
    """
    if not isinstance(name, str) or not name or Path(name).name != name or name in {".", ".."} or "\\" in name or "\0" in name:
        raise UserError(f"{where}: {str(name)[:80]!r} is not a bare file name")
    return name


def file_reader(folder: Path, name: object, *, where: str) -> Reader:
    """Return a reader of one file of an image folder, which must be there and be an image.

    Args:
        folder: The image folder.
        name: A bare file name, as a data row states it.
        where: File, row and field, for messages.

    Raises:
        UserError: The name leaves the folder, or the file is missing or no image.
    """
    path = folder / bare_name(name, where=where)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{where}: no image {name} in {folder}") from error
    if size > MAX_FILE_BYTES:
        raise UserError(f"{where}: {path} has {size} bytes; at most {MAX_FILE_BYTES} are taken")
    check_image(path.read_bytes(), where=f"{where}: {path}")
    return path.read_bytes


def md5(path: Path) -> str:
    """Return a file's md5, by which some publishers name their files; it guards against mistakes, not against forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def pictures(reader: Reader) -> Pictures:
    """Return the images of a question about one image."""
    return Pictures(reader)
