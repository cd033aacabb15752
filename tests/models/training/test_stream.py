"""A stage on packed data sources, from files to a model, and exactly resumed."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training import rows
from jfeval.models.training.data import Question
from jfeval.models.training.making import train
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.objectives import FlowSettings
from jfeval.models.training.ratios import Phase
from jfeval.models.training.rows import Row
from jfeval.models.training.sources import SourcesSettings, read_settings
from jfeval.models.training.stages import stage_processor
from jfeval.models.training.stream import StreamMixture, shortened_prompt

PHASES = [{"understanding": 0.25, "generation": 0.5, "text": 0.25, "until": 2}, {"understanding": 0.5, "generation": 0.5}]


@pytest.fixture(scope="module")
def recipe(made, tmp_path_factory, tiny):
    """A stage over sources whose ratio changes after two updates."""
    return tiny.write_sources_recipe(tmp_path_factory.mktemp("stream"), made, {"batch_size": 8, "phases": PHASES}, {"steps": 4})


@pytest.fixture(scope="module")
def whole(recipe):
    return train(recipe, recipe.parent / "out")


def test_a_stage_learns_from_sources(whole):
    results = json.loads((whole / "stage1" / "done.json").read_text())["results"]
    assert {"flow", "repa", "answers"} <= results.keys()
    assert (results["understanding_samples"], results["generation_samples"], results["text_samples"]) == (12.0, 16.0, 4.0)
    assert results["skipped"] == {}
    records = [json.loads(line) for line in (whole / "stage1" / "log.jsonl").read_text().splitlines()]
    assert ["text" in record for record in records] == [True, True, False, False]  # the ratio changes after two updates


def test_a_resumed_stream_ends_in_the_same_bytes(recipe, whole, tmp_path):
    from jfeval.models.training.loop import PausedError

    with pytest.raises(PausedError):
        train(recipe, tmp_path, overrides=["stage1.loop.time_limit_minutes=1e-9"])
    train(recipe, tmp_path)
    a, b = (JanusFlow.from_pretrained(folder / "stage1").state_dict() for folder in (whole, tmp_path))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def mixture(made, whole, **changes):
    model = JanusFlow.from_pretrained(whole / "stage1")
    values = {
        "batch_size": 8,
        "phases": (Phase(understanding=0.25, generation=0.5, text=0.25),),
        "pack_to": 200,
        "conversation_tokens": 150,
    }
    settings = MixtureSettings(**{**values, **changes})
    processor = stage_processor(made / "tokenizer", model)
    return StreamMixture(read_settings(whole / "data"), processor, model.config, settings, FlowSettings(), seed=0)


def test_leaving_a_kind_out_leaves_the_others_as_they_were(made, whole):
    full, less = mixture(made, whole).make(3), mixture(made, whole, leave_out=("understanding", "text")).make(3)
    assert set(less.ids) == {i for i in full.ids if i.startswith("drawn")}
    order = [list(full.ids).index(i) for i in less.ids]
    drawn = [i for i in full.ids if i.startswith("drawn")]
    places = [drawn.index(full.ids[k]) for k in order]
    assert torch.equal(less.noise, full.noise[places])
    assert torch.equal(less.drawn_pixels, full.drawn_pixels[places])
    assert less.read_pixels.numel() == 0


def test_a_batch_does_not_depend_on_what_was_drawn_before(made, whole):
    from jfeval.models.training.data import StepRng

    one, other = mixture(made, whole), mixture(made, whole)
    for step in range(5):
        late = one.batch(step, StepRng(0, step))
    early = other.batch(4, StepRng(0, 4))
    assert late.ids == early.ids
    assert torch.equal(late.noise, early.noise)
    assert torch.equal(late.tokens, early.tokens)


def test_a_conversation_that_is_too_long_is_skipped_and_named(made, whole):
    with pytest.raises(UserError, match=r"no turn of a conversation fits|unusable rows in 'asked'|rows on end are unusable"):
        mixture(made, whole, conversation_tokens=20).make(0)


def test_unusable_rows_are_noted_in_the_parts_folder_and_known_after_a_resume(made, tiny, tmp_path):
    from jfeval.models.janusflow.vae import load_vae
    from jfeval.models.training.janusflow_objective import StageSettings
    from jfeval.models.training.loop import LoopSettings
    from jfeval.models.training.part import Part
    from jfeval.models.training.sources import SourcesSettings, prepare_sources
    from jfeval.models.training.stages import stream_objective

    def spoil(rows):
        rows[1]["image"]["bytes"] = b"no picture"

    (tmp_path / "data").mkdir()
    scenes = tiny.write_world(tmp_path / "world", train=4, test=4, change=spoil) / "scenes"
    source = {"name": "drawn", "kind": "generation", "path": str(scenes)}
    prepare_sources(SourcesSettings(sources=[source], max_skipped=1), Part(name="data", folder=tmp_path / "data"))
    mixture = MixtureSettings(generation=8, understanding=0, text=0, pack_to=200, prompt_tokens=80)
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), mixture=mixture)
    model, vae = JanusFlow.from_pretrained(made / "stage1"), load_vae(made / "vae" / "vae")
    part = Part(name="stage", folder=tmp_path, inputs={"data": tmp_path / "data"})
    for before in ({}, {"drawn": 1}):
        objective = stream_objective(model, None, None, vae, stage_processor(made / "tokenizer", model), settings, part)
        assert {name: len(rows) for name, rows in objective.found()["skipped"].items()} == before
        assert len(objective.stream.make(3).ids) == 8  # the fourth epoch and the fifth
        named = [line.split(":")[0] for line in objective.found()["skipped"]["drawn"]]
        assert named == ["drawn row 5"]  # two files of two rows stand before


def test_a_long_caption_is_shortened_inside_the_chat_form(made, whole):
    processor = mixture(made, whole).processor
    caption = "a photo of a red square"
    full, form = processor.generation_prompt(caption), processor.generation_prompt("a")
    assert shortened_prompt(caption, processor, len(full)) == full
    for limit in range(len(form), len(full)):
        ids = shortened_prompt(caption, processor, limit)
        said = processor.decode(ids)
        assert len(form) <= len(ids) <= limit
        assert said.endswith("Assistant:")
        assert said.startswith("User: a")
        assert caption.startswith(said.removeprefix("User: ").removesuffix("Assistant:").strip())
    with pytest.raises(UserError, match=r"mixture\.prompt_tokens = 2 has no room for the chat form"):
        shortened_prompt(caption, processor, 2)
    drawn = mixture(made, whole, prompt_tokens=len(form)).piece("generation", 0)
    assert len(drawn) == len(form) + 1 + 16


def test_conversations_of_sources_keep_all_turns_where_none_are_cut(made, whole):
    asked = tuple(Question(question=f"What is it {n}?", answer="red", kind="") for n in range(5))
    row = Row(id="r", image=Image.new("RGB", (16, 16)), questions=asked)
    end = mixture(made, whole).processor.end_id
    for turns, expected in ((0, 5), (2, 2)):
        piece = mixture(made, whole, turns=turns, conversation_tokens=2000)._conversation(row)
        assert piece.targets.count(end) == expected


@pytest.mark.parametrize("setting", ["describe", "short_captions", "long_captions"])
def test_settings_of_decoded_scenes_are_refused(made, whole, setting):
    with pytest.raises(UserError, match=f"mixture.{setting} is for decoded scenes"):
        mixture(made, whole, **{setting: 0.5})


def test_prompts_are_dropped_at_the_stated_rate(made, whole):
    drawn = mixture(made, whole)
    dropped = [any(drawn.piece("generation", n).hidden) for n in range(400)]
    assert np.mean(dropped) == pytest.approx(0.1, abs=0.05)


def test_given_parts_of_another_size_are_refused(recipe, tmp_path):
    with pytest.raises(UserError, match=r"hidden_size 16 instead of 32"):
        train(recipe, tmp_path, only=["lm"], overrides=["lm.language.hidden_size=32"])


def test_rows_that_cannot_be_used_are_replaced_alike_whatever_the_number_of_threads(made, whole, tiny, tmp_path):
    def spoil(rows):
        for number in (0, 2, 3):
            rows[number]["image"]["bytes"] = b"no picture"

    scenes = tiny.write_world(tmp_path / "world", train=12, test=4, change=spoil) / "scenes"
    sources = SourcesSettings(sources=[{"name": "drawn", "kind": "generation", "path": str(scenes)}], max_skipped=20)
    model = JanusFlow.from_pretrained(whole / "stage1")
    processor = stage_processor(made / "tokenizer", model)

    def made_by(workers):
        settings = MixtureSettings(generation=8, understanding=0, text=0, pack_to=200, prompt_tokens=80, workers=workers)
        return StreamMixture(sources, processor, model.config, settings, FlowSettings(), seed=0)

    alone, many, plain = made_by(1), made_by(7), made_by(1)
    for step in range(3):
        one, other = alone.make(step), many.make(step)
        pieces = [plain.piece("generation", place).id for place in range(8 * step, 8 * step + 8)]  # read one by one
        assert sorted(one.ids) == sorted(other.ids) == sorted(pieces)
        assert torch.equal(one.drawn_pixels, other.drawn_pixels)
        assert torch.equal(one.noise, other.noise)
    noted = [mixture.kinds.skipped()["drawn"] for mixture in (alone, many, plain)]
    assert noted[0] == noted[1] == noted[2]
    assert len(noted[0]) == 3


def test_images_are_decoded_side_by_side(made, whole, monkeypatch):
    together = threading.Barrier(4, timeout=30)  # breaks, and the test fails, where fewer than four decode at a time
    decode = rows._image
    monkeypatch.setattr(rows, "_image", lambda cell: (together.wait(), decode(cell))[1])
    settings = {"workers": 4, "phases": (), "batch_size": 0, "generation": 8, "understanding": 0, "text": 0}
    assert len(mixture(made, whole, **settings).make(0).ids) == 8
