"""Operations by hand, and the same number from a budget and from a batch."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.vae import load_vae
from jfeval.models.training.budget import meta_objective, sample_operations
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.encoders import read_through_latents
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.mixture import Mixture, MixtureSettings
from jfeval.models.training.objectives import AlignmentHead
from jfeval.models.training.operations import Operations
from jfeval.models.training.peaks import PEAKS, peak_of
from jfeval.models.training.stages import stage_processor


@pytest.fixture(scope="module")
def model(made):
    return JanusFlow.from_pretrained(made / "stage1")


def test_a_token_a_pair_and_a_look_at_the_vocabulary_by_hand(model):
    lang = model.config.language
    width, inner, layers, words = lang.hidden_size, lang.intermediate_size, lang.num_hidden_layers, lang.vocab_size
    parameters = layers * (4 * width**2 + 3 * width * inner + 2 * width) + width
    trained, frozen = (Operations.of(model, freeze, aligned=False) for freeze in ((), ("language",)))
    assert (trained.token, trained.pair, trained.logit) == (6 * parameters, 12 * layers * width, 6 * words * width)
    assert (frozen.token, frozen.pair) == (4 * parameters, 8 * layers * width)  # no gradient of frozen weights
    assert trained.language(10, logits=2) == 60 * parameters + 100 * 12 * layers * width + 12 * words * width


def test_an_image_costs_more_where_its_encoder_learns_or_is_aligned_to(model):
    plain, sight = Operations.of(model, ("vision",), aligned=False), Operations.of(model, (), aligned=True)
    assert sight.read == 3 * plain.read
    assert sight.drawn == plain.drawn + plain.read


def test_a_vision_tower_by_hand_without_its_pooling_head(model):
    vis = model.config.vision
    per_token = 2 * 3 * vis.patch_size**2 * vis.width + vis.depth * 2 * (4 * vis.width**2 + 2 * vis.width * vis.mlp_width)
    attention = vis.depth * 4 * vis.tokens * vis.width
    assert Operations.of(model, ("vision",), aligned=False).read == vis.tokens * (per_token + attention)
    assert Operations.of(model, ("vision",), aligned=True, encodes=False).read == 0.0  # kept on disk


def flow_encoder(config):
    """Patches and blocks at every token; the time embedding, and what each block makes of it, once for an image."""
    f, hidden = config.flow, config.language.hidden_size
    token = 2 * f.latent_channels * f.patch**2 * f.width + f.encoder_blocks * 2 * (49 * f.width + 8 * f.width**2)
    once = 2 * (f.width * hidden + hidden**2) + f.encoder_blocks * 2 * hidden * 2 * f.width
    return config.image_tokens * token + once


def test_generation_encoder_and_decoder_by_hand(model):
    f, hidden, wide = model.config.flow, model.config.language.hidden_size, 2 * model.config.flow.width
    token = f.decoder_blocks * 2 * (49 * wide + 8 * wide**2) + 2 * wide * f.latent_channels * f.patch**2
    decoder = model.config.image_tokens * token + f.decoder_blocks * 2 * hidden * 2 * wide
    assert Operations.of(model, (), aligned=False).drawn == 3 * (flow_encoder(model.config) + decoder)


@pytest.mark.parametrize("reading", ["shared", "separate"])
def test_reading_through_latents_is_counted_by_output_pixels(made, model, reading):
    vae, pixels = load_vae(made / "vae" / "vae"), []
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda conv, _, out: pixels.append(2 * conv.weight.numel() * out.shape[2] * out.shape[3]))
    with torch.no_grad():
        vae.quant_conv(vae.encoder(torch.zeros(1, 3, 16, 16)))
    changed = copy.deepcopy(model)
    read_through_latents(changed, vae, reading, seed=0)
    found, tower = Operations.of(changed, ("vision",), aligned=True), Operations.of(model, ("vision",), aligned=True)
    learns = 3 if reading == "separate" else 1  # the shared encoder leaves the VAE as it is; the blocks always learn
    assert found.read == learns * sum(pixels) + 3 * flow_encoder(model.config)
    assert found.drawn == tower.drawn  # aligned to the pre-trained tower


def test_a_batch_costs_what_its_budget_says(made, model):
    mixture = MixtureSettings(generation=3, understanding=2, text=1, prompt_tokens=80, conversation_tokens=120)
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), mixture=mixture)
    draws = Mixture(
        scenes=Scenes.open_train(made / "data"),
        latents=np.load(made / "latents" / "latents.npy"),
        texts=["a red square"],
        processor=stage_processor(made / "tokenizer", model),
        settings=mixture,
        flow=settings.flow,
        seed=0,
    )
    head = AlignmentHead(16, 16, 16)
    objective = JanusFlowObjective(model, head, draws, settings)
    read, drawn, text = sample_operations(meta_objective(model.config, settings))
    assert objective.operations(draws.batch(0, StepRng(0, 0))) == pytest.approx(2 * read + 3 * drawn + text)
    less = JanusFlowObjective(model, None, draws, replace(settings, flow=replace(settings.flow, repa_weight=0.0)))
    assert less.operations(draws.batch(0, StepRng(0, 0))) < objective.operations(draws.batch(0, StepRng(0, 0)))


def test_peaks_are_given_known_or_said_to_be_unknown(monkeypatch):
    assert peak_of(2.5, "cpu") == (2.5e12, "")
    assert peak_of(0.0, "cpu")[0] == 0.0
    for name, peak in (("NVIDIA H100 PCIe", 756e12), ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert peak_of(0.0, "cuda:0") == (peak, "")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    assert peak_of(0.0, "cuda") == (0.0, "the peak of Some GPU is not known; give it as loop.peak_tflops")
    assert list(PEAKS).index("H100 PCIe") < list(PEAKS).index("H100")
