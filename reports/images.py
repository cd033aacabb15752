"""Pictures inside the file: data URIs, each picture once, small enough that the whole report stays one file that opens at once."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

BUDGET = 15 * 2**20
"""Most characters that all pictures of a report may take."""

_MOST_PIXELS = 64_000_000
"""A larger picture is not opened: a small file can claim any size."""
_EXACT_SIDE = 256
"""Longest side of a picture that keeps every pixel as it is where the budget allows it."""

_PILOT = 16
"""One picture in this many is encoded first, to foretell a level's size."""


@dataclass(frozen=True, kw_only=True)
class _Level:
    """One way of making pictures smaller."""

    lossless_side: int
    """Pictures up to this longest side lose nothing."""
    side: int
    """Longest side of the others, in pixels."""
    quality: int
    """WebP quality of the others."""


_LEVELS = (
    _Level(lossless_side=_EXACT_SIDE, side=256, quality=80),
    _Level(lossless_side=128, side=256, quality=72),
    _Level(lossless_side=0, side=192, quality=72),
    _Level(lossless_side=0, side=128, quality=60),
)


def embed(sources: Mapping[str, Callable[[], bytes | None]], *, budget: int = BUDGET) -> dict[str, str]:
    """Encode pictures as data URIs at the first level of compression whose total stays within the budget.

    Args:
        sources: A key per picture, and how to read its file; None where it is missing.
        budget: Most characters that all URIs may take together.

    Returns:
        URI by key, in the order of `sources`. A picture that is missing, cannot be decoded or, at the last level, no longer fits has none.
    """
    for level in _LEVELS[:-1]:
        pilot = sum(len(_uri(read(), level) or "") for read in list(sources.values())[::_PILOT])
        if len(sources) > 4 * _PILOT and pilot * _PILOT > 1.2 * budget:
            continue
        uris, size = {}, 0
        for key, read in sources.items():
            uri = _uri(read(), level)
            if uri is not None:
                uris[key] = uri
                size += len(uri)
            if size > budget:
                break
        else:
            return uris
    uris, size = {}, 0
    for key, read in sources.items():
        uri = _uri(read(), _LEVELS[-1])
        if uri is not None and size + len(uri) <= budget:
            uris[key] = uri
            size += len(uri)
    return uris


def _uri(data: bytes | None, level: _Level) -> str | None:
    """Encode one picture; None when there is nothing to show."""
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            longest = max(image.size)
            if image.width * image.height > _MOST_PIXELS:
                return None
            image.draft("RGB", (level.side, level.side))
            small = image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    lossless = longest <= level.lossless_side
    if not lossless:
        small.thumbnail((level.side, level.side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="WEBP", lossless=lossless, quality=50 if lossless else level.quality, method=2 if lossless else 4)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
