"""The parts of the shapes recipe, small, from a world on disk to their results."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaForCausalLM, SiglipModel

from jfeval.errors import UserError
from jfeval.models.training.contrastive import (
    ContrastiveObjective,
    ContrastiveSettings,
    build_siglip,
    encode_captions,
    pair_signs,
    sigmoid_loss,
)
from jfeval.models.training.corpus import chat
from jfeval.models.training.data import Scenes, seeded
from jfeval.models.training.lm import IGNORED, LmSettings, build_lm, next_token_loss, one_per_row, pack, perplexity
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.recipe import load_recipe
from jfeval.models.training.tokenizer import BOS, EOS, PAD, SPECIAL, TokenizerSettings, build_tokenizer, load_tokenizer, save_tokenizer
from jfeval.models.training.vae import VaeSettings, build_vae, encode_mean, reconstruct, standardize, to_uint8

TEXTS = ["a photo of a red square", "a photo of a blue square", chat("What color is the square?", "red")] * 6


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(build_tokenizer(TEXTS, TokenizerSettings()), folder, 64)
    return load_tokenizer(folder)


def results(made, part):
    return json.loads((made / part / "done.json").read_text())["results"]


def test_every_part_leaves_its_published_form(made):
    vae = AutoencoderKL.from_pretrained(made / "vae" / "vae", local_files_only=True)
    assert vae.config["scaling_factor"] == pytest.approx(1 / results(made, "vae")["latent_std"])
    siglip = SiglipModel.from_pretrained(made / "contrastive" / "siglip", local_files_only=True)
    assert siglip.config.vision_config.hidden_act == "gelu"
    lm = LlamaForCausalLM.from_pretrained(made / "lm" / "lm", local_files_only=True)
    words = AutoTokenizer.from_pretrained(made / "tokenizer" / "tokenizer", local_files_only=True)
    assert lm.config.vocab_size == len(words) == results(made, "tokenizer")["vocabulary"]
    assert not lm.config.tie_word_embeddings
    assert (made / "vae" / "reconstructions.png").is_file()
    assert not list(made.glob("*/checkpoints"))


def test_muon_updates_the_hidden_matrices_of_both_towers(made):
    settings = ContrastiveSettings(image_size=16, loop=LoopSettings(steps=1, learning_rate=1e-3, optimizer="muon"))
    model = build_siglip(settings, load_tokenizer(made / "tokenizer" / "tokenizer"))
    objective = ContrastiveObjective(model, load_tokenizer(made / "tokenizer" / "tokenizer"), Scenes.open_train(made / "data"), settings)
    names = {id(p): n for n, p in model.named_parameters()}
    matrices = {names[id(p)] for p in objective.matrices()}
    assert "vision_model.encoder.layers.0.mlp.fc1.weight" in matrices
    assert "text_model.encoder.layers.1.self_attn.q_proj.weight" in matrices
    assert not any("embed" in name or ".head." in name or "bias" in name for name in matrices)


def test_measurements_are_in_range(made):
    vae, contrastive, lm = (results(made, p) for p in ("vae", "contrastive", "lm"))
    assert vae["images"] == 4
    assert 0 < vae["mean_absolute_error_255"] < 255
    assert contrastive["gallery"] == 3
    assert 0 <= contrastive["image_to_text_r1"] <= 1
    assert 1 < lm["caption_perplexity"] < 1000


def test_the_saved_autoencoder_has_standard_latents(made):
    scenes = Scenes.open_train(made / "data")
    vae = AutoencoderKL.from_pretrained(made / "vae" / "vae", local_files_only=True)
    latents = encode_mean(vae, scenes, np.arange(len(scenes)))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


def test_standardizing_changes_no_reconstruction():
    vae = build_vae(VaeSettings(widths=(8, 8), groups=4, image_size=16)).eval()
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        before, old = vae.decode(vae.encode(pixels).latent_dist.mean).sample, vae.encode(pixels).latent_dist
        standardize(vae, old.mean.mean((0, 2, 3)), old.mean.std((0, 2, 3)))
        after, new = vae.decode(vae.encode(pixels).latent_dist.mean).sample, vae.encode(pixels).latent_dist
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(new.std, old.std / old.mean.std((0, 2, 3)).view(1, -1, 1, 1), atol=1e-5, rtol=1e-4)
    assert reconstruct(vae, pixels).dtype == torch.uint8


def test_rounding_to_pixels():
    assert to_uint8(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("wrong", [{"widths": (10, 8)}, {"image_size": 30}])
def test_impossible_autoencoders_are_refused(wrong):
    with pytest.raises(UserError):
        VaeSettings(**wrong)


def test_common_words_are_one_token_each(tokenizer):
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a photo of a red square")) == [
        BOS, "a", "Ġphoto", "Ġof", "Ġa", "Ġred", "Ġsquare",
    ]  # fmt: skip
    assert len(tokenizer.encode("User: a red square\n\nAssistant:", add_special_tokens=False)) == 9


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_no_text_is_lost(text):
    built = build_tokenizer(TEXTS, TokenizerSettings())
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if not any(token in clean for token in SPECIAL):
        assert built.decode(built.encode(clean, add_special_tokens=False).ids) == clean


def test_special_tokens_have_their_roles(tokenizer):
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, PAD)
    for token in SPECIAL:
        assert len(tokenizer.encode(token, add_special_tokens=False)) == 1
    ids = tokenizer.encode("User: <image_placeholder>\nred")
    assert ids.count(tokenizer.convert_tokens_to_ids("<image_placeholder>")) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "User: \nred"


def test_the_vocabulary_does_not_depend_on_order_and_is_bounded():
    one, other = (build_tokenizer(t, TokenizerSettings(size=270)) for t in (TEXTS, TEXTS[::-1]))
    assert one.get_vocab() == other.get_vocab()
    assert one.get_vocab_size() == 270
    with pytest.raises(UserError, match="at least 263"):
        TokenizerSettings(size=200)


def test_sigmoid_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log(2) + math.log1p(math.exp(-3))) / 2
    assert sigmoid_loss(logits, pair_signs(["x", "y"])).item() == pytest.approx(expected, rel=1e-6)
    assert pair_signs(["x", "y", "x"]).tolist() == [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]


def test_captions_are_cut_and_padded(tokenizer):
    rows = encode_captions(tokenizer, ["a red square", "a photo of a red square"], 5)
    assert rows.shape == (2, 5)
    assert rows[0].tolist()[-2:] == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert rows[1].tolist()[-1] == tokenizer.eos_token_id


def test_packing_by_hand():
    documents = iter([("a", [1, 2, 3]), ("b", [4, 5]), ("c", [6, 7, 8]), ("d", [9]), ("e", [1, 1, 1, 1, 1, 1, 1, 1]), ("f", [1])])
    rows = pack(documents, rows=2, length=6, pad=0)
    assert rows.ids == ["a", "b", "c", "d"]
    assert rows.tokens.tolist() == [[1, 2, 3, 4, 5, 0], [6, 7, 8, 9, 0, 0]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0]]
    assert rows.documents.tolist() == [[0, 0, 0, 1, 1, -1], [0, 0, 0, 1, -1, -1]]
    assert rows.labels.tolist() == [[2, 3, IGNORED, 5, IGNORED, IGNORED], [7, 8, IGNORED, IGNORED, IGNORED, IGNORED]]
    allowed = rows.mask()[0, 0] == 0
    assert allowed[4].tolist() == [False, False, False, True, True, False]
    assert allowed[5].tolist() == [False, False, False, False, False, True]


def test_a_document_longer_than_a_row_is_cut():
    rows = pack(iter([("a", [1, 2, 3, 4]), ("b", [5, 6, 7]), ("c", [8])]), rows=1, length=3, pad=0)
    assert rows.tokens.tolist() == [[1, 2, 3]]


def test_a_packed_document_reads_as_if_alone(tokenizer):
    model = build_lm(LmSettings(width=16, mlp=16, layers=2, heads=2), tokenizer).eval()
    texts = [[*tokenizer.encode(t), tokenizer.eos_token_id] for t in TEXTS[:3]]
    packed = pack(iter([("", t) for t in texts] + [("", [1] * 99)]), rows=1, length=60, pad=tokenizer.pad_token_id)
    with torch.no_grad():
        together = next_token_loss(model, packed).item()
        alone = [F.cross_entropy(model(torch.tensor([t])).logits[0, :-1], torch.tensor(t[1:]), reduction="sum").item() for t in texts]
        rows = next_token_loss(model, one_per_row(texts, 40, tokenizer.pad_token_id)).item()
    expected = sum(alone) / sum(len(t) - 1 for t in texts)
    assert together == pytest.approx(expected, rel=1e-5)
    assert rows == pytest.approx(expected, rel=1e-5)


def test_perplexity_of_a_model_that_knows_nothing_is_the_vocabulary(tokenizer):
    model = build_lm(LmSettings(width=16, mlp=16, layers=1, heads=2), tokenizer)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert perplexity(model, tokenizer, TEXTS, LmSettings()) == pytest.approx(len(tokenizer), rel=1e-4)


def test_initial_weights_come_from_the_seed(tokenizer):
    with seeded(99):
        first = build_lm(LmSettings(width=16, mlp=16, layers=1, heads=2), tokenizer)
    second = build_lm(LmSettings(width=16, mlp=16, layers=1, heads=2), tokenizer)
    assert torch.equal(first.lm_head.weight, second.lm_head.weight)


def test_shares_must_sum_to_one():
    with pytest.raises(UserError, match="sum to 1"):
        LmSettings(captions=0.9)


def test_the_encoder_of_the_recipe_is_the_one_the_defaults_describe():
    assert ContrastiveSettings().vision.layers == 4


def test_the_shapes_recipe_is_well_formed():
    names = [p.name for p in load_recipe("shapes").parts]
    assert names[:5] == ["data", "vae", "tokenizer", "contrastive", "lm"]
