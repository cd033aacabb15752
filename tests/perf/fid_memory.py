"""Scoring a set of images whose features lie in a run's store: seconds and peak memory, against holding all of them.

``python tests/perf/fid_memory.py [IMAGES [WIDTH]]`` writes random features as a judge would, then scores them: 20,000 of width 1,024, under
a minute on two cores, or 30,000 of width 2,048 as FID-30k has them, several minutes and 1 GB of disk. Memory is what the process holds of
its own at most while it scores, beyond what it held before: it should not depend on the number of images. The reference's file, which is
mapped and which the system may drop at any time, is no part of it. Linux only.
"""

import io
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jfeval.benchmarks.features import ImageFile, read_features
from jfeval.benchmarks.photo_sets import photo_results
from jfeval.benchmarks.scorers.fixed_features import pack
from jfeval.schema import Counts, ImageRequest, Judged, Judgement, RunRecord, Sample
from jfeval.shards import Shard
from jfeval.store import Store

_BATCH = 500


def pixel():
    """Return a PNG of one pixel."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, format="PNG")
    return buffer.getvalue()


_PIXEL = pixel()


class Noise:
    """Random features in the place of Inception's."""

    def __init__(self, width):
        self.width, self.rng = width, np.random.default_rng(1)

    def identity(self):
        return {"network": "noise", "width": self.width}

    def features(self, images):
        rows = np.maximum(self.rng.standard_normal((len(images), self.width), dtype=np.float32), 0)
        return rows, rows


def own_memory():
    """Return the MiB that this process holds, without files that it has mapped."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


class Watch(threading.Thread):
    """Looks at this process's memory fifty times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before = self.most = own_memory()
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, own_memory())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def main(count, width):
    with tempfile.TemporaryDirectory() as folder:
        store, cache = Store(Path(folder) / "run"), Path(folder) / "features"
        noise, started = Noise(width), time.perf_counter()
        reference = read_features([ImageFile(name=f"{i}.png", read=lambda: _PIXEL) for i in range(count)], noise, cache)
        judge = {"reference": {"features": reference.key}, "clip": None}
        store.write_record(record(judge, count))
        samples = tuple(
            Sample(id=str(i), task=f"c{i % 10}", request=ImageRequest(prompt="p", num_images=1), reference={}, cluster=str(i))
            for i in range(count)
        )
        with Shard(store.path, "local") as shard:
            for start in range(0, count, _BATCH):
                part = samples[start : start + _BATCH]
                rows, _ = noise.features(part)
                seen = [{"features": pack(row), "size": "1x1"} for row in rows]
                judged = [Judgement(sample_id=sample.id, observations=(one,)) for sample, one in zip(part, seen, strict=True)]
                shard.add_judgements("j", [(one, 0.0) for one in judged])
        print(f"written in {time.perf_counter() - started:.1f} s", flush=True)
        started = time.perf_counter()
        with Watch() as watch, store.judgement_reader() as read:
            judged = Judged(samples=samples, read=read, judge=judge)
            _, metrics = photo_results(judged, protocol="gigagan", places=[cache], categories=False)
        seconds, grown = time.perf_counter() - started, watch.most - watch.before
        for metric in metrics:
            print(f"{metric.name} {metric.value:.3f} se {metric.se}")
        print(f"{count} images of width {width}: {seconds:.1f} s; at most {grown:.0f} MiB more than before scoring")
        print(f"a matrix of the covariance's size is {width * width * 8 / 2**20:.0f} MiB")
        binary, text = count * width * 4 / 2**20, count * width * 16 / 3 / 2**20
        print(f"all features of one side are {binary:.0f} MiB in float32, {text:.0f} MiB as stored")


def record(judge, count):
    return RunRecord(
        name="perf",
        model="noise",
        benchmark="mjhq",
        edition="official",
        protocol="gigagan",
        seed=0,
        batch_size=1,
        judge_identity=judge,
        fingerprint="f",
        judge_fingerprint="j",
        counts=Counts(available=count, asked=count, finished=count, failed=0),
        started_at="",
    )


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(20_000, 1024)[len(given) :])
