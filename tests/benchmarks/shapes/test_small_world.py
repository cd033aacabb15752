"""The world for sweeps: another edition, made by the same rules and seen by the same oracle."""

import json
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.geneval import GenEval
from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_rules import judge_image, read_observation
from jfeval.benchmarks.gqa import Gqa
from jfeval.benchmarks.pope import Pope
from jfeval.benchmarks.shapes.controls import control_images
from jfeval.benchmarks.shapes.dataset import WorldSize, make, names_held_out, read_meta, scene_from_row, verify
from jfeval.benchmarks.shapes.oracle import detect, observation
from jfeval.benchmarks.shapes.render import render, render_array
from jfeval.benchmarks.shapes.rows import TASKS, geneval_rows
from jfeval.benchmarks.shapes.scene import Scene, Thing, bucket, sample_scene, scene_rng
from jfeval.benchmarks.shapes.world import FULL, SMALL, world_named
from jfeval.errors import UserError
from jfeval.schema import EDITIONS

SIZE = WorldSize(train=30, test=8, heldout=6, text=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("small") / "world"
    make(out, seed=2, size=SIZE, world=SMALL)
    return out


def test_a_folder_of_it_says_whose_it_is_and_follows_its_rules(folder):
    assert verify(folder) == {"train": 30, "test": 8, "heldout": 6, "text": 20}
    assert read_meta(folder)["world"]["name"] == "shapes-small"
    with pytest.raises(UserError, match="another world"):
        make(folder, seed=2, size=SIZE)
    import pyarrow.parquet as pq

    for row in pq.read_table(next((folder / "scenes").glob("train-*"))).to_pylist():
        scene = scene_from_row(row["objects"], SMALL)
        assert bucket(scene) == "train"
        assert set(scene.kinds) <= set(SMALL.seen)
        assert not [text for text in (*row["captions"], *(q["question"] for q in row["questions"])) if names_held_out(text, SMALL)]
        assert all(caption.startswith(SMALL.wording.prefixes) for caption in row["captions"])
    meta = folder / "meta.json"
    stored = json.loads(meta.read_text())
    stored["world"].pop("name")
    meta.write_text(json.dumps(stored))
    with pytest.raises(UserError):  # read as the full world, its scenes lie in other splits
        verify(folder)


def test_objects_keep_within_the_smaller_canvas_and_apart():
    for index in range(60):
        scene = sample_scene(scene_rng(1, "train", index), "train", SMALL)
        assert render_array(scene).shape == (48, 48, 3)
        for one in scene.things:
            assert one.radius + 1 <= min(one.x, one.y)
            assert max(one.x, one.y) <= 46 - one.radius
        for one, other in combinations(scene.things, 2):
            assert max(abs(one.x - other.x), abs(one.y - other.y)) - one.radius - other.radius - 1 >= 3


def test_every_two_shapes_have_test_compositions_and_training_ones():
    """Otherwise a prompt about them would be drawn for ever."""
    for first, second in combinations(SMALL.shapes, 2):
        splits = set()
        for one in SMALL.seen:
            for other in SMALL.seen:
                if (one[1], other[1]) == (first, second):
                    things = tuple(Thing(shape=s, color=c, size="small", x=x, y=12) for (c, s), x in ((one, 12), (other, 36)))
                    splits.add(bucket(Scene(things=things, world=SMALL)))
        assert splits == {"train", "test"}


def test_the_oracle_sees_what_is_there_and_scores_other_pictures_low():
    rows = geneval_rows(0, 4, SMALL)
    assert [row.metadata["tag"] for row in rows] == [task for task in TASKS for _ in range(4)]
    right = {}
    for control in ("true", "shuffled", "noise"):
        images = control_images(rows, control)
        seen = [read_observation(observation(image, SMALL.canvas), where="test") for image in images]
        right[control] = [
            judge_image(parse_row(row.metadata, where="test", classes=SMALL.shapes), one).correct
            for row, one in zip(rows, seen, strict=True)
        ]
    assert all(right["true"])
    assert np.mean(right["shuffled"]) < 0.25
    assert not any(right["noise"])
    assert all(one.score > 0.9 for row in rows for one in detect(render(row.scene), SMALL.canvas))
    with pytest.raises(UserError, match="48x48 pixels, not 64x64"):
        detect(Image.new("RGB", (64, 64)), SMALL.canvas)


def test_its_benchmarks_are_an_edition_of_their_own():
    assert EDITIONS == ("official", "shapes", "shapes-small")
    benchmark = GenEval()
    samples = benchmark.samples("shapes-small", seed=1)
    assert len(samples) == 6 * 20
    assert len({sample.request.prompt for sample in samples}) == len(samples)
    identities = [benchmark.data_identity(edition, seed=1) for edition in ("shapes", "shapes-small")]
    assert [one["name"] for one in identities] == ["geneval-shapes", "geneval-shapes-small"]
    assert benchmark.judge("shapes").identity() != benchmark.judge("shapes-small").identity()
    assert "canvas" not in benchmark.judge("shapes").identity()  # runs that are stored keep their fingerprints
    with pytest.raises(UserError, match="reads no data"):
        benchmark.samples("shapes-small", seed=1, data="somewhere")


@pytest.mark.parametrize("cls", [Pope, Gqa])
def test_its_questions_are_about_its_own_objects(cls):
    rows = cls().rows("shapes-small", seed=0)
    absent = [shape for shape in FULL.shapes if shape not in SMALL.shapes] + [c for c in FULL.colors if c not in SMALL.colors]
    assert not [row.question for row in rows if any(word in row.question for word in absent)]
    assert not [row.question for row in rows if names_held_out(row.question, SMALL)]
    assert cls().data_identity("shapes-small", seed=0)["name"].endswith("-shapes-small")
    with Image.open(__import__("io").BytesIO(rows[0].reader())) as image:
        assert image.size == (48, 48)


def test_an_unknown_world_is_named():
    with pytest.raises(UserError, match="unknown world 'shapes-big'"):
        world_named("shapes-big")
