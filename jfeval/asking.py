"""One batch to the model and back: ask, check, encode, store the images; a failing batch is asked again sample by sample."""

import io
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jfeval.errors import UserError
from jfeval.plan import Batch, image_jobs, request_size
from jfeval.schema import Output, Sample, TextRequest
from jfeval.store import Store

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.models.base import Model

log = logging.getLogger(__name__)

_MAX_PIXELS = 64_000_000


def draw(store: Store, model: "Model", batch: Batch, seed: int) -> list[Output]:
    """Ask the model for a batch; when that fails, for each of its samples alone, so that one bad sample costs only itself."""
    started = time.perf_counter()
    try:
        answers = _ask(model, batch.rows, seed)
    except UserError:
        raise
    except Exception as error:
        (_, sample), *others = batch.rows
        if others:
            log.warning("a batch of %d samples failed (%s); trying them one by one", len(batch.rows), describe_error(error))
            alone = [Batch(rows=(row,), key=batch.key) for row in batch.rows]
            return [output for part in alone for output in draw(store, model, part, seed)]
        log.warning("sample %s failed: %s", sample.id, describe_error(error))
        return [Output(sample_id=sample.id, error=describe_error(error), seconds=time.perf_counter() - started)]
    stored = [_store_answer(store, sample, answer) for (_, sample), answer in zip(batch.rows, answers, strict=True)]
    seconds = (time.perf_counter() - started) / len(stored)
    return [replace(output, seconds=seconds) for output in stored]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    images: tuple[bytes, ...] = ()
    text: str = ""


def _ask(model: "Model", rows: Sequence[tuple[int, Sample]], seed: int) -> list[_Answer]:
    """Call the model on requests of one kind and encode what it returns."""
    if isinstance(rows[0][1].request, TextRequest):
        requests = [replace(sample.request, sample_id=sample.id) for _, sample in rows if isinstance(sample.request, TextRequest)]
        return _ask_questions(model, requests)
    jobs = image_jobs(rows, seed)
    pictures = _ability(model, "generate", "draws images")(jobs)
    _check_length(len(pictures), len(jobs), "images")
    encoded = iter([_encode(picture) for picture in pictures])
    return [_Answer(images=tuple(next(encoded) for _ in range(request_size(sample)))) for _, sample in rows]


def _ask_questions(model: "Model", requests: Sequence[TextRequest]) -> list[_Answer]:
    """Ask for answers, or where options are given for the loss of each, which is stored as a JSON list."""
    if not any(request.options for request in requests):
        texts = _ability(model, "answer", "understands images")(requests)
        _check_length(len(texts), len(requests), "answers")
        return [_Answer(text=str(text)) for text in texts]
    losses = _ability(model, "option_losses", "says how likely given answers are")(requests)
    _check_length(len(losses), len(requests), "lists of losses")
    for request, found in zip(requests, losses, strict=True):
        _check_length(len(found), len(request.options), "losses of options")
    return [_Answer(text=json.dumps([float(loss) for loss in found])) for found in losses]


def _store_answer(store: Store, sample: Sample, answer: _Answer) -> Output:
    return Output(sample_id=sample.id, images=tuple(store.add_image(data) for data in answer.images), text=answer.text)


def _encode(picture: "Image") -> bytes:
    """Return an image as PNG bytes that depend on its pixels only."""
    if picture.width * picture.height > _MAX_PIXELS:
        raise ValueError(f"image of {picture.width}x{picture.height} exceeds {_MAX_PIXELS} pixels")
    clean = picture.convert("RGB")
    clean.info.clear()
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG")
    return buffer.getvalue()


def _ability(model: "Model", method: str, words: str) -> Callable:
    found = getattr(model, method, None)
    if found is None:
        raise UserError(f"model {model.name!r} cannot be used here: this benchmark needs a model that {words}")
    return found


def _check_length(got: int, expected: int, what: str) -> None:
    if got != expected:
        raise ValueError(f"the model returned {got} {what} for {expected} requests")


def describe_error(error: BaseException) -> str:
    """Return an exception in one bounded line for a stored row."""
    return f"{type(error).__name__}: {error}"[:500]
