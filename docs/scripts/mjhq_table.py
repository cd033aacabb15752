"""The table of MJHQ's shapes edition in docs/mjhq.md: runs beside sets of pictures whose distance is known to be small or large.

``python docs/scripts/mjhq_table.py [RUN ...]`` prints Markdown: a column for each number over all categories, under the name by
which ``jfeval run --benchmark mjhq --edition shapes`` prints it.
"""

import sys

import numpy as np
from PIL import Image, ImageFilter

from jfeval.benchmarks.mjhq import MJHQ
from jfeval.benchmarks.scene_sets import PROTOCOL, read_scene
from jfeval.benchmarks.shapes.render import render
from jfeval.schema import Judged, Judgement
from jfeval.store import Store

SEED, OTHER = 0, 1


def noisy(image, rng):
    values = np.asarray(image, np.float32) + rng.normal(0, 16, (*image.size[::-1], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def sets(samples):
    """Return pictures for each sample, by the words of their row."""
    rng = np.random.default_rng(SEED)
    others = MJHQ().samples("shapes", seed=OTHER)
    fresh = [render(read_scene(sample)) for sample in others]
    red = [picture for picture, sample in zip(fresh, others, strict=True) if sample.task == "red"]
    return {
        "the reference scenes themselves": [render(read_scene(sample)) for sample in samples],
        "another draw of reference scenes": fresh,
        "the same, blurred by 1 pixel": [picture.filter(ImageFilter.GaussianBlur(1)) for picture in fresh],
        "the same with noise of sd 16": [noisy(picture, rng) for picture in fresh],
        "red scenes only": [red[i % len(red)] for i in range(len(samples))],
    }


def measured(benchmark, samples, pictures):
    """Return the metrics of each set."""
    judge = benchmark.judge("shapes")
    seen = {sample.id: judge.observe(sample, [own[i] for own in pictures.values()]) for i, sample in enumerate(samples)}
    identity = {"name": judge.name, **judge.identity()}
    for k, words in enumerate(pictures):

        def read(name, k=k):
            return Judgement(sample_id=name, observations=(seen[name][k],))

        yield words, benchmark.score_set(Judged(samples=tuple(samples), read=read, judge=identity), protocol=PROTOCOL)[1]


def main(runs):
    benchmark = MJHQ()
    samples = benchmark.samples("shapes", seed=SEED)
    rows = [(Store.open(run).record().model, Store.open(run).metrics()) for run in runs]
    rows += measured(benchmark, samples, sets(samples))
    whole = [{metric.name: metric for metric in metrics if not metric.task} for _, metrics in rows]
    names = list(dict.fromkeys(name for one in whole for name in one))
    print("| drawn |", " | ".join(f"`{name}`" for name in names), "|")
    print("|---|" + "---:|" * len(names))
    for (words, _), one in zip(rows, whole, strict=True):
        print(f"| {words} |", " | ".join(f"{round(one[name].value, 3) + 0.0:.3f}" if name in one else "-" for name in names), "|")


if __name__ == "__main__":
    main(sys.argv[1:])
