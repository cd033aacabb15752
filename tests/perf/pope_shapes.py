"""A whole run of POPE (shapes) by the embedded model against the same questions asked one by one; same weights, same machine.

Run: python tests/perf/pope_shapes.py [--batch-size 64] [--limit N] [--threads 2]

Both are complete runs into new folders, through the runner and the store. The baseline asks each question alone and whole (batches of one,
no common beginnings), as the published script does. The model is loaded and the questions are drawn before the clock starts. Ends in error
where an answer differs, or where the ratio is below 4 with all questions.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from jfeval.benchmarks.pope import Pope
from jfeval.plan import make_plan
from jfeval.registry import load_model
from jfeval.runner import run
from jfeval.settings import RunSettings
from jfeval.store import Store

LEAST = 4.0


def timed(folder: Path, model: object, *, batch_size: int, limit: int | None) -> tuple[float, Store]:
    """Run POPE (shapes) from nothing; returns its wall time without loading."""
    benchmark = Pope()
    settings = RunSettings(benchmark="pope", edition="shapes", model="janusflow-shapes", batch_size=batch_size, limit=limit, out=folder)
    plan = make_plan(settings, benchmark)
    started = time.perf_counter()
    store = run(plan, benchmark, lambda: model)  # pyright: ignore[reportArgumentType]
    return time.perf_counter() - started, store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model("janusflow-shapes")
    understanding = model.pipeline.understanding  # pyright: ignore[reportAttributeAccessIssue]
    with tempfile.TemporaryDirectory() as folder:
        timed(Path(folder) / "warm", model, batch_size=options.batch_size, limit=8)
        fast, together = timed(Path(folder) / "together", model, batch_size=options.batch_size, limit=options.limit)
        understanding.share = False
        slow, alone = timed(Path(folder) / "alone", model, batch_size=1, limit=options.limit)
        answers = [{key: (output.text, output.error) for key, output in store.outputs().items()} for store in (together, alone)]
    differ = sum(answers[0][key] != answers[1][key] for key in answers[1])
    images = len({sample.cluster for sample in Pope().samples("shapes", seed=0)})
    print(f"{len(answers[0])} questions about {images} images, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"one by one {slow:.1f} s; together, batches of {options.batch_size}, {fast:.1f} s: ratio {slow / fast:.2f}")
    print(f"answers that differ: {differ}")
    sys.exit(1 if differ or (options.limit is None and slow / fast < LEAST) else 0)


if __name__ == "__main__":
    main()
