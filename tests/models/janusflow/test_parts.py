import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig
from jfeval.models.janusflow.model import PromptBatch, causal_mask
from jfeval.models.janusflow.parts import from_parts

VISION = {"hidden_size": 24, "intermediate_size": 87, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 4}


@pytest.fixture
def llama(tmp_path):
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=60,
        max_position_embeddings=128, rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "llama")
    return model


@pytest.fixture
def siglip(tmp_path):
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION)).eval()
    model.save_pretrained(tmp_path / "siglip")
    return model


@torch.no_grad()
def test_both_parts_compute_what_they_did(llama, siglip, tmp_path):
    model = from_parts(tmp_path / "llama", tmp_path / "siglip", flow=FlowConfig(width=16))
    ids = torch.arange(10)[None]
    hidden, _ = model.backbone(model.embed(ids), ids, causal_mask(torch.ones(1, 10, dtype=torch.bool), 10))
    torch.testing.assert_close(model.logits(hidden), llama(ids).logits, atol=1e-5, rtol=1e-4)
    tower = siglip.vision_model
    for layer in tower.encoder.layers:
        layer.mlp.activation_fn = torch.nn.GELU()  # JanusFlow's tower has the exact form
    pixels = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(model.vision_und_enc_model(pixels), tower(pixels).last_hidden_state, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(model.velocity(torch.ones(1, 4, 8, 8), torch.ones(1), PromptBatch.from_lists([[1]], pad_id=0))[0]).all()


def test_a_vision_tower_alone_and_other_types_serve_too(llama, siglip, tmp_path):
    tower = SiglipVisionModel(SiglipVisionConfig(**VISION)).to(torch.float16)
    tower.save_pretrained(tmp_path / "tower")
    llama.to(torch.bfloat16).save_pretrained(tmp_path / "llama16")
    model = from_parts(tmp_path / "llama16", tmp_path / "tower")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    probe = model.vision_und_enc_model.vision_tower.head.probe
    assert torch.equal(probe, tower.head.probe.to(torch.bfloat16))


def test_the_new_parts_depend_on_the_seed_alone(llama, siglip, tmp_path):
    state = torch.get_rng_state()
    first, again, other = (from_parts(tmp_path / "llama", tmp_path / "siglip", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    differ = {name.split(".")[0] for name in first if not torch.equal(first[name], other[name])}
    assert differ == {
        "beg_of_und_embed", "vision_und_enc_aligner", "vision_gen_enc_aligner", "vision_gen_dec_aligner", "vision_gen_enc_model",
        "vision_gen_dec_model",
    }  # fmt: skip


def test_what_does_not_fit_is_named(llama, siglip, tmp_path):
    file = tmp_path / "llama" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        from_parts(tmp_path / "llama", tmp_path / "siglip")
    assert "missing    language_model.model.norm.weight [32]" in str(caught.value)
    assert "unexpected language_model.model.layers.0.self_attn.q_proj.bias [32]" in str(caught.value)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("llama", {"model_type": "qwen2"}, "needs one of model_type 'llama'"),
        ("llama", {"attention_bias": True}, "attention_bias = True; JanusFlow needs False"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "scales its rotary positions"),
        ("llama", {"vocab_size": None}, "lacks vocab_size"),
        ("siglip", {"vision_config": {**VISION, "model_type": "clip_vision_model"}}, "needs a SigLIP"),
    ],
)
def test_models_of_another_kind_are_refused(llama, siglip, tmp_path, part, change, message):
    file = tmp_path / part / "config.json"
    config = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    with pytest.raises(UserError, match=message):
        from_parts(tmp_path / "llama", tmp_path / "siglip")


def test_an_empty_folder_is_refused(siglip, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no config\.json in .*empty"):
        from_parts(tmp_path / "empty", tmp_path / "siglip")
