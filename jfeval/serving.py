"""A benchmark's judge as a service: pictures and rows in, verdicts, reasons and soft scores out, in common batches.

One thread owns the judge; requests wait in a queue of bounded length and are judged together, up to a number of pictures or for a short
time. Nothing that comes in is stored.
"""

import base64
import binascii
import io
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from jfeval.asking import MAX_PIXELS, describe_error
from jfeval.errors import UserError
from jfeval.schema import Edition, ImageRequest, JsonObject, Judgement, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.benchmarks.base import Benchmark, Judge

log = logging.getLogger(__name__)

MAX_ITEMS = 256
"""Pictures in one request."""


class SoftBenchmark(Protocol):
    """A benchmark that judges single pictures, and so can be served; beside what every benchmark has."""

    golden_families: tuple[str, ...]
    """How the names of the recorded sets begin that bear on its judge and rules."""
    excerpt: Path | None
    """A folder of recorded cases that comes with it."""

    def soft(self, sample: Sample, observation: JsonObject) -> float:
        """Return how nearly a picture shows what its row asks, in [0, 1]."""
        ...

    def check_rows(self, edition: Edition) -> list[JsonObject]:
        """Return a few rows to try a judge on."""
        ...


class Busy(Exception):  # noqa: N818
    """More is waiting than the service takes."""


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How requests are put together."""

    batch: int = 16
    """Pictures that are judged together."""
    wait: float = 0.02
    """Seconds that the first picture of a batch waits for others."""
    waiting: int = 1024
    """Pictures that may wait; beyond that a request is turned away."""


@dataclass
class _Job:
    sample: Sample
    image: "Image"
    done: "Future[JsonObject]" = field(default_factory=Future)


class Service:
    """Judges pictures for many callers.

    Args:
        benchmark: Gives the rules.
        judge: Looks at pictures.
        settings: How requests are put together.
    """

    def __init__(self, benchmark: "Benchmark", judge: "Judge", settings: ServiceSettings | None = None) -> None:
        if not hasattr(benchmark, "soft"):
            raise UserError(f"{benchmark.name} gives no verdict on a single picture and cannot be served")
        self.benchmark, self.judge = benchmark, judge
        self.settings = settings or ServiceSettings()
        self.protocol = benchmark.protocols[0]
        self._queue: queue.Queue[_Job | None] = queue.Queue(self.settings.waiting)
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Judge what waits, then stop."""
        self._queue.put(None)
        self._thread.join()

    def submit(self, items: Sequence[object]) -> list[JsonObject]:
        """Judge items ``{"metadata": row, "image": base64 of a PNG or JPEG}`` and return one result each, in order.

        A result is ``{"correct", "soft", "values", "reason"}``, or ``{"error"}`` for an item that cannot be judged.

        Raises:
            Busy: Too much is waiting.
        """
        jobs: list[_Job | JsonObject] = []
        for item in items:
            try:
                jobs.append(self._job(item))
            except (UserError, ValueError, OSError, SyntaxError) as error:
                jobs.append({"error": str(error)[:500]})
        for job in jobs:
            if isinstance(job, _Job):
                try:
                    self._queue.put_nowait(job)
                except queue.Full:
                    raise Busy from None
        return [job.done.result() if isinstance(job, _Job) else job for job in jobs]

    def judge_now(self, work: "Sequence[tuple[Sample, Image]]") -> list[JsonObject]:
        """Judge pictures together, or one by one where that fails; called by the thread that owns the judge, and by its self-check."""
        try:
            seen = self._observe(work)
        except Exception as error:
            if len(work) > 1:
                return [self.judge_now([one])[0] for one in work]
            return [{"error": describe_error(error)[:500]}]
        return [self._result(sample, one) for (sample, _), one in zip(work, seen, strict=True)]

    def _observe(self, work: "Sequence[tuple[Sample, Image]]") -> list[JsonObject]:
        together: Any = getattr(self.judge, "observe_many", None)
        if together is not None:
            return [one for (one,) in together([(sample, [image]) for sample, image in work])]
        return [self.judge.observe(sample, [image])[0] for sample, image in work]

    def _result(self, sample: Sample, observation: JsonObject) -> JsonObject:
        try:
            (score,) = self.benchmark.score(sample, Judgement(sample_id=sample.id, observations=(observation,)), protocol=self.protocol)
            soft = self.benchmark.soft(sample, observation)  # pyright: ignore[reportAttributeAccessIssue]  checked at the start
        except Exception as error:  # one caller's row must not end the thread that judges for all
            return {"error": (str(error) if isinstance(error, UserError) else describe_error(error))[:500]}
        values: JsonObject = dict(score.values)
        verdict = {"correct": score.values["correct"] == 1.0} if "correct" in score.values else {}
        return {**verdict, "soft": soft, "values": values, "reason": score.reason}

    def _job(self, item: object) -> _Job:
        if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict) or not isinstance(item.get("image"), str):
            raise UserError('an item needs "metadata", a row of the benchmark, and "image", a PNG or JPEG in base64')
        metadata = item["metadata"]
        sample = Sample(id="item", task="", request=ImageRequest(prompt=str(metadata.get("prompt", ""))), reference=metadata)
        self.benchmark.score(sample, Judgement(sample_id="item"), protocol=self.protocol)  # a malformed row is refused before it waits
        return _Job(sample=sample, image=_picture(item["image"]))

    def _work(self) -> None:
        open_ = True
        while open_:
            job = self._queue.get()
            if job is None:
                return
            jobs, deadline = [job], time.monotonic() + self.settings.wait
            while len(jobs) < self.settings.batch:
                try:
                    job = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if job is None:
                    open_ = False
                    break
                jobs.append(job)
            for one, result in zip(jobs, self.judge_now([(one.sample, one.image) for one in jobs]), strict=True):
                one.done.set_result(result)


def _picture(text: str) -> "Image":
    from PIL import Image, ImageOps

    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("an image is not base64") from error
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP"))
        if image.width * image.height > MAX_PIXELS:
            raise UserError(f"an image of {image.width}x{image.height} exceeds {MAX_PIXELS} pixels")
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"an image cannot be read as PNG, JPEG or WebP ({type(error).__name__})") from error
