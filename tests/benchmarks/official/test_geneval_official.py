import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.benchmarks.geneval import PUBLISHED, GenEval, Settings
from jfeval.benchmarks.geneval_judge import CLASSES, PhotoJudge, coloured_classes
from jfeval.benchmarks.geneval_parts import COLOUR, DETECTOR
from jfeval.benchmarks.geneval_rows import CLASSES_FILE, METADATA_FILE
from jfeval.benchmarks.geneval_rules import read_observation
from jfeval.benchmarks.scorers.detector import Instances
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.schema import ImageRequest, Sample
from jfeval.store import Store

ROWS = [
    {"tag": "single_object", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"},
    {"tag": "colors", "include": [{"class": "bus", "count": 1, "color": "red"}], "prompt": "a photo of a red bus"},
    {
        "tag": "counting",
        "include": [{"class": "cup", "count": 2}],
        "exclude": [{"class": "cup", "count": 3}],
        "prompt": "a photo of two cups",
    },
]


def sample(metadata, name="x"):
    return Sample(id=name, task="", request=ImageRequest(prompt=str(metadata["prompt"])), reference=metadata)


class FixedDetector:
    """Finds a bus left and a dog right in every picture, a faint bus, and a trace of a cup."""

    name = "fixed"

    def identity(self):
        return {"detector": "fixed"}

    def detect(self, images):
        found = []
        for image in images:
            masks = np.zeros((4, image.height, image.width), bool)
            masks[0, 2:6, 1:5] = masks[1, 2:6, 10:14] = masks[2, 8:9, 0:2] = masks[3, 0, 0] = True
            boxes = np.array([[1, 2, 5, 6], [10, 2, 14, 6], [0, 8, 2, 9], [0, 0, 1, 1]], np.float32)
            labels = np.array([CLASSES.index(name) for name in ("bus", "dog", "bus", "cup")])
            found.append(Instances(scores=np.array([0.95, 0.8, 0.2, 0.01], np.float32), labels=labels, boxes=boxes, masks=masks))
        return found


class SeesRed:
    """Makes features by which a crop's colour is red exactly where its middle is red."""

    def __init__(self):
        self.crops, self.asked = [], []

    def identity(self):
        return {"network": "fixed"}

    def texts(self, texts):
        self.asked.append(texts)
        return np.array([[1.0, 0.1] if " red" in text else [0.0, 1.0] for text in texts], np.float32)

    def images(self, images):
        self.crops += images
        middles = [image.getpixel((image.width // 2, image.height // 2)) for image in images]
        return np.array([[1.0, 0.0] if r > 150 and g < 100 else [0.0, 1.0] for r, g, _ in middles], np.float32)


def picture():
    image = Image.new("RGB", (16, 12), (20, 200, 20))
    image.paste((220, 10, 10), (1, 2, 5, 6))
    return image


def test_classes_are_the_published_file():
    text = "\n".join(CLASSES) + "\n"
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED[CLASSES_FILE]


def test_objects_are_found_and_only_asked_colours_are_read():
    clip = SeesRed()
    judge = PhotoJudge(FixedDetector(), clip)
    work = [(sample(ROWS[0], "a"), [picture()]), (sample(ROWS[1], "b"), [picture(), Image.new("RGB", (16, 12), (20, 200, 20))])]
    (dog,), (red, green) = judge.observe_many(work)
    assert (dog["width"], dog["height"], dog["colors"]) == (16, 12, {})
    assert {name: len(rows) for name, rows in dog["detections"].items()} == {"bus": 2, "dog": 1}
    assert (red["colors"], green["colors"]["bus"][0] != "red") == ({"bus": ["red", ""]}, True)
    assert [len(logits) for logits in red["color_logits"]["bus"]] == [10, 0]
    assert [crop.size for crop in clip.crops] == [(4, 4), (4, 4)]
    assert len(clip.asked) == 1
    assert json.loads(json.dumps(red)) == red
    assert np.float32(read_observation(red, where="x").detections["bus"][0, 4]) == np.float32(0.95)
    assert judge.observe(*work[1]) == (red, green)


def test_a_class_that_the_detector_lacks_is_an_error():
    with pytest.raises(UserError, match="sample x: unknown class of the detector 'dragon'"):
        coloured_classes(sample({**ROWS[0], "include": [{"class": "dragon", "count": 1}]}))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / METADATA_FILE).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / CLASSES_FILE).write_text("\n".join(CLASSES) + "\n")
    return folder


@pytest.fixture
def images(tmp_path):
    """A folder as the official generation script leaves it: one prompt lacks an image."""
    for row, metadata in enumerate(ROWS):
        samples = tmp_path / "images" / f"{row:05d}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(metadata))
        for index in range(4 if row < 2 else 3):
            noise = np.random.default_rng(10 * row + index).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(samples / f"{index:05d}.png")
    return tmp_path / "images"


def score(*arguments):
    fixed = ["score", "--benchmark", "geneval", "--edition", "official", "--no-report"]
    return CliRunner().invoke(main, [*fixed, *map(str, arguments)])


def test_a_folder_of_images_is_judged_end_to_end(tmp_path, data, images, judge_files, small_inputs):
    detector, clip = judge_files
    out = tmp_path / "run"
    judge = ["--set-benchmark", f"detector={detector}", "--set-benchmark", f"clip={clip}"]
    done = score("--images", images, "--data", data, "--out", out, "--max-failures", "0.5", *judge)
    assert done.exit_code == 0, done.output
    assert "1 of 3 samples failed" in done.output
    assert "has 3 images, image 4 is missing" in done.output
    store = Store.open(out)
    record = store.record()
    assert (record.counts.asked, record.counts.finished, record.counts.failed) == (3, 2, 1)
    assert record.judge_identity["detector"]["generation"] == "mmdetection 2.x"
    assert record.judge_identity["colour"]["activation"] == "quick_gelu"
    assert record.provenance["judged_images_per_second"] > 0
    assert str(tmp_path) not in json.dumps(store.inputs())
    seen = store.judgements()
    assert [len(judgement.observations) for judgement in seen.values()] == [4, 4]
    assert any(one["detections"] for judgement in seen.values() for one in judgement.observations)
    assert len(store.scores()) == 8
    again = CliRunner().invoke(main, ["score", str(out), "--no-report"])
    assert again.exit_code == 0, again.output


def test_a_missing_part_is_named_with_its_size_and_command(tmp_path, data, images, judge_files, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = score("--images", images, "--data", data, "--out", tmp_path / "run")
    assert done.exit_code == 2
    for words in ("743b7d99.pth", "about 275 MB", "`jfeval data fetch geneval-detector`", "--set-benchmark detector=FILE"):
        assert words in done.output
    done = score("--images", images, "--data", data, "--out", tmp_path / "run", "--set-benchmark", f"detector={judge_files[0]}")
    assert done.exit_code == 2
    for words in (
        "openai/clip-vit-large-patch14",
        "about 1.7 GB",
        "`jfeval data fetch clip-vit-large-patch14`",
        "--set-benchmark clip=FOLDER",
    ):
        assert words in done.output


def test_fetched_weights_are_found_without_settings(tmp_path, judge_files, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in (DETECTOR, COLOUR):
        place = tmp_path / "data" / "official" / part.data_set / part.file
        place.parent.mkdir(parents=True)
        place.write_bytes(b"")
    assert DETECTOR.find(None)[1].name == DETECTOR.file
    assert COLOUR.find(None)[1].name == COLOUR.data_set
    with pytest.raises(UserError, match="no checkpoint"):
        GenEval().judge("official")


def test_a_backend_may_stand_before_the_place(tmp_path, judge_files):
    detector, clip = judge_files
    assert DETECTOR.find(detector) == ("transformers", detector)
    assert COLOUR.find(type(clip)(f"open_clip:{clip}")) == ("open_clip", clip)
    with pytest.raises(UserError, match="unknown backend of clip 'openclip'; did you mean 'open_clip'"):
        COLOUR.find(type(clip)(f"openclip:{clip}"))
    with pytest.raises(UserError, match="there is no "):
        GenEval(Settings(detector=tmp_path / "none.pth", clip=clip)).judge("official")
