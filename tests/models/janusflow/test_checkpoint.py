import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.names import published_shapes, to_internal, to_published
from jfeval.models.training.stages import save_model


@pytest.fixture
def saved(model, tmp_path):
    save_model(model, tmp_path)
    return tmp_path


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
    save_model(model, tmp_path, shard_bytes=20_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    loaded = JanusFlow.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
