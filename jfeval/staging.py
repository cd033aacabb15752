"""Judging beside generation: one process or worker judges what is there while others draw, each on its own device."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jfeval.asking import describe_error
from jfeval.engine import Engine
from jfeval.errors import UserError
from jfeval.folder import check_same, full_disk_explained
from jfeval.judging import Beside, Viewer, judge_for, judge_stored
from jfeval.locks import is_held, single_writer
from jfeval.plan import Plan
from jfeval.store import Store

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark, Judge

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at what has been drawn."""
_DRAWING = "stage-generate"
_SAME = ("benchmark", "edition", "seed", "model", "data_identity")


def judge_beside(plan: Plan, benchmark: "Benchmark", *, engine: Engine, retry_failed: bool = False, every: float = LOOK_EVERY) -> Store:
    """Judge what a run holds, and what is drawn meanwhile, until nobody draws any more; loads no model.

    Args:
        plan: The run.
        benchmark: Gives the judge.
        engine: How many workers, and which share.
        retry_failed: Judge again what the judge failed on before.
        every: Seconds between two looks.

    Raises:
        UserError: The run has not begun, is another one, or is being judged or written as a whole by another process.
    """
    store = Store(plan.settings.folder)
    if not store.exists():
        raise UserError(f"{store.path} holds no run to judge; start `jfeval run --stage generate` with the same settings first")
    with single_writer(store.path, engine.part):
        check_same(store, plan.inputs({}), keys=_SAME)
        judge = judge_for(benchmark, plan.edition, plan.protocol)
        while True:
            drawing = is_held(store.path, _DRAWING)  # asked first: what is stored when nobody draws is all there will be
            with full_disk_explained(store, plan):
                damaged = judge_stored(store, judge, benchmark=benchmark, engine=engine, plan=plan, retry_failed=retry_failed)
            retry_failed = False
            if not drawing or judge is None:
                break
            time.sleep(every)
    if damaged:
        log.warning("%d samples have missing or damaged images (%s); the stage generate draws them again", len(damaged), damaged[0])
    return store


@contextmanager
def judged_beside(
    store: Store, plan: Plan, benchmark: "Benchmark", judge: "Judge | None", *, engine: Engine, every: float = LOOK_EVERY
) -> Iterator[None]:
    """Judge in a worker of its own what is drawn inside the context, where the engine asks for that; what is left at its end stays so.

    Whatever goes wrong here costs no picture and ends no run: it is said, and the judge stage afterwards meets it again.

    Args:
        store: The run, which has begun.
        plan: What it does.
        benchmark: Gives the worker its judge.
        judge: The same judge, for its identity; None where outputs are scored as they are.
        engine: How many workers draw, and which share.
        every: Seconds between two looks.
    """
    if judge is None or not engine.judge_beside:
        yield
        return
    stop = threading.Event()

    def watch() -> None:
        try:
            with engine.open_beside(partial(Viewer.of, store.path.resolve(), benchmark, plan.edition, plan.protocol)) as viewers:
                while not stop.wait(every):
                    judge_stored(store, judge, benchmark=benchmark, engine=engine, plan=plan, beside=Beside(viewers=viewers, stop=stop))
        except Exception as error:
            log.warning("judging beside generation ended early (%s); what is left is judged afterwards", describe_error(error))

    thread = threading.Thread(target=watch, name="judge-beside", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
