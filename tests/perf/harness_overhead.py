"""What the harness costs per sample: a whole run with a model and a judge that do nothing.

Counted: planning, PNG encoding and hashing, image files, SQLite rows, judging's reading and decoding, scoring, Parquet and JSON, the
record. Not counted: imports, the report. PNG encoding and decoding of 64x64 images is timed alone beside it, because any evaluation
pays it. CPU time is given as well as wall time: on a busy machine only the former says something about the code.

Run: python tests/perf/harness_overhead.py [SAMPLES]
"""

import io
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from jfeval.plan import make_plan
from jfeval.runner import run
from jfeval.schema import ImageRequest, JsonObject, Metric, Sample, Score
from jfeval.scoring import score
from jfeval.settings import RunSettings
from jfeval.stats import clustered_mean

IMAGES_PER_SAMPLE = 4
SIDE = 64


class Nothing:
    """A model, a judge and a benchmark at once, none of which does any work."""

    name = "nothing"
    editions = ("shapes",)
    protocols = ("p",)

    def __init__(self, samples: int) -> None:
        noise = Image.effect_noise((SIDE, SIDE), 60).convert("RGB")
        self.pictures = [noise.rotate(angle) for angle in (0, 90, 180, 270)]
        request = ImageRequest(prompt="", num_images=IMAGES_PER_SAMPLE)
        self.rows = [Sample(id=f"{i:06d}", task=f"t{i % 6}", request=request, reference={"row": i}, cluster=str(i)) for i in range(samples)]
        self.made = 0

    def identity(self) -> JsonObject:
        return {}

    def generate(self, jobs):
        pictures = []
        for job in jobs:  # every image another file, as in life
            picture = self.pictures[job.index % 4].copy()
            picture.putpixel((0, 0), (job.seed & 255, job.seed >> 8 & 255, job.seed >> 16 & 255))
            picture.putpixel((1, 0), (job.row & 255, job.row >> 8 & 255, job.index))
            pictures.append(picture)
        return pictures

    def samples(self, edition, *, seed, data=None):
        return self.rows

    def data_identity(self, edition, *, seed, data=None) -> JsonObject:
        return {}

    def judge(self, edition):
        return self

    def observe(self, sample, images):
        return tuple({"objects": []} for _ in images)

    def score(self, sample, judgement, *, protocol):
        seen = enumerate(judgement.observations)
        return [Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, index=i, values={"correct": 1.0}) for i, _ in seen]

    def aggregate(self, scores, *, protocol):
        e = clustered_mean([s.values["correct"] for s in scores], [s.cluster for s in scores])
        return [Metric(name="overall", protocol=protocol, value=e.value, n=e.n, clusters=e.clusters, headline=True)]


def codec_seconds(picture: Image.Image, rounds: int = 400) -> float:
    """Return the CPU time of encoding one image as PNG and decoding it again."""
    started = time.process_time()
    for _ in range(rounds):
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        Image.open(buffer).convert("RGB")
    return (time.process_time() - started) / rounds


def main() -> None:
    """Time a run, and the same run again, which finds everything done."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    nothing = Nothing(count)
    with tempfile.TemporaryDirectory() as folder:  # imports everything
        few = Nothing(20)
        score(run(make_plan(RunSettings(out=Path(folder) / "run"), few), few, lambda: few), few)
    with tempfile.TemporaryDirectory() as folder:
        settings = RunSettings(out=Path(folder) / "run", batch_size=64)
        for name in ("first run", "resumed, all done"):
            wall, cpu = time.perf_counter(), time.process_time()
            plan = make_plan(settings, nothing)
            store = run(plan, nothing, lambda: nothing)
            score(store, nothing)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            print(f"{name:<18} {count} samples: {1000 * wall / count:.3f} ms wall, {1000 * cpu / count:.3f} ms CPU per sample")
        codec = IMAGES_PER_SAMPLE * codec_seconds(nothing.pictures[0])
        print(f"of which PNG encoding and decoding of {IMAGES_PER_SAMPLE} images of {SIDE}x{SIDE}: {1000 * codec:.3f} ms CPU per sample")


if __name__ == "__main__":
    main()
