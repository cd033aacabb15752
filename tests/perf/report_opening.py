"""How large a big report is, how long it takes to write and to open: 20 models x 10 benchmarks, 2,000 pictures of 384 pixels.

python tests/perf/report_opening.py [--models 20] [--pictures 2000] [--keep FOLDER]

Opening is measured in headless Chromium (on PATH, or JFEVAL_CHROMIUM) from the request to the first page of the gallery standing there,
in a fresh page each time. The limits are 2 seconds and 25 MB; beyond, the exit status is 1.
"""

import argparse
import importlib.util
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jfeval.reports.build import write_report
from jfeval.schema import Counts, ImageRequest, Metric, Output, RunRecord, Sample, Score, TextRequest
from jfeval.shards import Shard
from jfeval.stats import clustered_mean
from jfeval.store import Store

BENCHMARKS = ("geneval", "pope", "gqa", "mmbench", "seed", "seed-likelihood", "mmbench-cn", "bench-a", "bench-b", "bench-c")
TASKS = ("one", "two", "three", "four", "five", "six")
QUESTIONS = 60
MOST_SECONDS, MOST_BYTES = 2.0, 25_000_000
DRAWN = "document.querySelectorAll('.sample').length > 0"


def picture(rng: np.random.Generator) -> bytes:
    """Return a PNG of 384 pixels that compresses about as photographs do: smooth patches with a little noise."""
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((384, 384), Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-6, 7, (384, 384, 3), dtype=np.int16)
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def write_run(path: Path, model: str, benchmark: str, pictures: int, rng: np.random.Generator) -> Store:
    """Write one finished run: of pictures where there are any, else of questions."""
    store = Store(path)
    count = pictures // 4 if pictures else QUESTIONS
    asked = [f"number {i} of a red bench" for i in range(count)]
    requests = [ImageRequest(prompt=words) if pictures else TextRequest(question=f"What is {words}?") for words in asked]
    samples = [
        Sample(id=f"{i:05d}", task=TASKS[i % len(TASKS)], request=request, reference={"row": i}, cluster=f"{i:05d}")
        for i, request in enumerate(requests)
    ]
    outputs = [
        Output(sample_id=s.id, images=tuple(store.add_image(picture(rng)) for _ in range(4)), seconds=1.0)
        if pictures
        else Output(sample_id=s.id, text="yes", seconds=0.1)
        for s in samples
    ]
    values = rng.random((count, 4))
    scores = [
        Score(sample_id=s.id, task=s.task, cluster=s.cluster, index=k, values={"correct": float(values[i, k] < 0.6)}, reason="found 0")
        for i, s in enumerate(samples)
        for k in range(4 if pictures else 1)
    ]
    metrics = []
    for task in ("", *dict.fromkeys(score.task for score in scores)):
        own = [score for score in scores if task in ("", score.task)]
        found = clustered_mean([score.values["correct"] for score in own], [score.cluster for score in own])
        metrics.append(
            Metric(
                name="task" if task else "overall", protocol="official", value=found.value, n=found.n, clusters=found.clusters, se=found.se,
                ci_low=found.ci_low, ci_high=found.ci_high, task=task, headline=not task,
            )
        )  # fmt: skip
    record = RunRecord(
        name=path.name, model=model, benchmark=benchmark, edition="shapes", protocol="official", seed=0, batch_size=16,
        model_identity={"weights": "ab" * 32, "recipe": {"guidance_scale": 4.0, "num_steps": 30, "solver": "euler"}},
        data_identity={"name": benchmark, "rows": count}, judge_identity={"name": "oracle"}, fingerprint=f"{model}-{benchmark}",
        judge_fingerprint="j", counts=Counts(available=count, asked=count, finished=count, failed=0),
        provenance={"jfeval": "0", "packages": {f"package{i}": "1.0" for i in range(12)}, "seconds": {"generate": 9.5}},
        started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:10:00Z",
    )  # fmt: skip
    store.write_record(record)
    store.write_samples(samples)
    with Shard(path) as shard:
        shard.add_outputs(record.fingerprint, "0", outputs)
    store.write_results("official", scores, metrics)
    return store


def main() -> int:
    """Write the runs and the report, open it, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="folder for the runs and the report; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = options.keep or Path(scratch)
        rng = np.random.default_rng(0)
        each = options.pictures // options.models // 4 * 4
        stores = [
            write_run(folder / "runs" / f"{benchmark}-{i}", f"model-{i:02d}", benchmark, each if benchmark == "geneval" else 0, rng)
            for benchmark in BENCHMARKS
            for i in range(options.models)
        ]
        started = time.perf_counter()
        report = write_report(stores, folder / "report.html")
        size = report.stat().st_size
        print(
            f"{len(stores)} runs, {each * options.models} pictures: written in {time.perf_counter() - started:.1f} s, {size / 1e6:.1f} MB"
        )
        opening = measure(report, Path(scratch) / "profile")
    return int(size > MOST_BYTES or (opening is not None and opening > MOST_SECONDS))


def measure(report: Path, profile: Path) -> float | None:
    """Open the report five times; print and return the median of seconds until the gallery stands. None without a Chromium."""
    spec = importlib.util.spec_from_file_location("jfeval_test_browser", Path(__file__).parents[1] / "reports" / "browser.py")
    chromium = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chromium)
    if chromium.find() is None:
        print("not opened: no Chromium on PATH, and JFEVAL_CHROMIUM is not set")
        return None
    browser = chromium.Browser(chromium.find(), profile)
    seconds = []
    for _ in range(5):
        browser.open(report.as_uri())
        browser.wait(DRAWN)
        seconds.append(browser.run("performance.getEntriesByType('navigation')[0].domComplete") / 1000)
    painted = "await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));"
    begin, end = "(async () => { const start = performance.now();", "return performance.now() - start; })()"
    turning = browser.run(f"{begin} document.querySelectorAll('.pager button')[1].click(); {painted} {end}")
    typed = "const box = document.getElementById('gallery-search'); box.value = 'bench'; box.dispatchEvent(new Event('input'));"
    typing = browser.run(f"{begin} {typed} await new Promise((done) => setTimeout(done, 121)); {painted} {end}") - 121
    browser.close()
    print(f"opens in {statistics.median(seconds):.2f} s (median of {len(seconds)}; {min(seconds):.2f} to {max(seconds):.2f})")
    print(f"next page in {turning:.0f} ms, search in {typing:.0f} ms after the pause in typing")
    return statistics.median(seconds)


if __name__ == "__main__":
    sys.exit(main())
