"""What a large run costs the harness: time and disk a sample, the scan when it is resumed, merging and scoring, and memory.

A model that costs nothing draws one small picture a sample, by four shares as a job array would, a judge that costs nothing looks at it,
and everything is measured in a fresh process: reading what is stored and planning what is missing (resume scan), merging the four shards
and scoring (metrics). Times are CPU time of that process, which a busy machine does not change; wall time stands beside.

Run: python tests/perf/scale.py [SAMPLES]     (1,000 by default; 100,000 is what docs/scale.md states limits for)
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from jfeval.engine import Engine
from jfeval.locks import Share
from jfeval.plan import Plan, make_plan
from jfeval.runner import _missing, run
from jfeval.schema import ImageRequest, JsonObject, Metric, Sample, Score
from jfeval.scoring import score
from jfeval.settings import RunSettings
from jfeval.stats import clustered_mean, mean_of
from jfeval.store import Store

SHARES = 4
LIMITS = {"resume scan, s": 2.0, "merge and metrics, s": 30.0, "peak memory, GB": 1.0}
AT = 100_000
SWEEP = 30_000 * 20 * 6


class Nothing:
    """A model, a judge and a benchmark of six tasks, none of which does any work."""

    name = "nothing"
    editions = ("shapes",)
    protocols = ("p",)

    def __init__(self, samples: int) -> None:
        self.count = samples

    def identity(self) -> JsonObject:
        return {}

    def generate(self, jobs):
        colors = ((job.row & 255, job.row >> 8 & 255, job.row >> 16 & 255) for job in jobs)
        return [Image.new("RGB", (8, 8), color) for color in colors]

    def samples(self, edition, *, seed, data=None):
        request = ImageRequest(prompt="a photo of a red circle left of a blue square", num_images=1)
        reference: JsonObject = {"include": [{"class": "circle", "color": "red"}, {"class": "square", "color": "blue"}]}
        return [Sample(id=f"{i:06d}", task=f"t{i % 6}", request=request, reference=reference, cluster=str(i)) for i in range(self.count)]

    def data_identity(self, edition, *, seed, data=None) -> JsonObject:
        return {}

    def judge(self, edition):
        return self

    def observe(self, sample, images):
        boxes = {"circle": [4.0, 4.0, 20.0, 20.0], "square": [30.0, 4.0, 46.0, 20.0]}
        objects: list = [{"class": name, "score": 0.98, "box": box} for name, box in boxes.items()]
        return tuple({"objects": objects} for _ in images)

    def score(self, sample, judgement, *, protocol):
        values = {"correct": float(int(sample.id) % 3 > 0), "exact_scene": 0.0}
        return [Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, values=values) for _ in judgement.observations]

    def aggregate(self, scores, *, protocol):
        tasks: dict[str, list[Score]] = {}
        for one in scores:
            tasks.setdefault(one.task, []).append(one)
        e = mean_of([clustered_mean([s.values["correct"] for s in rows], [s.cluster for s in rows]) for rows in tasks.values()])
        return [Metric(name="overall", protocol=protocol, value=e.value, n=e.n, clusters=e.clusters, headline=True)]


def plan_of(folder: Path, count: int) -> Plan:
    return make_plan(RunSettings(out=folder / "run", batch_size=64), Nothing(count))


def measure(folder: Path, count: int) -> None:
    """Print, as JSON, what a fresh process needs for a finished run, imports left out."""
    import pyarrow.parquet  # noqa: F401
    import scipy.special  # noqa: F401

    nothing, store, found = Nothing(count), Store(folder / "run"), {}
    found["memory of imports, GB"] = peak_gb()
    plan = plan_of(folder, count)
    for name, work in (
        ("resume scan", lambda: sum(1 for _ in _missing(plan.batches, store.finished()))),
        ("merge and metrics", lambda: len(score(store, nothing))),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found[f"{name}, s"] = time.process_time() - cpu
        found[f"{name}, s wall"] = time.perf_counter() - wall
    found["peak memory, GB"] = peak_gb()
    print(json.dumps(found))


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def on_disk(paths) -> int:
    """Return the bytes that files take on the disk, blocks and all."""
    return sum(path.stat().st_blocks * 512 for path in paths if path.is_file())


def trial(count: int) -> dict[str, float]:
    """Make a run of so many samples and return what it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wall, cpu = time.perf_counter(), time.process_time()
        for index in range(1, SHARES + 1):
            run(plan_of(folder, count), Nothing(count), lambda: Nothing(count), engine=Engine(share=Share(index=index, of=SHARES)))
        found = {"drawing and judging, s": time.process_time() - cpu, "drawing and judging, s wall": time.perf_counter() - wall}
        done = subprocess.run([sys.executable, __file__, name, str(count)], capture_output=True, text=True, check=True)
        found |= json.loads(done.stdout.splitlines()[-1])
        out = folder / "run"
        places = {"images": "images/*/*", "SQLite": "shards/*", "scores": "results/*/*", "samples.jsonl": "samples.jsonl"}
        return found | {f"{what}, GB": on_disk(out.glob(pattern)) / 1e9 for what, pattern in places.items()}


def main() -> None:
    """Measure two sizes, and say by the line through them what the harness takes at others."""
    if len(sys.argv) > 2:
        measure(Path(sys.argv[1]), int(sys.argv[2]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    few = count // 5
    small, large = trial(few), trial(count)
    print(f"{'':<28} {few:>10,} {count:>10,} {AT:>12,} {SWEEP:>12,}")
    for key, value in large.items():
        slope = (value - small[key]) / (count - few)
        limit = f"  limit {LIMITS[key]:g}" if key in LIMITS else ""
        sweep = f"{slope * SWEEP:12,.1f}" if key.startswith(("drawing", "images", "SQLite", "scores", "samples")) else f"{'':>12}"
        print(f"{key:<28} {small[key]:10.3f} {value:10.3f} {value + slope * (AT - count):12.2f} {sweep}{limit}")


if __name__ == "__main__":
    main()
