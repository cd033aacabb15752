"""A tiny world in the on-disk format, made without the synthetic world's code."""

import io
import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

COLORS = {"red": (216, 30, 36), "blue": (20, 105, 230), "green": (30, 150, 60)}
SIDE = 16


@pytest.fixture(autouse=True)
def _one_thread():
    """Run torch on one thread: sums in one order, and no fight over a busy machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def png(color, side=SIDE):
    """Encode a square of `color` on grey."""
    image = Image.new("RGB", (side, side), (150, 150, 150))
    image.paste(color, (4, 4, 12, 12))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scene(number, split):
    """Make one well-formed row."""
    color = list(COLORS)[number % 3]
    return {
        "scene_id": f"{split}-{number:04d}",
        "image": {"bytes": png(COLORS[color]), "path": None},
        "captions": [f"a photo of a {color} square", f"a {color} square"],
        "questions": [{"question": "What color is the square?", "answer": color, "kind": "color"}],
        "objects": [{"shape": "square", "color": color}],
    }


def write_world(folder, *, train=24, test=6, change=None):
    """Write a world of `train` and `test` scenes; `change(rows)` may spoil the training rows."""
    (folder / "scenes").mkdir(parents=True)
    (folder / "text").mkdir()
    for split, count in (("train", train), ("test", test)):
        rows = [scene(i, split) for i in range(count)]
        if change is not None and split == "train":
            change(rows)
        half = (count + 1) // 2
        for i, piece in enumerate((rows[:half], rows[half:])):
            pq.write_table(pa.Table.from_pylist(piece), folder / "scenes" / f"{split}-0000{i}-of-00002.parquet")
    texts = [f"the square is {color}" for color in COLORS] * 3
    pq.write_table(pa.table({"text": texts}), folder / "text" / "train-00000-of-00001.parquet")
    (folder / "meta.json").write_text(json.dumps({"format": "test"}), "utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny():
    """The helpers above, for tests that make their own world."""
    return SimpleNamespace(write_world=write_world, png=png, COLORS=COLORS, SIDE=SIDE)


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path / "world")
