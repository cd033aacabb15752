"""Plan -> batches -> model or judge -> store: the generate and judge stages of a run.

The runner is handed a benchmark and a way to load a model; it knows neither by name. Everything it learns is on disk after each
batch, so that a process killed at any moment continues with the same command.
"""

import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jfeval.asking import describe_error, draw
from jfeval.console import Progress
from jfeval.errors import UserError
from jfeval.executors.local import run_locally
from jfeval.folder import begin, check_same, check_space, claim, empty, full_disk_explained, sweep
from jfeval.plan import Batch, Plan, digest
from jfeval.schema import JsonObject, Judgement, Output, Sample
from jfeval.shards import Shard, remove_samples, single_writer
from jfeval.store import Store
from jfeval.tally import failure_summary, update_counts

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark, Judge
    from jfeval.models.base import Model

log = logging.getLogger(__name__)

_JUDGED_PER_TRANSACTION = 32
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
) -> Store:
    """Generate and judge what the run folder does not hold yet.

    Args:
        plan: What to do.
        benchmark: Gives the judge.
        load: Loads the model; called once, after everything that can be checked without it.
        overwrite: Delete what the folder holds first.
        retry_failed: Try samples again that failed in an earlier invocation.
        stop_early: Stop generating as soon as more samples failed than the settings allow.

    Raises:
        UserError: The folder cannot be written, is full, is another run's, or is in use.
        TooManyFailures: As named; everything else is stored.
    """
    folder = plan.settings.folder
    claim(folder)
    with single_writer(folder):
        sweep(folder)
        if overwrite:
            empty(folder)
        store = Store(folder)
        if store.exists():
            check_same(store, plan.inputs({}), keys=("benchmark", "edition", "seed", "model", "data_identity"))
        judge = benchmark.judge(plan.edition)  # before the model: an edition that cannot be judged is not drawn for
        started = time.perf_counter()
        model = load()
        load_seconds = time.perf_counter() - started
        begin(store, plan, model.identity(), load_seconds)
        check_space(folder, plan, getattr(model, "image_size", 0))
        with full_disk_explained(store, plan):
            damaged: Sequence[str] = ()
            for _ in range(3):  # a damaged image is drawn again, then judged again
                _generate(store, plan, model, retry_failed=retry_failed, stop_early=stop_early)
                retry_failed = False
                damaged = judge_stored(store, judge)
                if not damaged:
                    break
                log.warning("%d samples had missing or damaged images and are drawn again", len(damaged))
                _forget(store, damaged)
            else:
                raise UserError(f"images in {folder} are damaged again after each attempt; check the disk ({len(damaged)} samples)")
    return store


# stages


def _generate(store: Store, plan: Plan, model: "Model", *, retry_failed: bool, stop_early: bool) -> None:
    fingerprint = store.record().fingerprint
    asked = {sample.id for _, sample in plan.rows}
    allowed = plan.settings.max_failures * len(asked)
    with Shard(store.path) as shard:
        if shard.set_aside:
            log.warning("a damaged shard was set aside as %s; what it held is made again", shard.set_aside)
        stored = _usable_outputs(store, retry_failed=retry_failed)
        failed = sum(1 for output in stored.values() if output.error and output.sample_id in asked)
        work = _missing(plan.batches, stored, shard.batches(fingerprint))
        last_record = time.monotonic()
        with Progress("generate", total=len(asked), done=len(asked & stored.keys())) as progress:
            for (batch, wanted), outputs in run_locally(lambda item: draw(store, model, item[0], plan.settings.seed), work):
                kept = [output for output in outputs if output.sample_id in wanted]
                shard.add_outputs(fingerprint, batch.key, kept)
                progress.advance(len(kept))
                failed += sum(1 for output in kept if output.error)
                if stop_early and failed > allowed:
                    break
                if time.monotonic() - last_record > _RECORD_EVERY_SECONDS:
                    update_counts(store)
                    last_record = time.monotonic()
    update_counts(store)
    if stop_early and failed > allowed:
        raise TooManyFailures(failure_summary(store))


def judge_stored(store: Store, judge: "Judge | None") -> list[str]:
    """Judge every stored output that is not judged yet; without a judge there is nothing to do.

    Returns:
        Ids of samples whose images are missing or damaged; they are left unjudged.
    """
    if judge is None:
        update_counts(store)
        return []
    record = store.record()
    identity: JsonObject = {"name": judge.name, **judge.identity()}
    record = replace(record, judge_identity=identity, judge_fingerprint=digest({"run": record.fingerprint, "judge": identity}))
    store.write_record(record)
    outputs, done = store.outputs(), store.judgements()
    work = [(s, o) for s in store.samples() if (o := outputs.get(s.id)) and not o.error and s.id not in done]
    damaged: list[str] = []
    if work:
        with Shard(store.path) as shard, Progress("judge", total=len(outputs), done=len(outputs) - len(work)) as progress:
            pending: list[tuple[Judgement, float]] = []
            for position, (sample, output) in enumerate(work, 1):
                started = time.perf_counter()
                judgement = _observe(store, judge, sample, output)
                if judgement is None:
                    damaged.append(sample.id)
                else:
                    pending.append((judgement, time.perf_counter() - started))
                if len(pending) >= _JUDGED_PER_TRANSACTION or position == len(work):
                    shard.add_judgements(record.judge_fingerprint, pending)
                    progress.advance(len(pending))
                    pending.clear()
    update_counts(store)
    return damaged


def _observe(store: Store, judge: "Judge", sample: Sample, output: Output) -> Judgement | None:
    """Judge one sample; None when an image is missing or is not the one that was stored."""
    from PIL import Image

    files = [store.read_image(sha) for sha in output.images]
    if any(file is None for file in files):
        return None
    try:
        images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files if file is not None]
        observations = judge.observe(sample, images)
    except UserError:
        raise
    except Exception as error:
        log.warning("judge failed on sample %s: %s", sample.id, error)
        return Judgement(sample_id=sample.id, error=describe_error(error))
    if len(observations) != len(images):
        return Judgement(sample_id=sample.id, error=f"the judge returned {len(observations)} observations for {len(images)} images")
    return Judgement(sample_id=sample.id, observations=observations)


# what is stored and what is missing


def _forget(store: Store, sample_ids: Sequence[str]) -> None:
    """Remove samples and those of their image files that are not what their name says."""
    outputs = store.outputs()
    for sha in {sha for sample_id in sample_ids for sha in outputs[sample_id].images}:
        if store.read_image(sha) is None:
            store.image_path(sha).unlink(missing_ok=True)
    remove_samples(store.path, sample_ids)


def _usable_outputs(store: Store, *, retry_failed: bool) -> dict[str, Output]:
    """Return stored outputs whose image files are all there (and, when retrying, that did not fail)."""
    present = {path.stem for path in (store.path / "images").glob("*/*.*")}
    return {
        key: output for key, output in store.outputs().items() if present.issuperset(output.images) and not (retry_failed and output.error)
    }


def _missing(batches: Sequence[Batch], stored: Mapping[str, Output], keys: Mapping[str, str]) -> Iterator[tuple[Batch, set[str]]]:
    """Yield batches with something missing, and which sample ids to keep of them.

    A batch of which a part is lost is repeated whole, so that float rounding is as it was; where the stored part came from another
    composition (another batch size or limit), only the missing samples are drawn.
    """
    for batch in batches:
        wanted = {sample.id for _, sample in batch.rows} - stored.keys()
        if not wanted:
            continue
        same = any(keys.get(sample.id) == batch.key for _, sample in batch.rows)
        rows = batch.rows if same else tuple(row for row in batch.rows if row[1].id in wanted)
        yield Batch(rows=rows, key=batch.key), wanted
