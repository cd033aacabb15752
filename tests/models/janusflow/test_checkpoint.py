import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow, PromptBatch, causal_mask
from jfeval.models.janusflow.names import published_shapes, to_internal, to_published


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path, format="published")
    return tmp_path


def same(a, b):
    """Compare bit for bit: types, shapes and bytes."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def published_file(model, dtype):
    """Write down a published checkpoint's tensors, every one different, without this package's saving."""
    generator = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in published_shapes(model).items()}


def test_names_survive_the_round_trip_bit_for_bit(model):
    published = to_published(model.state_dict())
    back = to_published(dict(to_internal(published).items()))
    assert published.keys() == back.keys()
    assert all(torch.equal(published[name], back[name]) for name in published)
    assert to_internal(published).keys() == model.state_dict().keys()


def test_a_saved_model_loads_again(model, saved):
    loaded = JanusFlow.from_pretrained(saved)
    assert loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))


def test_pytorch_files_load_too(model, saved):
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert JanusFlow.from_pretrained(saved).config == model.config


def test_wrong_tensors_are_listed_by_name_and_shape(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["extra.weight"] = torch.zeros(2)
    tensors["vision_gen_enc_aligner.bias"] = torch.zeros(3)
    del tensors["vision_und_enc_model.vision_tower.blocks.1.attn.qkv.weight"]
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(UserError) as caught:
        JanusFlow.from_pretrained(saved)
    message = str(caught.value)
    assert "unexpected extra.weight [2]" in message
    assert "mis-shaped vision_gen_enc_aligner.bias: expected [32], found [3]" in message
    assert "missing    vision_und_enc_model.vision_tower.blocks.1.attn.qkv.weight [48, 16]" in message


def test_a_truncated_file_is_named(saved):
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        JanusFlow.from_pretrained(saved)


def test_a_folder_without_weights_or_configuration_says_so(saved, tmp_path_factory):
    (saved / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        JanusFlow.from_pretrained(saved)
    with pytest.raises(UserError, match=r"no config\.json"):
        JanusFlow.from_pretrained(tmp_path_factory.mktemp("empty"))


def test_configuration_survives_the_published_form(config):
    assert JanusFlowConfig.from_published(json.loads(json.dumps(config.to_published()))) == config
    assert JanusFlowConfig.from_published(JanusFlowConfig().to_published()) == JanusFlowConfig()
    patch4 = replace(config, flow=FlowConfig(width=16, patch=4, encoder_blocks=1))
    assert JanusFlowConfig.from_published(patch4.to_published()) == patch4


def test_contradicting_sections_are_refused(config):
    data = config.to_published()
    data["vision_gen_dec_config"]["params"]["hidden_size"] = 64
    with pytest.raises(UserError, match="decoder hidden_size are 32 and 64"):
        JanusFlowConfig.from_published(data)
    with pytest.raises(UserError, match="lacks vision_und_enc_config"):
        JanusFlowConfig.from_published({"language_config": {}, "vision_gen_enc_config": {}, "vision_gen_dec_config": {}})


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000])
def test_a_damaged_configuration_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json (cannot be read as JSON|holds no JSON object)"):
        JanusFlowConfig.from_file(tmp_path)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("language_config", {"hidden_size": "64"}, "language hidden_size must be a whole number of at least 1, not '64'"),
        ("language_config", {"hidden_size": None}, "language hidden_size must be a whole number of at least 1, not None"),
        ("language_config", {"hidden_size": 32.0}, "language hidden_size must be a whole number of at least 1, not 32.0"),
        ("language_config", {"num_hidden_layers": 0}, "language num_hidden_layers must be a whole number of at least 1, not 0"),
        ("language_config", {"vocab_size": True}, "language vocab_size must be a whole number of at least 1, not True"),
        ("language_config", {"rms_norm_eps": float("nan")}, "language rms_norm_eps must be a finite number above 0, not nan"),
        ("language_config", {"rope_theta": "1e4"}, "language rope_theta must be a finite number above 0"),
        ("language_config", {"tie_word_embeddings": "no"}, "language tie_word_embeddings must be true or false, not 'no'"),
        ("language_config", {"num_attention_heads": 2, "num_key_value_heads": 4}, "2 is no multiple of num_key_value_heads 4"),
        ("language_config", {"head_dim": 8}, "the language model has head_dim = 8; JanusFlow needs 16"),
        ("language_config", {"attention_bias": True}, "attention_bias = True"),
        ("language_config", {"mlp_bias": True}, "mlp_bias = True"),
        ("language_config", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "scales its rotary positions (rope_scaling = {"),
        ("language_config", {"rope_parameters": {"rope_type": "yarn"}}, "scales its rotary positions (rope_parameters = {"),
        ("language_config", {"rope_scaling": "linear"}, "scales its rotary positions (rope_scaling = linear)"),
        ("vision_und_enc_config", {"image_size": [16]}, "vision image_size must be a whole number of at least 1, not [16]"),
        ("vision_und_enc_config", {"select_layer": "last"}, "vision select_layer must be a whole number, not 'last'"),
        ("vision_und_enc_config", {"select_feature": "patch"}, "select_feature = 'patch'; JanusFlow needs same"),
        ("vision_gen_enc_config", {"stride": "two"}, "vision_gen_enc_config stride must be a whole number of at least 1, not 'two'"),
        (
            "vision_gen_enc_config",
            {"block_out_channels": []},
            "vision_gen_enc_config block_out_channels must be a list of one width, not []",
        ),
        ("vision_gen_dec_config", {"block_out_channels": ["x"]}, "vision_gen_dec_config block_out_channels must be a whole number"),
        ("vision_gen_enc_config", {"block_out_channels": [16, 32]}, "must be a list of one width, not [16, 32]"),
        ("vision_gen_enc_config", {"padding": 1}, "vision_gen_enc_config has padding = 1; JanusFlow needs 0"),
        ("vision_gen_dec_config", {"use_mid_block": False}, "vision_gen_dec_config has use_mid_block = False"),
        ("vision_gen_dec_config", {"elementwise_affine": False}, "vision_gen_dec_config has elementwise_affine = False"),
        ("vision_gen_dec_config", {"norm_eps": 1e-5}, "norm_eps are 1e-06 and 1e-05"),
        ("vision_gen_dec_config", {"upsamples": -1}, "vision_gen_dec_config upsamples must be a whole number of at least 0, not -1"),
        ("vision_gen_dec_config", [], "vision_gen_dec_config params must be an object, not []"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(config, tmp_path, section, change, message):
    data = config.to_published()
    if section == "language_config":
        data[section].update(change)
    elif isinstance(change, list):
        data[section]["params"] = change
    else:
        data[section]["params"].update(change)
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(UserError) as caught:
        JanusFlowConfig.from_file(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")
    assert message in str(caught.value)


def test_settings_that_say_nothing_else_are_taken(config):
    data = config.to_published()
    data["language_config"].update(head_dim=16, rope_scaling=None, rope_parameters={"rope_type": "default"}, attention_bias=None)
    del data["language_config"]["num_key_value_heads"]  # as many as heads, as transformers reads it
    data["vision_gen_enc_config"]["params"]["padding"] = None
    assert JanusFlowConfig.from_published(data) == config


def test_an_unknown_activation_is_refused(config):
    with pytest.raises(UserError, match=r"unknown hidden_act 'sliu'; did you mean 'silu'\?"):
        JanusFlow(replace(config, language=replace(config.language, hidden_act="sliu")))


@pytest.mark.parametrize(("select", "depth"), [(-1, 4), (2, 2), (-2, 3), (9, 4)])
def test_select_layer(select, depth):
    assert VisionConfig(layers=4, select_layer=select).depth == depth


def test_an_unknown_tower_without_sizes_is_refused():
    with pytest.raises(UserError, match="did you mean 'siglip_large_patch16_384'"):
        VisionConfig.from_published({"model_name": "siglip_large_patch16_38"})


def test_published_shapes_need_no_weights(config, model):
    with torch.device("meta"):
        empty = JanusFlow(config)
    assert published_shapes(empty) == published_shapes(model)


def test_shards_hold_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path, shard_bytes=20_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    loaded = JanusFlow.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in to_published(model.state_dict()).values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_every_published_tensor_comes_back_bit_for_bit(model, config, tmp_path, dtype):
    tensors = published_file(model, dtype)
    pool = {name for name in tensors if ".attn_pool." in name}
    assert {name.rsplit("attn_pool.", 1)[1] for name in pool} >= {"latent", "q.weight", "kv.bias", "mlp.fc1.weight"}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config.to_published()))
    JanusFlow.from_pretrained(tmp_path).save_pretrained(tmp_path / "out", format="published")
    back = load_file(tmp_path / "out" / "model.safetensors")
    assert back.keys() == tensors.keys()
    assert all(same(back[name], tensor) for name, tensor in tensors.items())


def test_types_are_kept_or_converted_as_asked(model, tmp_path):
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in JanusFlow.from_pretrained(tmp_path).parameters()} == {torch.bfloat16}
    loaded = JanusFlow.from_pretrained(tmp_path, dtype=torch.float32)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.language_model.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_loaded_model_computes_what_the_saved_one_did(model, saved):
    loaded = JanusFlow.from_pretrained(saved)
    pixels, ids = torch.randn(2, 3, 16, 16), torch.arange(12).view(2, 6)
    valid = torch.ones(2, 6, dtype=torch.bool)
    positions = torch.arange(6).expand(2, 6)
    with torch.no_grad():
        for compute in (
            lambda m: m.embed_images(pixels),
            lambda m: m.backbone(m.embed(ids), positions, causal_mask(valid, 6))[0],
            lambda m: m.velocity(torch.ones(1, 4, 8, 8), torch.tensor([0.3]), PromptBatch.from_lists([[1, 2]], pad_id=0))[0],
        ):
            assert torch.equal(compute(model), compute(loaded))


def test_a_loaded_model_is_independent_of_its_files(saved):
    loaded = JanusFlow.from_pretrained(saved)
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    file = saved / "model.safetensors"
    with file.open("r+b") as handle:
        handle.seek(-5000, 2)
        handle.write(b"\xff" * 5000)
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())
    storages = [p.untyped_storage().data_ptr() for p in loaded.parameters()]
    assert len(set(storages)) == len(storages)


def test_portions_of_any_size_load_the_same(model, saved, monkeypatch):
    monkeypatch.setattr("jfeval.models.janusflow.checkpoint._AT_ONCE", 1)
    loaded = JanusFlow.from_pretrained(saved)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_in_several_parts_and_of_both_kinds_load(model, saved, zipped):
    tensors = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    names = list(tensors)
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({name: tensors[name] for name in part}, saved / file, _use_new_zipfile_serialization=zipped)
    places = {name: file for file, part in parts.items() for name in part}
    (saved / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    loaded = JanusFlow.from_pretrained(saved)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))


class Evil:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


def test_code_in_a_pytorch_file_does_not_run(saved, capsys):
    (saved / "model.safetensors").unlink()
    torch.save({"beg_of_und_embed": Evil()}, saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin cannot be read as weights"):
        JanusFlow.from_pretrained(saved)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "model-00001-of-00002.safetensors"}}, r"lacks model-00001-of-00002\.safetensors of the 1 files"),
        ({"weight_map": {"a": "../model.safetensors"}}, r"no file of its own folder"),
        ({"weights": {}}, "no index of weights"),
        ([], "no index of weights"),
    ],
)
def test_damaged_indices_are_refused(saved, index, message):
    (saved / "model.safetensors").rename(saved.parent / "model.safetensors")
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        JanusFlow.from_pretrained(saved)


def test_a_tensor_in_two_files_is_refused(saved):
    (saved / "model.safetensors").rename(saved / "model-00001-of-00002.safetensors")
    save_file({"beg_of_und_embed": torch.zeros(1, 32)}, saved / "model-00002-of-00002.safetensors")
    with pytest.raises(UserError, match="beg_of_und_embed is stored twice, in model-00001"):
        JanusFlow.from_pretrained(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(saved, value):
    tensors = load_file(saved / "model.safetensors")
    tensors["vision_gen_enc_aligner.weight"][3, 4] = value
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(UserError, match=r"hold NaN or infinity.*\n  vision_gen_enc_aligner\.weight$"):
        JanusFlow.from_pretrained(saved)


def test_whole_numbers_are_no_weights(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["vision_gen_enc_aligner.weight"] = tensors["vision_gen_enc_aligner.weight"].to(torch.int8)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(UserError, match=r"mis-typed  vision_gen_enc_aligner\.weight: expected floating point, found torch\.int8"):
        JanusFlow.from_pretrained(saved)


def test_saving_again_leaves_no_file_of_the_earlier_save(model, tmp_path):
    for shard_bytes, files in ((20_000, None), (0, ["model.safetensors"]), (50_000, None)):
        model.save_pretrained(tmp_path, shard_bytes=shard_bytes)
        found = sorted(file.name for file in tmp_path.glob("model*"))
        if files is not None:
            assert found == files
        JanusFlow.from_pretrained(tmp_path)
    assert "model.safetensors" not in found
    assert not list(tmp_path.glob("*.part"))


def test_a_tied_output_layer_is_stored_once_and_tied_again(config, tmp_path):
    tied = JanusFlow(replace(config, language=replace(config.language, tie_word_embeddings=True)))
    tied.save_pretrained(tmp_path)
    assert "language_model.lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    loaded = JanusFlow.from_pretrained(tmp_path)
    assert loaded.language_model.lm_head.weight is loaded.language_model.model.embed_tokens.weight
    hidden = torch.randn(2, 32)
    assert torch.equal(loaded.logits(hidden), tied.logits(hidden))


def test_only_the_published_form_is_written(model, tmp_path):
    with pytest.raises(UserError, match="did you mean 'published'"):
        model.save_pretrained(tmp_path, format="publish")


def test_rotary_frequencies_stay_exact_in_bfloat16(config):
    exact = JanusFlow(config).language_model.model.rotary_emb.inv_freq.clone()
    half = JanusFlow(config).to(torch.bfloat16)
    assert torch.equal(half.language_model.model.rotary_emb.inv_freq, exact)
    assert half.language_model.lm_head.weight.dtype == torch.bfloat16
    assert not torch.equal(exact.to(torch.bfloat16).float(), exact)
