import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.adapters.retrieval import Settings, load
from jfeval.schema import ImageJob

ROWS = [
    ("red", ["a photo of a red circle", "a red circle"]),
    ("blue", ["a photo of a blue circle"]),
    ("green", ["a photo of a square left of a circle"]),
    ("white", ["a photo of a circle left of a square"]),
    ("black", ["a red circle"]),
]


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "scenes").mkdir()
    rows = [{"captions": captions, "image": png(color)} for color, captions in ROWS]
    for i, part in enumerate((rows[:2], rows[2:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "scenes" / f"train-0000{i}-of-00002.parquet")
    return load(Settings(data=tmp_path))


@pytest.mark.parametrize(
    ("prompt", "scenes"),
    [
        ("a photo of a blue circle", [1]),
        ("a red circle", [0, 4]),
        ("A circle LEFT of a square", [3]),
        ("a square left of a circle", [2]),
    ],
)
def test_the_nearest_caption_wins_and_ties_stay(model, prompt, scenes):
    assert model.nearest(prompt).tolist() == scenes


def test_images_follow_the_seed(model):
    jobs = [ImageJob(prompt="a red circle", seed=seed) for seed in range(20)]
    images = [image.getpixel((0, 0)) for image in model.generate(jobs)]
    assert set(images) == {(255, 0, 0), (0, 0, 0)}
    assert images == [image.getpixel((0, 0)) for image in model.generate(jobs)]


def test_no_data_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="--set data=FOLDER"):
        load(Settings())
    with pytest.raises(UserError, match="jfeval data make shapes"):
        load(Settings(data=tmp_path))
