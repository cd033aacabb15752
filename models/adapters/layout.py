"""Where images stand in a question, for models that take a turn as a list of parts."""

import base64
import io
from collections.abc import Sequence

from jfeval.errors import BadRequest
from jfeval.models.base import IMAGE_PLACEHOLDER
from jfeval.schema import JsonObject


def content(question: str, images: int) -> list[dict[str, str]]:
    """Lay out a user's turn as parts of type ``image`` and ``text``: each image where the question marks its place, else before the text.

    Raises:
        BadRequest: The question marks another number of places than there are images.
    """
    pieces = question.split(IMAGE_PLACEHOLDER)
    if len(pieces) == 1:
        return [*[{"type": "image"}] * images, {"type": "text", "text": question}]
    if len(pieces) != images + 1:
        raise BadRequest(f"the question marks {len(pieces) - 1} places for {images} images")
    laid: list[dict[str, str]] = []
    for i, piece in enumerate(pieces):
        laid += [{"type": "image"}] if i else []
        laid += [{"type": "text", "text": piece.strip("\n")}] if piece.strip() else []
    return laid


def content_with_data(question: str, images: Sequence[bytes]) -> list[JsonObject]:
    """Lay out a user's turn as `content` does, each image as OpenAI's interface takes it: in a data address."""
    data = iter(images)
    laid = content(question, len(images))
    return [{"type": "image_url", "image_url": {"url": _data_url(next(data))}} if part["type"] == "image" else {**part} for part in laid]


def _data_url(data: bytes) -> str:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        kind = Image.MIME.get(image.format or "", "image/png")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
