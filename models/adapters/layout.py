"""Where images stand in a question, for models that take a turn as a list of parts."""

from jfeval.errors import BadRequest
from jfeval.models.base import IMAGE_PLACEHOLDER


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
