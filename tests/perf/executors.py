"""How well work that waits is spread over workers: efficiency = the work's own seconds / (workers x wall seconds), start-up apart.

Every batch takes a fixed time in which nothing is computed, as a model on an accelerator of its own does; so this measures what handing
out and taking back costs. Work that computes is bound by the cores: two of them do not do more with eight workers.

Run: python tests/perf/executors.py [BATCHES PER WORKER] [SECONDS PER BATCH]     (40 and 0.1 by default; Ray where it is installed)
"""

import importlib.util
import sys
import time
from functools import partial

from jfeval.engine import Engine

WORKERS = (1, 2, 4, 8)


def work(seconds: float, item: int) -> int:
    """Wait, as for an accelerator."""
    time.sleep(seconds)
    return item


def measure(executor: str, workers: int, per_worker: int, seconds: float) -> tuple[float, float]:
    """Return the seconds until every worker has done one batch, and those for all the batches after."""
    batches = list(range(per_worker * workers))
    with Engine(executor=executor, workers=workers).open(partial(float, seconds)) as pool:
        started = time.perf_counter()
        for _ in pool.each(work, batches[:workers], lambda *_: -1):
            pass
        ready = time.perf_counter()
        done = sorted(found for _, found in pool.each(work, batches, lambda *_: -1))
        assert done == batches
        return ready - started, time.perf_counter() - ready


def main() -> None:
    per_worker = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
    alone = 0.0
    print(f"{per_worker} batches per worker, {seconds:g} s each")
    for executor in ("local", *(("ray",) if importlib.util.find_spec("ray") else ())):
        for workers in WORKERS:
            start, wall = measure(executor, workers, per_worker, seconds)
            each = 1000 * (wall / per_worker - seconds)
            alone = each if (executor, workers) == ("local", 1) else alone
            efficiency = per_worker * seconds / wall
            print(
                f"{executor:<6} {workers} workers: start {start:5.1f} s, efficiency {efficiency:.1%}, "
                f"overhead {each:5.1f} ms a batch ({each - alone:+.1f} over this process alone)",
                flush=True,
            )


if __name__ == "__main__":
    main()
