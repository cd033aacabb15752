"""A model at work: ask for a batch, check, encode, store the images.

A batch that fails is asked again sample by sample, one that does not fit into memory in smaller pieces.
"""

import io
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jfeval import provenance
from jfeval.batching import USUAL, batch_size_for
from jfeval.errors import UserError, ends_run
from jfeval.files import encodable
from jfeval.memory import is_out_of_memory, measure, release_memory
from jfeval.pictures import MAX_PIXELS
from jfeval.plan import digest, image_jobs, request_size
from jfeval.schema import ImageRequest, JsonObject, Output, Sample, TextRequest
from jfeval.secrecy import hide
from jfeval.store import Store

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.models.base import Model

log = logging.getLogger(__name__)

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

MAX_TEXT = 1_000_000
"""Characters of an answer that are stored."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A batch as a worker is given it: names only, because a worker reads the samples themselves from the run folder."""

    rows: tuple[tuple[int, str], ...]
    """Each sample's id with its position in the benchmark's full list."""
    key: str
    """The planned batch's key."""
    wanted: frozenset[str]
    """Ids of samples whose outputs are to be stored."""
    model: str = ""
    """Digest of the identity that the worker's model must have; empty for whatever it has."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What came of an errand."""

    outputs: tuple[Output, ...]
    cost: JsonObject
    """See `jfeval.provenance.cost`."""
    halved: tuple[tuple[int, int], ...] = ()
    """Where memory ran out: how many images or questions did not fit, and how many are tried together from then on."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a run must know of its model before it starts."""

    identity: JsonObject
    image_size: int
    """Side of the images it draws, in pixels; 0 where it does not say."""
    load_seconds: float


class Drawer:
    """One worker's model.

    Args:
        folder: The run folder.
        load: Loads the model.
        seed: The run's seed.
        samples: The samples by id; None to read them from the run folder, when they are first needed.
    """

    def __init__(self, folder: Path, load: "Callable[[], Model]", seed: int, samples: Mapping[str, Sample] | None = None) -> None:
        started = time.perf_counter()
        self.model = load()
        self.load_seconds = time.perf_counter() - started
        self.store, self.seed = Store(folder), seed
        self._samples: Mapping[str, Sample] = samples or {}
        self._most = 0  # at once, since memory ran out
        self._halved: list[tuple[int, int]] = []

    def facts(self, _: object = None) -> ModelFacts:
        """Return what the model states about itself."""
        return ModelFacts(identity=self.model.identity(), image_size=getattr(self.model, "image_size", 0), load_seconds=self.load_seconds)

    def draw(self, errand: Errand) -> Drawn:
        """Ask the model for a batch; when that fails, for each of its samples alone, so that one bad sample costs only itself.

        Raises:
            UserError: The model cannot do what is asked, or is not the one that is wanted.
            OSError: The run folder cannot be written.
        """
        if errand.model and errand.model != digest(self.model.identity()):
            raise UserError("a worker has loaded other weights or another recipe than the rest; see that all machines hold the same files")
        self._read_samples()
        already = len(self._halved)
        outputs = self._draw([(row, self._samples[sample_id]) for row, sample_id in errand.rows])
        kept = tuple(output for output in outputs if output.sample_id in errand.wanted)
        seconds = sum(output.seconds for output in kept)
        cost = provenance.cost(_count_tokens(self.model, [output.text for output in kept if output.text]), seconds)
        return Drawn(outputs=kept, cost=cost, halved=tuple(self._halved[already:]))

    def probe(self, errand: Errand) -> int:
        """Return how many items fit into memory together, from drawing one image or answering one question of the errand's sample."""
        self._read_samples()
        (row, sample_id), *_ = errand.rows
        sample = self._samples[sample_id]
        if isinstance(sample.request, ImageRequest):
            sample = replace(sample, request=replace(sample.request, num_images=1))
        try:
            return batch_size_for(measure(lambda: self._ask([(row, sample)])))
        except UserError:
            raise
        except Exception as error:
            log.warning("the probe for the batch size failed (%s); taking %d", describe_error(error), USUAL)
            return USUAL

    def _read_samples(self) -> None:
        """Read what is asked from the run folder, where it was not given."""
        if not self._samples:
            self._samples = {sample.id: sample for sample in self.store.samples()}

    def _draw(self, rows: Sequence[tuple[int, Sample]]) -> list[Output]:
        started = time.perf_counter()
        try:
            answers = self._ask(rows)
        except Exception as error:
            if ends_run(error):
                raise
            (_, sample), *others = rows
            reason = describe_error(error)
            if not others:
                log.warning("sample %s failed: %s", sample.id, reason)
                return [Output(sample_id=sample.id, error=reason, seconds=time.perf_counter() - started)]
            log.warning("a batch of %d samples failed (%s); trying them one by one", len(rows), reason)
        else:
            stored = [_store_answer(self.store, sample, answer) for (_, sample), answer in zip(rows, answers, strict=True)]
            seconds = (time.perf_counter() - started) / len(stored)
            return [replace(output, seconds=seconds) for output in stored]
        return [output for row in rows for output in self._draw([row])]

    def _ask(self, rows: Sequence[tuple[int, Sample]]) -> "list[_Answer]":
        """Call the model on requests of one kind and encode what it returns."""
        if isinstance(rows[0][1].request, TextRequest):
            requests = [replace(sample.request, sample_id=sample.id) for _, sample in rows if isinstance(sample.request, TextRequest)]
            return self._in_pieces(lambda part: _ask_questions(self.model, part), requests)
        generate = _ability(self.model, "generate", "draws images")
        encoded = iter(self._in_pieces(lambda jobs: _pictures(generate, jobs), image_jobs(rows, self.seed)))
        return [_Answer(images=tuple(next(encoded) for _ in range(request_size(sample)))) for _, sample in rows]

    def _in_pieces(self, ask: Callable[[Sequence[Asked]], Iterable[Answered]], items: Sequence[Asked]) -> list[Answered]:
        """Ask for all items together or, where memory has run out before, for as many at once as are known to fit."""
        answers: list[Answered] = []
        while len(answers) < len(items):
            size = min(self._most or len(items), len(items) - len(answers))
            try:
                answers += ask(items[len(answers) : len(answers) + size])
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                self._most = size // 2
            else:
                continue
            release_memory()  # out here, where the error no longer holds what did not fit
            self._halved.append((size, self._most))
            log.warning("memory ran out with %d at once; going on with %d", size, self._most)
        return answers


@dataclass(frozen=True, kw_only=True)
class _Answer:
    images: tuple[bytes, ...] = ()
    text: str = ""


def _pictures(generate: Callable, jobs: Sequence) -> list[bytes]:
    """Draw and encode."""
    pictures = generate(jobs)
    _check_length(len(pictures), len(jobs), "images")
    return [_encode(picture) for picture in pictures]


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
    return Output(
        sample_id=sample.id, images=tuple(store.add_image(data) for data in answer.images), text=encodable(answer.text)[:MAX_TEXT]
    )


def _encode(picture: "Image") -> bytes:
    """Return an image as PNG bytes that depend on its pixels only."""
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"image of {picture.width}x{picture.height} exceeds {MAX_PIXELS} pixels")
    if not picture.width * picture.height:
        raise ValueError(f"image of {picture.width}x{picture.height} has no pixels")
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


def _count_tokens(model: "Model", texts: Sequence[str]) -> int:
    """Count what a model wrote, where it can tell."""
    count = getattr(model, "count_tokens", None)
    return sum(count(text) for text in texts) if count is not None else 0


def describe_error(error: BaseException) -> str:
    """Return an exception in one bounded line for a stored row, without anything that is known to be secret."""
    return hide(encodable(f"{type(error).__name__}: {error}"))[:500]
