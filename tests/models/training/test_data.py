import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.training.data import Sampler, Scenes, StepRng, seeded
from jfeval.models.training.decoding import DataSettings, decode, fingerprint, prepare_data, read_texts
from jfeval.models.training.held_out import HeldOut
from jfeval.models.training.part import Part


def test_decoded_images_are_the_pngs(world, tmp_path, tiny):
    report = decode(world, "train", tmp_path / "out", size=tiny.SIDE)
    scenes = Scenes.open_train(tmp_path / "out")
    assert (report.rows, report.skipped, len(scenes)) == (24, (), 24)
    assert scenes.ids[13] == "train-0013"
    pixels = scenes.pixels([13])
    assert pixels.shape == (1, 3, tiny.SIDE, tiny.SIDE)
    assert pixels.dtype == torch.float32
    blue = list(tiny.COLORS)[13 % 3]
    assert ((pixels[0, :, 8, 8] + 1) * 127.5).round().tolist() == list(tiny.COLORS[blue])
    assert pixels[0, 0, 0, 0].item() == pytest.approx(150 / 127.5 - 1)
    assert scenes.captions(13) == [f"a photo of a {blue} square", f"a {blue} square"]
    assert scenes.questions(13)[0].answer == blue
    assert [c[1] for c in scenes.all_captions()][13] == f"a {blue} square"


def test_bad_rows_are_skipped_counted_and_named(tmp_path, tiny):
    def spoil(rows):
        rows[3]["image"]["bytes"] = b"no png"
        rows[5]["captions"] = []
        rows[14]["image"]["bytes"] = tiny.png((1, 2, 3), side=8)
        rows[20]["image"]["bytes"] = rows[20]["image"]["bytes"][:60]

    world = tiny.write_world(tmp_path / "world", change=spoil)
    report = decode(world, "train", tmp_path / "out", size=tiny.SIDE)
    scenes = Scenes.open_train(tmp_path / "out")
    assert report.rows == len(scenes) == 20
    assert len(report.skipped) == 4
    assert "train-00001-of-00002.parquet row 2 (train-0014): the image is 8x8, expected 16x16" in report.skipped
    assert not {"train-0003", "train-0005", "train-0014", "train-0020"} & set(scenes.ids)
    row = scenes.ids.index("train-0004")
    assert ((scenes.pixels([row])[0, :, 8, 8] + 1) * 127.5).round().tolist() == list(tiny.COLORS["blue"])


def test_too_many_bad_rows_stop(tmp_path, tiny):
    def spoil(rows):
        for row in rows[:5]:
            row["captions"] = ["  "]

    world = tiny.write_world(tmp_path / "world", change=spoil)
    with pytest.raises(UserError, match="more than 4 bad rows"):
        decode(world, "train", tmp_path / "out", size=tiny.SIDE, max_skipped=4)


def test_limit_keeps_the_first_scenes(world, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr("jfeval.models.training.decoding.ROWS_PER_READ", 10)
    decode(world, "train", tmp_path / "out", size=tiny.SIDE, limit=15)
    assert Scenes.open_train(tmp_path / "out").ids == [f"train-{i:04d}" for i in range(15)]


def test_a_missing_split_is_named(world, tmp_path, tiny):
    with pytest.raises(UserError, match="no scenes/heldout"):
        decode(world, "heldout", tmp_path / "out", size=tiny.SIDE)
    with pytest.raises(UserError, match="no decoded split 'train'"):
        Scenes.open_train(tmp_path)


def test_texts(world):
    assert read_texts(world)[1] == "the square is blue"
    assert read_texts(world, "test") == []


def test_fingerprint_sees_contents_not_place(world, tmp_path):
    before = fingerprint(world)
    moved = world.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == before
    file = moved / "text" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    assert fingerprint(moved) != before


def test_prepare_data_asks_the_world_to_write(tmp_path, tiny):
    asked = []

    def prepare(folder):
        asked.append(folder)
        tiny.write_world(folder)

    source = tmp_path / "data"
    part = Part(name="data", folder=tmp_path / "out", prepare={"shapes": prepare})
    settings = DataSettings(source=str(source), image_size=tiny.SIDE)
    first = prepare_data(settings, part)
    second = prepare_data(settings, part)
    assert asked == [source]
    assert first == second
    assert (first["train_scenes"], first["test_scenes"], first["texts"]) == (24, 6, 9)
    with pytest.raises(UserError, match="jfeval data make shapes"):
        prepare_data(DataSettings(source=str(tmp_path / "none")), Part(name="data", folder=tmp_path / "out"))


@pytest.mark.parametrize(("rows", "batch"), [(10, 3), (7, 7), (3, 8)])
def test_every_row_once_per_epoch(rows, batch):
    sampler = Sampler(rows, batch, seed=5)
    drawn = np.concatenate([sampler.indices(s) for s in range(2 * rows)])
    for epoch in range(2):
        assert sorted(drawn[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_a_batch_depends_on_seed_and_step_alone():
    walked = Sampler(50, 8, seed=1)
    for step in range(20):
        last = walked.indices(step)
    assert (Sampler(50, 8, seed=1).indices(19) == last).all()
    assert (Sampler(50, 8, seed=2).indices(19) != last).any()
    draws = [
        (r.numpy.random(), torch.rand(1, generator=r.torch).item()) for r in (StepRng(1, 2), StepRng(1, 2), StepRng(1, 3), StepRng(2, 2))
    ]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_seeded_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    with seeded(3):
        first = torch.rand(2)
    with seeded(3):
        assert torch.equal(first, torch.rand(2))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(("rows", "batch"), [(0, 1), (1, 0)])
def test_an_empty_sampler_is_refused(rows, batch):
    with pytest.raises(UserError, match="at least one row"):
        Sampler(rows, batch, seed=0)


def _in_object(rows):
    rows[7]["objects"] = [{"shape": "ring", "color": "red"}]


def _in_caption(rows):
    rows[7]["captions"] = ["a photo of two Red rings"]


def _in_question(rows):
    rows[7]["questions"][0]["question"] = "Is there a red ring?"


@pytest.mark.parametrize("spoil", [_in_object, _in_caption, _in_question])
def test_a_held_out_pair_in_training_stops_the_recipe(tmp_path, tiny, spoil):
    world = tiny.write_world(tmp_path / "world", change=spoil)
    settings = DataSettings(source=str(world), image_size=tiny.SIDE)
    part = Part(name="data", folder=tmp_path / "out")
    prepare_data(settings, part)
    (world / "meta.json").write_text(json.dumps({"world": {"held_out_pairs": [["red", "ring"], ["blue", "star"]]}}))
    with pytest.raises(UserError, match=r"train-0007 holds the held-out pair '(?i:red ring)'"):
        prepare_data(settings, part)


def test_a_held_out_pair_in_a_text_stops_the_recipe(world, tmp_path, tiny):
    (world / "meta.json").write_text(json.dumps({"world": {"held_out_pairs": [["is", "green"]]}}))
    with pytest.raises(UserError, match="training text 2 names the held-out pair 'is green'"):
        prepare_data(DataSettings(source=str(world), image_size=tiny.SIDE), Part(name="data", folder=tmp_path / "out"))


def test_held_out_words_are_whole():
    pairs = HeldOut([("red", "ring")])
    assert pairs.in_text("a tired ring and a red  ring") == "red  ring"
    assert pairs.in_text("a scarred ring, a red star") is None
    assert HeldOut([]).in_text("red ring") is None


def test_questions_that_put_the_shape_first_name_a_pair_too():
    pairs = HeldOut([("red", "ring")])
    for named in ("Is the ring red?", "Is the ring red or blue?", "Is the ring blue or red?", "a star. Is the Ring red? no"):
        assert pairs.in_text(named)
    for other in ("Is the ring blue?", "Is the ring blue or pink?", "Is the star red or blue?", "Is the ring left of the red star?"):
        assert pairs.in_text(other) is None


@pytest.mark.parametrize("world", [{"held_out_pairs": ["red ring"]}, {"held_out_pairs": "red ring"}, {"held_out_pairs": [["red", 1]]}])
def test_pairs_of_another_form_are_refused(world):
    with pytest.raises(UserError, match="must be a list of"):
        HeldOut.from_meta({"world": world})


@pytest.mark.parametrize("world", [{"canvas": 64}, {}, {"held_out_pairs": []}, None, "shapes"])
def test_a_world_of_the_known_format_must_state_its_pairs(world):
    with pytest.raises(UserError, match=r"states no world\.held_out_pairs"):
        HeldOut.from_meta({"format": "jfeval-shapes-1", "world": world})


@pytest.mark.parametrize(
    ("meta", "warnings"),
    [
        ({"world": {"name": "another"}}, 1),
        ({"world": "another"}, 1),
        ({"world": {"held_out_pairs": []}}, 0),
        ({"format": "test"}, 0),
    ],
)
def test_a_named_world_without_pairs_is_warned_about_once(meta, warnings, caplog):
    assert HeldOut.from_meta(meta).pairs == frozenset()
    assert len([record for record in caplog.records if "nothing is checked" in record.message]) == warnings
