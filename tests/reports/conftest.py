"""Makes run folders that look like a GenEval run on the shapes edition: six tasks, four images a prompt, verdicts with reasons."""

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from jfeval.benchmarks.geneval import GenEval
from jfeval.schema import Counts, ImageRequest, Judgement, Output, RunRecord, Sample, Score
from jfeval.shards import Shard
from jfeval.store import Store

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
COLORS = {
    "red": (214, 51, 51),
    "blue": (38, 92, 205),
    "green": (33, 145, 80),
    "yellow": (240, 200, 30),
    "purple": (128, 60, 170),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "diamond", "bar")
RELATIONS = ("left of", "right of", "above", "below")
Thing = tuple[str, str, tuple[int, int, int, int]]


def draw(things: Sequence[Thing], size: int = 64) -> bytes:
    """Draw coloured shapes and return a PNG file."""
    big = Image.new("RGB", (256, 256), (240, 239, 235))
    pen = ImageDraw.Draw(big)
    for shape, color, box in things:
        x0, y0, x1, y1 = (v * 4 for v in box)
        fill, mx, my = COLORS[color], (x0 + x1) // 2, (y0 + y1) // 2
        if shape == "circle":
            pen.ellipse((x0, y0, x1, y1), fill=fill)
        elif shape == "triangle":
            pen.polygon([(mx, y0), (x1, y1), (x0, y1)], fill=fill)
        elif shape == "diamond":
            pen.polygon([(mx, y0), (x1, my), (mx, y1), (x0, my)], fill=fill)
        else:
            pen.rectangle((x0, y0 if shape == "square" else my - 14, x1, y1 if shape == "square" else my + 14), fill=fill)
    out = io.BytesIO()
    big.resize((size, size), Image.Resampling.BOX).save(out, format="PNG")
    return out.getvalue()


def _row(task: str, rng: random.Random) -> dict[str, Any]:
    """Return a metadata row in GenEval's form."""
    (a, b), (p, q) = rng.sample(SHAPES, 2), rng.sample(sorted(COLORS), 2)
    n = rng.randint(2, 4)
    relation = rng.choice(RELATIONS)
    return {
        "single_object": {"prompt": f"a photo of a {a}", "include": [{"class": a, "count": 1}]},
        "two_object": {"prompt": f"a photo of a {a} and a {b}", "include": [{"class": a, "count": 1}, {"class": b, "count": 1}]},
        "counting": {"prompt": f"a photo of {n} {a}s", "include": [{"class": a, "count": n}], "exclude": [{"class": a, "count": n + 1}]},
        "colors": {"prompt": f"a photo of a {p} {a}", "include": [{"class": a, "count": 1, "color": p}]},
        "position": {
            "prompt": f"a photo of a {a} {relation} a {b}",
            "include": [{"class": b, "count": 1}, {"class": a, "count": 1, "position": [relation, 0]}],
        },
        "color_attr": {
            "prompt": f"a photo of a {p} {a} and a {q} {b}",
            "include": [{"class": a, "count": 1, "color": p}, {"class": b, "count": 1, "color": q}],
        },
    }[task] | {"tag": task}


def _picture(row: dict[str, Any], rng: random.Random) -> tuple[list[Thing], str, bool]:
    """Return what an imperfect model drew, why that is wrong (empty when right), and whether it is what was asked and no more."""
    wanted = [(item["class"], item.get("color") or rng.choice(sorted(COLORS))) for item in row["include"] for _ in range(item["count"])]
    reason, exact = "", True
    flaw = rng.random()
    if flaw < 0.18:
        shape = wanted[-1][0]
        wanted = wanted[:-1] if len(wanted) > 1 else [(rng.choice([s for s in SHAPES if s != shape]), wanted[0][1])]
        left = sum(s == shape for s, _ in wanted)
        reason = f"expected {shape}>={left + 1}, found {left}"
    elif flaw < 0.26 and "color" in row["include"][0]:
        shape, color = wanted[0]
        other = rng.choice([c for c in sorted(COLORS) if c != color])
        wanted[0] = (shape, other)
        reason = f"expected {color} {shape}>=1, found 0 {color}; and 1 {other}"
    elif flaw < 0.36:
        exact = False
        wanted.append((rng.choice([s for s in SHAPES if s not in {w[0] for w in wanted}]), rng.choice(sorted(COLORS))))
    cells = rng.sample([(x, y) for x in (2, 23, 44) for y in (2, 23, 44)], len(wanted))
    things = [(s, c, (x, y, x + (size := rng.randint(13, 18)), y + size)) for (s, c), (x, y) in zip(wanted, cells, strict=True)]
    return things, reason, exact and not reason


def _observation(things: Sequence[Thing]) -> dict[str, Any]:
    """Return what a detector would report of the things."""
    detections: dict[str, list[list[float]]] = {}
    colors: dict[str, list[str]] = {}
    for shape, color, box in things:
        detections.setdefault(shape, []).append([*map(float, box), 0.99])
        colors.setdefault(shape, []).append(color)
    return {"width": 64, "height": 64, "detections": detections, "colors": colors}


def build_store(path: Path, *, prompts: int = 10, seed: int = 0, finished: int | None = None, failed: int = 0, **changes: Any) -> Store:
    """Write a run of 6 x `prompts` prompts; `changes` replace fields of its record."""
    rng = random.Random(f"fake/{seed}")
    store = Store(path)
    samples, scores, outputs, judgements = [], [], [], []
    rows = [_row(task, rng) for task in TASKS for _ in range(prompts)]
    for i, row in enumerate(rows):
        sample = Sample(id=f"{i:05d}", task=row["tag"], request=ImageRequest(prompt=row["prompt"]), reference=row, cluster=f"{i:05d}")
        samples.append(sample)
        if finished is not None and i >= finished:
            continue
        if i < failed:
            outputs.append(Output(sample_id=sample.id, error="the model returned a picture that is not finite"))
            continue
        pictures = [_picture(row, rng) for _ in range(4)]
        hashes = tuple(store.add_image(draw(things)) for things, _, _ in pictures)
        outputs.append(Output(sample_id=sample.id, images=hashes, seconds=0.31 + 0.01 * (i % 7)))
        judgements.append((Judgement(sample_id=sample.id, observations=tuple(_observation(things) for things, _, _ in pictures)), 0.01))
        for k, (_, reason, exact) in enumerate(pictures):
            values = {"correct": float(not reason), "exact_scene": float(exact)}
            scores.append(Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, index=k, values=values, reason=reason))
    done = len(rows) if finished is None else finished
    record = RunRecord(
        name=path.name,
        model="janusflow-shapes",
        benchmark="geneval",
        edition="shapes",
        protocol="official",
        seed=seed,
        batch_size=64,
        model_identity={
            "weights": "5f1c" * 16,
            "parameters": 6_412_358,
            "recipe": {"guidance_scale": 4.0, "num_steps": 30, "solver": "euler", "dtype": "float32", "time_shift": 1.0, "negative": None},
        },
        data_identity={"name": "geneval/shapes", "seed": seed, "rows": len(rows), "sha256": "ab12" * 16},
        judge_identity={"name": "oracle", "version": 1, "threshold": 0.3, "counting_threshold": 0.9},
        fingerprint=f"{seed:02d}" + "c0ffee" * 5,
        judge_fingerprint="9d" * 16,
        counts=Counts(available=len(rows), asked=len(rows), finished=done - failed, failed=failed),
        provenance={
            "jfeval": "0.1.0",
            "python": "3.12.4",
            "platform": "Linux-6.8-x86_64",
            "packages": {"torch": "2.15.0", "transformers": "5.23.0", "diffusers": "0.42.0", "numpy": "2.4.1", "pillow": "13.0.0"},
            "git": {"commit": "19c8e95b" * 5, "branch": "main", "dirty": False},
            "hardware": {"cpu": "AMD EPYC 7B13", "cores": 2, "threads": 2, "memory_gib": 7.8, "accelerator": ""},
            "seconds": {"load": 1.2, "generate": 84.2, "judge": 3.1, "score": 0.2},
            "peak_memory_bytes": 912_345_678,
            "images": 4 * len(rows),
        },
        started_at="2026-11-21T09:12:44Z",
        finished_at="2026-11-21T09:14:20Z" if finished is None else "",
    )
    record = replace(record, **changes)
    store.write_record(record)
    store.write_samples(samples)
    with Shard(path) as shard:
        shard.add_outputs(record.fingerprint, "0", outputs)
        shard.add_judgements(record.judge_fingerprint, judgements)
    store.write_results(record.protocol, scores, GenEval().aggregate(scores, protocol="official") if scores else [])
    return store


@pytest.fixture(scope="session")
def store_builder() -> Callable[..., Store]:
    """Return the function that writes a run into a folder."""
    return build_store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Store]:
    """Return a function that writes a run; every call gives another folder."""
    count = iter(range(1000))
    return lambda **options: build_store(tmp_path / f"run{next(count)}", **options)


@pytest.fixture(scope="session")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return one complete run that tests share and do not change."""
    return build_store(tmp_path_factory.mktemp("runs") / "full")
