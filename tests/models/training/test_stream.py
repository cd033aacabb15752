"""A stage on packed data sources, from files to a model, and exactly resumed."""

import json

import numpy as np
import pytest
import torch

from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training.making import train
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.objectives import FlowSettings
from jfeval.models.training.ratios import Phase
from jfeval.models.training.sources import read_settings
from jfeval.models.training.stages import stage_processor
from jfeval.models.training.stream import StreamMixture

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
    from jfeval.errors import UserError

    with pytest.raises(UserError, match=r"no turn of a conversation fits|unusable rows in 'asked'|rows on end are unusable"):
        mixture(made, whole, conversation_tokens=20).make(0)


def test_prompts_are_dropped_at_the_stated_rate(made, whole):
    drawn = mixture(made, whole)
    dropped = [any(drawn.piece("generation", n).hidden) for n in range(400)]
    assert np.mean(dropped) == pytest.approx(0.1, abs=0.05)


def test_given_parts_of_another_size_are_refused(recipe, tmp_path):
    from jfeval.errors import UserError

    with pytest.raises(UserError, match=r"hidden_size 16 instead of 32"):
        train(recipe, tmp_path, only=["lm"], overrides=["lm.language.hidden_size=32"])
