"""A question about images, with the conversation before it, and the table of the images that some questions show."""

import hashlib
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from jfeval.errors import BadRequest
from jfeval.models.base import IMAGE_PLACEHOLDER
from jfeval.models.janusflow.decoding import Decoding
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import ImageProcessor

_ENCODED_AT_ONCE = 8
"""Images that pass through the understanding encoder at a time."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An earlier question of a conversation, with its answer."""

    text: str
    answer: str
    images: tuple[Image.Image, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about images, perhaps after earlier turns.

    A text may say where its images stand by one ``<image_placeholder>`` for each; otherwise they come first, a line each.
    """

    text: str
    images: tuple[Image.Image, ...] = ()
    history: tuple[Turn, ...] = ()
    system: str = ""
    max_new_tokens: int = 32
    decoding: Decoding = field(default_factory=Decoding)


class ImageTable:
    """The different images of some questions: equal pixels are one image, whatever objects hold them."""

    def __init__(self, model: JanusFlow, processor: ImageProcessor) -> None:
        """Begin without any image."""
        self.model, self.processor = model, processor
        self.index: dict[int, int] = {}
        """Identity of an image object to its number."""
        self.pixels: list[Tensor] = []
        self._known: dict[bytes, int] = {}
        self._table: Tensor | None = None

    def add(self, image: Image.Image) -> None:
        """Count an image in."""
        if id(image) not in self.index:
            self.index[id(image)] = self.add_pixels(self.processor(image))

    def add_pixels(self, pixels: Tensor) -> int:
        """Count an image in that is processed already, (3, S, S); return its number."""
        digest = hashlib.sha256(pixels.numpy().tobytes()).digest()
        if digest not in self._known:
            self._known[digest] = len(self.pixels)
            self.pixels.append(pixels)
        return self._known[digest]

    def table(self) -> Tensor:
        """Return the embeddings of all images, one after the other (images * (1 + N), D); computed on the first call."""
        if self._table is None:
            device = self.model.device
            portions = torch.stack(self.pixels).split(_ENCODED_AT_ONCE)
            self._table = torch.cat([self.model.embed_images(portion.to(device)).flatten(0, 1) for portion in portions])
        return self._table


def all_images(question: Question) -> list[Image.Image]:
    """List the images of a conversation in the order in which they are shown."""
    return [image for turn in question.history for image in turn.images] + list(question.images)


def with_placeholders(text: str, images: int) -> str:
    """Return the text with one placeholder for each image.

    Raises:
        BadRequest: There are other than one placeholder for each image, or neither text nor image.
    """
    placeholders = text.count(IMAGE_PLACEHOLDER)
    if placeholders and placeholders != images:
        raise BadRequest(f"the question has {placeholders} image placeholders but {images} images")
    if not text.strip() and not images:
        raise BadRequest("the question is empty; ask something, or show an image")
    return text if placeholders else f"{IMAGE_PLACEHOLDER}\n" * images + text
