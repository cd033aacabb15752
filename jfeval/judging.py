"""The judge stage: what a judge sees in every stored output that it has not looked at yet."""

import io
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeAlias

from jfeval.asking import MAX_PIXELS, describe_error
from jfeval.console import Progress
from jfeval.engine import ALONE, Engine
from jfeval.errors import UserError, ends_run
from jfeval.executors import Pool
from jfeval.executors.local import Here
from jfeval.locks import record_held
from jfeval.plan import Plan, digest
from jfeval.schema import Edition, JsonObject, Judgement, Output, RunRecord, Sample
from jfeval.shards import WORKER, Shard, remove_samples
from jfeval.store import Store
from jfeval.tally import update_counts

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.benchmarks.base import BatchJudge, Benchmark, Judge

log = logging.getLogger(__name__)

_JUDGED_PER_TRANSACTION = 32

Pair: TypeAlias = tuple[Sample, Output]
Seen: TypeAlias = tuple[Judgement, float] | str
"""A judgement with the seconds it took, or the id of a sample whose images are missing or damaged."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What judging beside generation needs of the process that draws."""

    viewers: "Pool[Viewer]"
    """One worker, which keeps its judge from look to look."""
    stop: Event
    """Set when drawing has ended: what is left is for the judge stage, which has all workers."""


class Viewer:
    """One worker's judge."""

    def __init__(self, store: Store, judge: "Judge") -> None:
        self._store, self._judge, self._side = store, judge, image_size(judge)

    @classmethod
    def of(cls, folder: Path, benchmark: "Benchmark", edition: Edition, protocol: str) -> "Viewer":
        """Load the edition's judge in a worker.

        Raises:
            UserError: There is none.
        """
        judge = judge_for(benchmark, edition, protocol)
        if judge is None:
            raise UserError(f"{benchmark.name} ({edition}) has no judge")
        return cls(Store(folder), judge)

    def look(self, part: Sequence[Pair]) -> list[Seen]:
        """Judge some outputs, in order: together where the judge can, and one by one where it cannot or that failed."""
        together = self._look_together(part) if len(part) > 1 and hasattr(self._judge, "observe_many") else None
        return together or [self._look(sample, output) for sample, output in part]

    def _look_together(self, part: Sequence[Pair]) -> list[Seen] | None:
        """Judge outputs in one call; None where one of them stands in the way."""
        started = time.perf_counter()
        judge: BatchJudge = self._judge  # pyright: ignore[reportAssignmentType]
        try:
            work = [(sample, _opened([self._store.read_image(sha) or b"" for sha in output.images], self._side)) for sample, output in part]
            seen = judge.observe_many(work)
        except Exception as error:
            if ends_run(error):
                raise
            log.info("a batch of %d samples could not be judged together (%s)", len(part), describe_error(error))
            return None
        if [len(one) for one in seen] != [len(output.images) for _, output in part]:
            return None
        seconds = (time.perf_counter() - started) / len(part)
        return [(Judgement(sample_id=sample.id, observations=one), seconds) for (sample, _), one in zip(part, seen, strict=True)]

    def _look(self, sample: Sample, output: Output) -> Seen:
        started = time.perf_counter()
        files = [file for sha in output.images if (file := self._store.read_image(sha)) is not None]
        if len(files) != len(output.images):
            return sample.id
        try:
            images = _opened(files, self._side)
            observations = self._judge.observe(sample, images)
        except Exception as error:
            if ends_run(error):
                raise
            log.warning("judge failed on sample %s: %s", sample.id, describe_error(error))
            return Judgement(sample_id=sample.id, error=describe_error(error)), time.perf_counter() - started
        if len(observations) != len(images):
            error = f"the judge returned {len(observations)} observations for {len(images)} images"
            return Judgement(sample_id=sample.id, error=error), time.perf_counter() - started
        return Judgement(sample_id=sample.id, observations=observations), time.perf_counter() - started


def judge_for(benchmark: "Benchmark", edition: Edition, protocol: str) -> "Judge | None":
    """Load an edition's judge: the protocol's own, where what is looked at depends on it."""
    under = getattr(benchmark, "judge_under", None)
    return benchmark.judge(edition) if under is None else under(edition, protocol)


def image_size(judge: "Judge | None") -> int:
    """Return the side in pixels of the pictures that a judge reads; 0 where it reads any."""
    return getattr(judge, "image_size", 0)


def check_image_size(judge: "Judge | None", plan: Plan, benchmark: "Benchmark", drawn: int) -> None:
    """Refuse a model whose pictures the judge does not read, before any is drawn.

    Args:
        judge: The edition's judge; None where there is none.
        plan: What is to be drawn, and by which model.
        benchmark: Names the editions that may read the pictures.
        drawn: Side of the pictures that the model draws, in pixels; 0 where it does not say.

    Raises:
        UserError: The sizes differ; names both, and the other editions.
    """
    read = image_size(judge)
    if judge is None or 0 in (drawn, read) or drawn == read:
        return
    others = " or ".join(edition for edition in benchmark.editions if edition != plan.edition)
    raise UserError(
        f"{plan.settings.model} draws {drawn}x{drawn} pixels, and the judge {judge.name} of {benchmark.name} ({plan.edition}) reads "
        f"{read}x{read}; give {f'--edition {others}, or ' if others else ''}a model that draws {read}x{read}"
    )


def judge_again(store: Store, benchmark: "Benchmark", protocol: str) -> list[str]:
    """Judge what a stored run lacks under a protocol; where nothing is lacking, a judge that cannot be loaded here is not needed.

    Returns:
        Ids of samples whose images are missing or damaged.

    Raises:
        UserError: The judge cannot be loaded, and something is to be judged.
    """
    record = store.record()
    try:
        judge = judge_for(benchmark, record.edition, protocol)
    except UserError as error:
        same = record.protocol == protocol or not hasattr(benchmark, "judge_under")
        seen = store.judgement_errors() if record.judge_fingerprint and same else {}
        unseen = sum(1 for key, (failure, _) in store.output_facts().items() if not failure and key not in seen)
        if unseen:
            raise
        log.warning("the judge cannot be loaded here (%s); what it saw is stored, and is scored", error)
        return []
    return judge_stored(store, judge)


def judge_stored(
    store: Store,
    judge: "Judge | None",
    *,
    benchmark: "Benchmark | None" = None,
    engine: Engine = ALONE,
    plan: Plan | None = None,
    retry_failed: bool = False,
    beside: "Beside | None" = None,
) -> list[str]:
    """Judge every stored output that is not judged yet; without a judge there is nothing to do.

    Args:
        store: The run.
        judge: The judge, for its identity, and to do the work where the engine is this process alone.
        benchmark: Gives workers a judge each; needed with an engine of several.
        engine: How many workers, and which share.
        plan: Says what a share is of, and the protocol; needed with a share.
        retry_failed: Judge again what the judge failed on before.
        beside: Do this in the worker that judges beside generation, without a bar of its own, until it is told to stop.

    Returns:
        Ids of samples whose images are missing or damaged; they are left unjudged.
    """
    if judge is None:
        update_counts(store)
        return []
    record = _with_judge(store, judge)
    share = engine.share
    mine = {sample.id for batch in share.choose(plan.batches) for _, sample in batch.rows} if share and plan else None
    outputs = store.outputs()
    done = {key for key, error in store.judgement_errors().items() if not (retry_failed and error)}
    work: list[Pair] = [
        (sample, output)
        for sample in store.samples()
        if (output := outputs.get(sample.id)) and not output.error and sample.id not in done and (mine is None or sample.id in mine)
    ]
    damaged: list[str] = []
    if work:
        size = min(_JUDGED_PER_TRANSACTION, -(-len(work) // (4 * (1 if beside else engine.workers))))
        parts = [work[start : start + size] for start in range(0, len(work), size)]
        total = len(outputs if mine is None else mine)
        name = engine.part or WORKER
        with (
            nullcontext(beside.viewers) if beside else _viewers(store, judge, benchmark, engine, plan) as viewers,
            Shard(store.path, f"{name}_beside" if beside else name, alone=engine.sole_writer) as shard,
            nullcontext() if beside else Progress("judge", total=total, done=total - len(work)) as progress,
        ):
            for part, seen in viewers.each(Viewer.look, parts, _lost):
                shard.add_judgements(record.judge_fingerprint, [one for one in seen if not isinstance(one, str)])
                damaged += [one for one in seen if isinstance(one, str)]
                if progress:
                    progress.advance(len(part))
                if beside and beside.stop.is_set():
                    break
    update_counts(store)
    return damaged


def forget(store: Store, sample_ids: Sequence[str]) -> None:
    """Remove samples and those of their image files that are not what their name says."""
    outputs = store.outputs()
    for sha in {sha for sample_id in sample_ids for sha in outputs[sample_id].images}:
        if store.read_image(sha) is None:
            store.image_path(sha).unlink(missing_ok=True)
    remove_samples(store.path, sample_ids)


def _with_judge(store: Store, judge: "Judge") -> RunRecord:
    """Note in the record who judges."""
    identity: JsonObject = {"name": judge.name, **judge.identity()}
    with record_held(store.path):
        record = store.record()
        record = replace(record, judge_identity=identity, judge_fingerprint=digest({"run": record.fingerprint, "judge": identity}))
        store.write_record(record)
    return record


def _viewers(
    store: Store, judge: "Judge", benchmark: "Benchmark | None", engine: Engine, plan: Plan | None
) -> AbstractContextManager[Pool[Viewer]]:
    if engine.alone or benchmark is None:
        return nullcontext(Here(Viewer(store, judge)))
    record = store.record()
    return engine.open(partial(Viewer.of, store.path.resolve(), benchmark, record.edition, plan.protocol if plan else record.protocol))


def _lost(part: Sequence[Pair], reason: str) -> list[Seen]:
    """Fail outputs that no judge survived."""
    return [(Judgement(sample_id=sample.id, error=reason), 0.0) for sample, _ in part]


def _opened(files: Sequence[bytes], side: int) -> "list[Image]":
    """Open a sample's images, all of bounded size and, where the judge reads one size only, of that.

    Raises:
        ValueError: One is of another size; says which and both sizes.
    """
    from PIL import Image

    images: list[Image.Image] = []
    for number, file in enumerate(files, start=1):
        image = Image.open(io.BytesIO(file))
        name, size = f"image {number} of {len(files)}", f"{image.width}x{image.height}"
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{name}: {size} exceeds {MAX_PIXELS} pixels")
        if side and image.size != (side, side):
            raise ValueError(f"{name}: the judge reads {side}x{side} pixels, not {size}; resize it")
        images.append(image.convert("RGB"))
    return images
