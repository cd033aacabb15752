"""Encoded images on disk: encoded once, never taken for others, bounded, and without a trace in what is trained."""

import pytest
import torch
from torch import nn

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training.janusflow_objective import StageSettings
from jfeval.models.training.kept import KEPT_FILE, Kept, weights_digest
from jfeval.models.training.loop import LoopSettings, PausedError
from jfeval.models.training.making import train
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.part import Part
from jfeval.models.training.ratios import Phase
from jfeval.models.training.stages import alignment_head, stage_processor, stream_objective

PHASES = [{"understanding": 0.25, "generation": 0.5, "text": 0.25}]
MIXTURE = {"batch_size": 8, "phases": PHASES}


class Doubled:
    """A network that counts its images."""

    def __init__(self):
        self.calls = 0

    def __call__(self, pixels):
        assert len(pixels) == 1
        self.calls += 1
        return 2 * pixels.mean((2, 3)) + 1 / 3


def images(*values):
    return torch.stack([torch.full((3, 4, 4), value) for value in values])


def test_an_image_is_encoded_once_whoever_asks(tmp_path):
    network, kept = Doubled(), Kept(tmp_path / "k", 1e6)
    first = kept.encode("n", images(0.1, 0.2, 0.1), network)
    assert network.calls == 2  # the same image twice in a batch
    assert first.dtype == torch.float32
    torch.testing.assert_close(first, 2 * images(0.1, 0.2, 0.1).mean((2, 3)) + 1 / 3, rtol=1e-3, atol=1e-4)
    again = Kept(tmp_path / "k", 1e6).encode("n", images(0.2, 0.3), network)
    assert network.calls == 3
    assert torch.equal(again[0], first[1])
    kept.encode("another", images(0.2), network)
    assert network.calls == 4


def test_what_is_fresh_is_rounded_as_what_is_kept(tmp_path):
    kept, full = Kept(tmp_path / "a", 1e6), Kept(tmp_path / "b", 0.0)
    pixels = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    fresh = kept.encode("n", pixels, Doubled())
    assert torch.equal(kept.encode("n", pixels, Doubled()), fresh)
    assert torch.equal(full.encode("n", pixels, Doubled()), fresh)  # and as where there is no room


def test_a_full_file_is_only_read(tmp_path):
    network, kept = Doubled(), Kept(tmp_path / "k", 13)  # two entries of three 16-bit numbers
    kept.encode("n", images(0.1, 0.2, 0.3), network)
    assert network.calls == 3
    again = Kept(tmp_path / "k", 13)
    again.encode("n", images(0.1, 0.2, 0.3, 0.4), network)
    assert network.calls == 5  # the third and the fourth
    again.encode("n", images(0.4), network)
    assert network.calls == 6


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "k").write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"delete it, and what it held is computed again"):
        Kept(tmp_path / "k", 1.0)


def test_networks_are_told_apart_by_their_weights():
    torch.manual_seed(0)
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert weights_digest(one) != weights_digest(other)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    assert weights_digest(one) != weights_digest(nn.Sequential(one))


@pytest.fixture(scope="module")
def recipe(made, tmp_path_factory, tiny):
    return tiny.write_sources_recipe(tmp_path_factory.mktemp("kept"), made, MIXTURE, {"steps": 4})


@pytest.fixture(scope="module")
def whole(recipe):
    return train(recipe, recipe.parent / "out", overrides=["stage1.keep_gib=0.1", "stage1.freeze=[vision]"])


def test_neither_an_interruption_nor_a_lost_file_changes_a_training(recipe, whole, tmp_path):
    assert (whole / "data" / KEPT_FILE).is_file()
    settings = ["stage1.keep_gib=0.1", "stage1.freeze=[vision]"]
    with pytest.raises(PausedError):
        train(recipe, tmp_path, overrides=[*settings, "stage1.loop.time_limit_minutes=1e-9"])
    for file in (tmp_path / "data").glob(f"{KEPT_FILE}*"):
        file.unlink()
    train(recipe, tmp_path, overrides=settings)
    a, b = (JanusFlow.from_pretrained(folder / "stage1").state_dict() for folder in (whole, tmp_path))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_a_second_epoch_runs_no_frozen_network_and_learns_the_same(made, whole, tmp_path, monkeypatch):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    mixture = MixtureSettings(batch_size=8, phases=(Phase(**PHASES[0]),), pack_to=200, prompt_tokens=80, conversation_tokens=150)
    losses = []
    for gib in (0.0, 0.1):
        settings = StageSettings(
            loop=LoopSettings(steps=1, learning_rate=1.0, dtype="float32"), mixture=mixture, freeze=("vision",), keep_gib=gib
        )
        model = JanusFlow.from_pretrained(whole / "stage1")
        part = Part(name="stage1", folder=tmp_path, inputs={"data": whole / "data"})
        vae = AutoencoderKL.from_pretrained(made / "vae" / "vae")
        head = alignment_head(model, settings, part)
        objective = stream_objective(model, head, None, vae, stage_processor(made / "tokenizer", model), settings, part)
        batch = objective.stream.make(7)
        losses.append({name: float(value) for name, value in objective.loss(batch)[1].items()})
    assert losses[1] == pytest.approx(losses[0], rel=2e-3, abs=2e-4)
    assert {"flow", "repa", "answers"} <= losses[0].keys()
    monkeypatch.setattr(vae, "encode", None)
    monkeypatch.setattr(model.vision_und_enc_model, "forward", None)
    again = {name: float(value) for name, value in objective.loss(batch)[1].items()}
    assert again == losses[1]
