import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from jfeval.errors import UserError
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.shapes import WEIGHTS

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def change(vae, **settings):
    """Change settings of its config.json."""
    config = {**json.loads((vae / "config.json").read_text()), **settings}
    (vae / "config.json").write_text(json.dumps(config))


def same(vae, tensors):
    """Compare a loaded VAE's tensors with a file's."""
    loaded = vae.state_dict()
    return loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_vae_comes_in_the_asked_type_and_without_words(dtype, caplog):
    vae = load_vae(WEIGHTS / VAE_FOLDER, dtype)
    assert {parameter.dtype for parameter in vae.parameters()} == {dtype}
    assert not vae.training
    assert caplog.records == []


def test_a_missing_vae_says_what_to_name(tmp_path):
    with pytest.raises(UserError, match=r"no VAE in .*: name its folder with vae="):
        load_vae(tmp_path)


def test_every_tensor_is_the_files_and_config_json_says_the_rest(vae):
    loaded = load_vae(vae)
    assert same(loaded, load_file(vae / WEIGHTS_FILE))
    assert loaded.config["scaling_factor"] == json.loads((vae / "config.json").read_text())["scaling_factor"]
    with torch.no_grad():
        assert loaded.decode(torch.zeros(1, 4, 8, 8)).sample.shape == (1, 3, 16, 16)


def test_a_loaded_vae_saves_and_loads_again_and_names_no_folder(vae, tmp_path):
    loaded = load_vae(vae, torch.bfloat16)
    loaded.save_pretrained(tmp_path / "again")
    assert same(loaded, load_file(tmp_path / "again" / WEIGHTS_FILE))
    assert same(load_vae(tmp_path / "again", torch.bfloat16), loaded.state_dict())
    assert str(tmp_path) not in (tmp_path / "again" / "config.json").read_text()


def test_early_names_of_attention_load(vae):
    tensors = load_file(vae / WEIGHTS_FILE)
    pattern = re.compile(f"({'|'.join(map(re.escape, OLD_NAMES))})(?=[.](weight|bias)$)")
    old = {pattern.sub(lambda found: OLD_NAMES[found[1]], name): tensor for name, tensor in tensors.items()}
    assert sum(name not in tensors for name in old) == 2 * 2 * len(OLD_NAMES)
    save_file(old, vae / WEIGHTS_FILE)
    assert same(load_vae(vae), tensors)


@pytest.mark.parametrize("form", ["bin", "shards"])
def test_other_forms_of_the_weights_load(vae, form):
    tensors = load_file(vae / WEIGHTS_FILE)
    (vae / WEIGHTS_FILE).unlink()
    if form == "bin":
        torch.save(tensors, vae / "diffusion_pytorch_model.bin")
    else:
        places = {name: f"diffusion_pytorch_model-0000{index % 2 + 1}-of-00002.safetensors" for index, name in enumerate(tensors)}
        for file in set(places.values()):
            save_file({name: tensor for name, tensor in tensors.items() if places[name] == file}, vae / file)
        (vae / f"{WEIGHTS_FILE}.index.json").write_text(json.dumps({"weight_map": places}))
    assert same(load_vae(vae), tensors)


def test_wrong_tensors_are_listed_by_name_and_shape(vae):
    tensors = load_file(vae / WEIGHTS_FILE)
    tensors["extra.weight"] = torch.zeros(2)
    tensors["post_quant_conv.bias"] = torch.zeros(3)
    del tensors["decoder.conv_in.weight"]
    save_file(tensors, vae / WEIGHTS_FILE)
    with pytest.raises(UserError) as caught:
        load_vae(vae)
    message = str(caught.value)
    assert f"the weights in {vae} do not fit its config.json (3 of {len(tensors)} tensors)" in message
    assert "unexpected extra.weight [2]" in message
    assert "mis-shaped post_quant_conv.bias: expected [4], found [3]" in message
    assert "missing    decoder.conv_in.weight [8, 4, 3, 3]" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(vae, value):
    tensors = load_file(vae / WEIGHTS_FILE)
    tensors["quant_conv.weight"][1, 2] = value
    save_file(tensors, vae / WEIGHTS_FILE)
    with pytest.raises(UserError, match=r"hold NaN or infinity.*\n  quant_conv\.weight$"):
        load_vae(vae)


@pytest.mark.parametrize("length", [0, 7, 1000])
def test_a_truncated_file_is_named(vae, length):
    file = vae / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UserError, match=r"diffusion_pytorch_model\.safetensors cannot be read as weights.*; fetch it again"):
        load_vae(vae)


def test_a_folder_without_weights_says_which(vae):
    (vae / WEIGHTS_FILE).unlink()
    with pytest.raises(UserError, match=r"no weights in .*: expected diffusion_pytorch_model\.safetensors"):
        load_vae(vae)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00"])
def test_a_damaged_configuration_is_named(vae, text):
    (vae / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"vae/config\.json (cannot be read as JSON|holds no JSON object)"):
        load_vae(vae)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_class_name": "VQModel"}, "the VAE has _class_name = 'VQModel'; JanusFlow needs AutoencoderKL"),
        ({"in_channels": 4}, "in_channels = 4"),
        ({"shift_factor": 0.1}, "shift_factor = 0.1"),
        ({"latents_mean": [0.0, 0.0, 0.0, 1.0]}, "latents_mean"),
        ({"block_out_channels": []}, "block_out_channels must be a list that is not empty"),
        ({"block_out_channels": [8, "8"]}, "block_out_channels must be a whole number of at least 1, not '8'"),
        ({"norm_num_groups": 0}, "norm_num_groups must be a whole number of at least 1, not 0"),
        ({"norm_num_groups": 3}, "diffusers can build no AutoencoderKL from it"),
        ({"down_block_types": ["DownEncoderBlock2D", "Other"]}, "diffusers can build no AutoencoderKL from it"),
        ({"scaling_factor": "0.13"}, "scaling_factor must be a finite number above 0, not '0.13'"),
        ({"scaling_factor": float("nan")}, "scaling_factor must be a finite number above 0, not nan"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(vae, settings, message):
    change(vae, **settings)
    with pytest.raises(UserError) as caught:
        load_vae(vae)
    assert str(caught.value).startswith(f"{vae / 'config.json'}: ")
    assert message in str(caught.value)


def test_a_vae_of_other_latents_than_the_models_is_refused(model, tokenizer, vae, tmp_path):
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert JanusFlowPipeline.from_pretrained(tmp_path / "model", vae=vae).latent_shape == (4, 8, 8)
    change(vae, latent_channels=16)
    with pytest.raises(UserError, match="has 16 latent channels, but the model draws 4; name the VAE"):
        JanusFlowPipeline.from_pretrained(tmp_path / "model", vae=vae)
    reduced = {"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]}
    change(vae, latent_channels=4, **reduced)
    with pytest.raises(UserError, match=r"makes 1 pixels of each latent one, so the model's 8 x 8 latents .* 8 x 8 pixels, not 16 x 16"):
        JanusFlowPipeline.from_pretrained(tmp_path / "model", vae=vae)
