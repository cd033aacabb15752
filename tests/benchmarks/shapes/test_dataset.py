import io
import json

import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.shapes.dataset import WorldSize, make, scene_from_row, verify
from jfeval.benchmarks.shapes.render import render_array
from jfeval.benchmarks.shapes.scene import bucket
from jfeval.errors import UserError

SIZE = WorldSize(train=60, test=12, heldout=8, text=30)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "shapes"
    make(folder, seed=5, size=SIZE)
    return folder


def hashes(folder):
    return {name: entry["sha256"] for name, entry in json.loads((folder / "meta.json").read_text())["files"].items()}


def test_the_files_hold_what_they_promise(world):
    assert verify(world) == {"train": 60, "test": 12, "heldout": 8, "text": 30}
    assert not list(world.rglob("*.partial"))
    assert not (world / "plan.json").exists()


def test_rows_read_back_with_datasets(world):
    from datasets import load_dataset

    files = {split: str(world / "scenes" / f"{split}-*.parquet") for split in ("train", "test", "heldout")}
    data = load_dataset("parquet", data_files=files, cache_dir=str(world.parent / "cache"))
    for split, rows in data.items():
        for row in rows:
            scene = scene_from_row(row["objects"])
            assert bucket(scene) == split
            assert row["image"].size == (64, 64)
            assert np.array_equal(np.asarray(row["image"]), render_array(scene))
            assert len(row["captions"]) == 4
            assert [set(question) for question in row["questions"]] == [{"question", "answer", "kind"}] * 6


def test_the_same_seed_writes_the_same_bytes(world, tmp_path):
    make(tmp_path / "a", seed=5, size=SIZE)
    make(tmp_path / "b", seed=6, size=SIZE)
    assert hashes(tmp_path / "a") == hashes(world)
    assert hashes(tmp_path / "b") != hashes(world)


def test_an_interrupted_world_is_finished_by_the_same_call(world, tmp_path, monkeypatch):
    from jfeval.benchmarks.shapes import dataset

    write, calls = dataset._write, []

    def fail_at_third(out, part):
        calls.append(part.path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(out, part)

    monkeypatch.setattr(dataset, "_write", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "w", seed=5, size=SIZE)
    with pytest.raises(UserError, match="jfeval data make shapes"):
        verify(tmp_path / "w")
    make(tmp_path / "w", seed=5, size=SIZE)
    assert len(calls) == len(set(calls)) + 1
    assert hashes(tmp_path / "w") == hashes(world)


def test_progress_counts_rows(tmp_path):
    seen = []
    make(tmp_path / "w", size=WorldSize(train=3, test=2, heldout=1, text=4), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 10), (5, 10), (6, 10), (10, 10)]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        make(tmp_path, size=SIZE)
    with pytest.raises(UserError, match=r"meta\.json not found"):
        verify(tmp_path)


def test_another_seed_in_the_same_folder_is_refused(world):
    with pytest.raises(UserError, match="another seed"):
        make(world, seed=6, size=SIZE)


def test_a_damaged_file_is_named(tmp_path):
    make(tmp_path / "w", size=WorldSize(train=3, test=2, heldout=1, text=4))
    file = next((tmp_path / "w" / "text").iterdir())
    file.write_bytes(file.read_bytes()[:-20] + b"x" * 20)
    with pytest.raises(UserError, match=file.name):
        verify(tmp_path / "w")


def test_a_test_scene_among_training_scenes_is_found(tmp_path):
    folder = tmp_path / "w"
    make(folder, size=WorldSize(train=2, test=2, heldout=1, text=1))
    train, test = (next((folder / "scenes").glob(f"{split}-*")) for split in ("train", "test"))
    train.write_bytes(test.read_bytes())
    meta = json.loads((folder / "meta.json").read_text())
    files = meta["files"]
    files[f"scenes/{train.name}"]["sha256"] = files[f"scenes/{test.name}"]["sha256"]
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match="a test scene among those of train"):
        verify(folder)


@pytest.mark.parametrize("wrong", [{"train": 0}, {"test": -1}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(UserError):
        WorldSize(**wrong)


def test_images_are_png_files(world):
    import pyarrow.parquet as pq

    (row,) = pq.read_table(next((world / "scenes").glob("test-*"))).slice(0, 1).to_pylist()
    assert row["scene_id"] == "test-0000000"
    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
