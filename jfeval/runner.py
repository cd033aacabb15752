"""Plan -> batches -> model -> store -> judge: what `jfeval run` does before it scores.

The runner is handed a benchmark and a way to load a model; it knows neither by name. Everything it learns is on disk after each
batch, so that a process killed at any moment continues with the same command, with as many workers as it is then given.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from jfeval.asking import Drawer, Drawn, Errand, ModelFacts
from jfeval.batching import AUTOMATIC, longest
from jfeval.console import Progress
from jfeval.engine import ALONE, Engine
from jfeval.errors import UserError
from jfeval.executors import Pool
from jfeval.executors.local import Here
from jfeval.folder import begin, check_same, check_space, claim, empty, full_disk_explained, sweep
from jfeval.judging import check_image_size, forget, judge_for, judge_stored
from jfeval.locks import single_writer
from jfeval.plan import Batch, Plan, digest
from jfeval.schema import Output
from jfeval.shards import WORKER, Shard, mend
from jfeval.staging import judged_beside
from jfeval.store import Finished, Store
from jfeval.tally import Spent, failure_summary, update_counts

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.models.base import Model

log = logging.getLogger(__name__)

_RECORD_EVERY_SECONDS = 10.0


class TooManyFailures(Exception):  # noqa: N818
    """More samples failed than the run allows; what succeeded is stored."""


def run(
    plan: Plan,
    benchmark: "Benchmark",
    load: "Callable[[], Model]",
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
    stop_early: bool = True,
    engine: Engine = ALONE,
) -> Store:
    """Generate and judge what the run folder does not hold yet.

    Args:
        plan: What to do.
        benchmark: Gives the judge.
        load: Loads the model, after everything that can be checked without it; once, or once a worker, and then it is sent to them.
        overwrite: Delete what the folder holds, once the model is loaded.
        retry_failed: Try samples again that failed in an earlier invocation.
        stop_early: Stop generating as soon as more samples failed than the settings allow.
        engine: How many workers, and which share of the batches; in the stage ``generate`` nothing is judged. One more worker may judge
            meanwhile.

    Raises:
        UserError: The folder cannot be written, is full, is another run's, or is in use; or the judge does not read the model's pictures.
        TooManyFailures: As named; everything else is stored.
    """
    folder = plan.settings.folder
    if engine.part and overwrite:
        raise UserError("--overwrite would delete what other shards or stages write; delete the run folder once, before the first starts")
    claim(folder)
    with single_writer(folder, engine.part):
        store = _prepared(plan, overwrite=overwrite, engine=engine)
        judging = engine.stage != "generate"
        judge = judge_for(benchmark, plan.edition, plan.protocol) if judging else None  # before the model: no judge, no pictures
        open_drawers = _drawers(plan, load, engine)
        damaged: Sequence[str] = ()
        for attempt in range(3):  # a damaged image is drawn again, then judged again
            with open_drawers() as drawers:
                if attempt == 0:
                    facts = _one(drawers, Drawer.facts, None)
                    check_image_size(judge, plan, benchmark, facts.image_size)
                    if overwrite:
                        empty(folder)
                    plan = _with_batches(plan, store, drawers)
                    begin(store, plan, facts.identity, facts.load_seconds, engine)
                    check_space(folder, plan, facts.image_size)
                with full_disk_explained(store, plan), judged_beside(store, plan, benchmark, judge, engine=engine):
                    _generate(store, plan, drawers, facts, engine, retry_failed=retry_failed, stop_early=stop_early)
            if not judging:
                return store
            with full_disk_explained(store, plan):
                damaged = judge_stored(store, judge, benchmark=benchmark, engine=engine, plan=plan, retry_failed=retry_failed)
                if not damaged:
                    return store
                retry_failed = False
                log.warning("%d samples had missing or damaged images and are drawn again", len(damaged))
                forget(store, damaged)
    raise UserError(f"images in {folder} are damaged again after each attempt; check the disk ({len(damaged)} samples)")


def _prepared(plan: Plan, *, overwrite: bool, engine: Engine) -> Store:
    """Clear away what killed processes left, and check that the folder is this run's, nobody's, or about to be overwritten."""
    folder = plan.settings.folder
    if not engine.part:
        sweep(folder)
    store = Store(folder)
    if overwrite:
        return store
    if not engine.part:
        for path in mend(folder):
            log.warning("a damaged shard was set aside as %s; what it held is made again", path)
    if store.exists():
        check_same(store, plan.inputs({}), keys=("benchmark", "edition", "seed", "model", "data_identity"))
    return store


def _drawers(plan: Plan, load: "Callable[[], Model]", engine: Engine) -> Callable[[], AbstractContextManager[Pool[Drawer]]]:
    """Return what opens workers that hold the model. This process keeps its own; others end before the judge needs their memory."""
    folder, seed = plan.settings.folder, plan.settings.seed
    if engine.alone:
        here = Here(Drawer(folder, load, seed, {sample.id: sample for _, sample in plan.rows}))
        return lambda: nullcontext(here)
    return lambda: engine.open(partial(Drawer, folder.resolve(), load, seed))


def _one(drawers: Pool[Drawer], ask: Callable, item: object) -> ModelFacts:
    """Ask one worker."""

    def lost(_: object, reason: str) -> ModelFacts:
        raise UserError(f"the model cannot be loaded: {reason}")

    return next(drawers.each(ask, [item], lost))[1]


def _with_batches(plan: Plan, store: Store, drawers: Pool[Drawer]) -> Plan:
    """Cut the batches where that was left to the program: as before in a run that goes on, else by one probe on the longest item."""
    if plan.settings.batch_size != AUTOMATIC:
        return plan
    if store.exists():
        return plan.with_batch_size(store.record().batch_size)
    store.write_samples([sample for _, sample in plan.rows])  # a worker looks the sample up
    row, sample = longest(plan.rows)

    def lost(_: Errand, reason: str) -> int:
        log.warning("the probe for the batch size did not come back (%s); taking 1", reason)
        return 1

    errand = Errand(rows=((row, sample.id),), key="", wanted=frozenset())
    size = next(drawers.each(Drawer.probe, [errand], lost))[1]
    log.info("batch size %d, from a probe on sample %s", size, sample.id)
    return plan.with_batch_size(size)


def _generate(
    store: Store, plan: Plan, drawers: Pool[Drawer], facts: ModelFacts, engine: Engine, *, retry_failed: bool, stop_early: bool
) -> None:
    share = engine.share
    batches = share.choose(plan.batches) if share else plan.batches
    asked = {sample.id for batch in batches for _, sample in batch.rows}
    allowed = plan.settings.max_failures * len(asked)
    fingerprint, model = store.record().fingerprint, digest(facts.identity)
    with Shard(store.path, engine.part or WORKER, alone=engine.sole_writer) as shard:
        if shard.set_aside:
            log.warning("a damaged shard was set aside as %s; what it held is made again", shard.set_aside)
        stored = _stored(store, retry_failed=retry_failed)
        failed = sum(1 for sample_id, output in stored.items() if output.failed and sample_id in asked)
        errands = [replace(errand, model=model) for errand in _missing(batches, stored)]
        last_record, spent = time.monotonic(), Spent()
        with Progress("generate", total=len(asked), done=len(asked & stored.keys())) as progress:
            for errand, drawn in drawers.each(Drawer.draw, errands, _lost):
                shard.add_outputs(fingerprint, errand.key, drawn.outputs)
                spent.add(drawn)
                progress.advance(len(drawn.outputs))
                failed += sum(1 for output in drawn.outputs if output.error)
                if stop_early and failed > allowed:
                    break
                if time.monotonic() - last_record > _RECORD_EVERY_SECONDS:
                    update_counts(store, spent=spent)
                    last_record, spent = time.monotonic(), Spent()
    update_counts(store, spent=spent)
    if stop_early and failed > allowed:
        raise TooManyFailures(failure_summary(store))


def _lost(errand: Errand, reason: str) -> Drawn:
    """Fail a batch that no worker survived."""
    log.warning("a batch of %d samples failed: %s", len(errand.wanted), reason)
    ids = [sample_id for _, sample_id in errand.rows if sample_id in errand.wanted]
    return Drawn(outputs=tuple(Output(sample_id=sample_id, error=reason) for sample_id in ids), cost={})


# what is stored and what is missing


def _stored(store: Store, *, retry_failed: bool) -> dict[str, Finished]:
    """Return what is stored and need not be drawn (failed samples neither, when retrying)."""
    found = store.finished()
    return {sample_id: output for sample_id, output in found.items() if not output.failed} if retry_failed else found


def _missing(batches: Sequence[Batch], stored: Mapping[str, Finished]) -> Iterator[Errand]:
    """Yield batches with something missing, and which sample ids to keep of them.

    A batch of which a part is lost is repeated whole, so that float rounding is as it was; where the stored part came from another
    composition (another batch size or limit), only the missing samples are drawn.
    """
    for batch in batches:
        wanted = frozenset(sample.id for _, sample in batch.rows if sample.id not in stored)
        if not wanted:
            continue
        same = any(sample.id in stored and stored[sample.id].batch == batch.key for _, sample in batch.rows)
        rows = tuple((row, sample.id) for row, sample in batch.rows if same or sample.id in wanted)
        yield Errand(rows=rows, key=batch.key, wanted=wanted)
