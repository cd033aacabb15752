"""What the harness asks of a model: two small Protocols over batches."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from jfeval.schema import ImageJob, JsonObject, TextRequest, Turn

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Converses", "Generates", "ImageJob", "Model", "Resettable", "Understands", "Weighs"]


class Model(Protocol):
    """What every model states about itself.

    One that draws may state ``image_size``, the side of its pictures in pixels; where the judge reads another, the model is refused before
    it draws.
    """

    name: str

    def identity(self) -> JsonObject:
        """Return everything that can change an output: weights hash, recipe, dtype. Part of the run's fingerprint."""
        ...


IMAGE_PLACEHOLDER = "<image_placeholder>"
"""Marks an image's place inside a question; without it images come first. Source: the published JanusFlow's processor, its token."""


@runtime_checkable
class Generates(Model, Protocol):
    """A model that draws images from prompts."""

    def generate(self, jobs: Sequence[ImageJob]) -> "list[Image]":
        """Draw one RGB image per job, in order. Each image depends on its own job only, up to float rounding."""
        ...


@runtime_checkable
class Understands(Model, Protocol):
    """A model that answers questions about images."""

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request, in order, as plain text."""
        ...


@runtime_checkable
class Converses(Understands, Protocol):
    """A model that answers a question after earlier ones."""

    def converse(self, request: TextRequest, history: Sequence[Turn]) -> Iterator[str]:
        """Answer in pieces as they are found; the pieces joined are the answer. Pictures of earlier turns stay in sight."""
        ...


@runtime_checkable
class Weighs(Model, Protocol):
    """A model that says how likely given answers are."""

    def option_losses(self, requests: Sequence[TextRequest]) -> list[list[float]]:
        """Return, for each request and each of its options, the negative log-likelihood in nats of just this answer, end included."""
        ...


@runtime_checkable
class Resettable(Model, Protocol):
    """Takes other settings without loading its weights again, as a sweep over a sampler's settings does."""

    def under(self, settings: object) -> Model | None:
        """Return the model under other settings, with the same weights in memory; None where these ask for other weights."""
        ...
