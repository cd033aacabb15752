import json

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.benchmarks.scorers.detector import Detector
from jfeval.benchmarks.scorers.mask2former import convert, full_size, load_detector, padded, pixels
from jfeval.benchmarks.scorers.mask2former_names import to_mmdet3
from jfeval.benchmarks.scorers.pickles import Checkpoint
from jfeval.errors import UserError


def picture(height=48, width=64, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def logits(state, given):
    model, _ = convert(Checkpoint(state=state, meta={}, sha256=""), where="test")
    with torch.inference_mode():
        seen = model.eval()(pixel_values=given)
    return seen.class_queries_logits, seen.masks_queries_logits


@pytest.fixture
def given():
    return torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))


def test_both_generations_give_the_same_network(tiny_mask2former, given):
    new, old = tiny_mask2former(generation=3), tiny_mask2former(generation=2)
    assert set(new) != set(old)
    assert to_mmdet3(old)[1] == 2
    assert set(to_mmdet3(old)[0]) == set(new)
    for one, other in zip(logits(new, given), logits(old, given), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(logits(tiny_mask2former(seed=1), given)[0], logits(new, given)[0])


def test_every_tensor_has_a_part_in_the_output(tiny_mask2former, given):
    model, _ = convert(Checkpoint(state=tiny_mask2former(), meta={}, sha256=""), where="test")
    seen = model.eval()(pixel_values=given)
    (seen.class_queries_logits.square().sum() + seen.masks_queries_logits.square().sum()).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert all(".swin.layernorm." in name for name in idle), idle


def test_partial_and_foreign_checkpoints_are_refused(tiny_mask2former):
    state = tiny_mask2former()

    def load(changed, meta=None):
        convert(Checkpoint(state=changed, meta=meta or {}, sha256=""), where="x.pth")

    without = {name: tensor for name, tensor in state.items() if "layers.1.norms.2.bias" not in name}
    with pytest.raises(UserError, match=r"x\.pth: 1 tensors of Mask2Former are missing: .*layers\.1\.final_layer_norm\.bias"):
        load(without)
    with pytest.raises(UserError, match=r"1 tensors of the checkpoint have no place.*: backbone\.layer1\.0\.conv1\.weight"):
        load({**state, "backbone.layer1.0.conv1.weight": torch.zeros(1)})
    wrong = {**state, "panoptic_head.mask_embed.2.weight": torch.zeros(32, 31)}
    with pytest.raises(UserError, match=r"1 tensors of Mask2Former have another size: .*mask_embedder\.1\.0\.weight"):
        load(wrong)
    with pytest.raises(UserError, match=r"stages\.2\.blocks\.0.*relative_position_bias_table is missing: another backbone"):
        load({name: tensor for name, tensor in state.items() if not name.startswith("backbone.stages.2.")})


def test_the_wrong_model_is_named_with_its_signs(tiny_mask2former):
    def load(changed, meta=None):
        convert(Checkpoint(state=changed, meta=meta or {}, sha256=""), where="x.pth")

    with pytest.raises(UserError, match=r"panoptic model \(its class head tells 133 classes; its metadata lists 133: 80 things"):
        load(tiny_mask2former(classes=133), {"CLASSES": ["thing"] * 133})
    with pytest.raises(UserError, match=r"no model of COCO's 80 things: its class head tells 20 classes; its metadata lists 20"):
        load(tiny_mask2former(classes=20), {"dataset_meta": {"classes": ("thing",) * 20}})
    mixed = {**tiny_mask2former(generation=2), **dict(list(tiny_mask2former(generation=3).items())[-40:])}
    with pytest.raises(UserError, match=r"named as in mmdetection 2\.x \(attentions\.0\) and .* as in 3\.x \(self_attn\)"):
        load(mixed)
    with pytest.raises(UserError, match=r"no tensor is named as in mmdetection's Mask2Former"):
        load({"layer.weight": torch.zeros(1)})


def test_a_checkpoint_file_detects_and_states_itself(tmp_path, tiny_mask2former, caplog, small_inputs):
    torch.save({"meta": {"CLASSES": ("a",) * 80}, "state_dict": tiny_mask2former(generation=2)}, tmp_path / "d.pth")
    detector: Detector = load_detector(tmp_path / "d.pth", batch_size=2)
    assert "not one of the two published files" in caplog.text
    identity = detector.identity()
    assert (identity["generation"], identity["published"]) == ("mmdetection 2.x", "")
    assert json.dumps(identity)
    pictures = [picture(), picture(40, 40, 1), picture(seed=2), picture(seed=3)]
    together = detector.detect(pictures)
    for one, alone in zip(together, [detector.detect([image])[0] for image in pictures], strict=True):
        assert one.scores.shape == (100,)
        assert np.abs(one.scores - alone.scores).max() < 1e-5
        assert (one.boxes == alone.boxes).mean() > 0.98
    assert [one.masks.shape[1:] for one in together] == [(48, 64), (40, 40), (48, 64), (48, 64)]


def test_transformers_own_form_is_a_labelled_fallback(tmp_path, tiny_mask2former, caplog, small_inputs):
    model, _ = convert(Checkpoint(state=tiny_mask2former(), meta={}, sha256=""), where="x")
    model.save_pretrained(tmp_path / "f")
    torch.save(tiny_mask2former(), tmp_path / "d.pth")
    fallback, own = load_detector(tmp_path / "f"), load_detector(tmp_path / "d.pth")
    assert "labelled as a fallback's" in caplog.text
    assert str(fallback.identity()["fallback"]).startswith("not GenEval's weights")
    (one,), (other,) = fallback.detect([picture()]), own.detect([picture()])
    assert np.array_equal(one.scores, other.scores)
    with pytest.raises(UserError, match=r"config\.json and model\.safetensors are needed"):
        load_detector(tmp_path)


def test_pixels_are_resized_normalised_and_padded():
    red = Image.new("RGB", (100, 30), (255, 0, 10))
    made = pixels(red)
    assert made.shape == (3, 400, 1333)
    expected = [(255 - 123.675) / 58.395, -116.28 / 57.12, (10 - 103.53) / 57.375]
    assert made.mean(dim=(1, 2)).tolist() == pytest.approx(expected, rel=1e-4)
    with_edge = padded(made)
    assert with_edge.shape == (3, 416, 1344)
    assert torch.equal(with_edge[:, :400, :1333], made)
    assert float(with_edge[:, 400:].abs().max()) == float(with_edge[:, :, 1333:].abs().max()) == 0


def test_masks_come_back_to_the_pictures_size_without_the_padding():
    # the padded input is 64x32, of which the lower 24 rows are padding
    masks = torch.full((1, 16, 8), -5.0)
    masks[:, :10] = 5.0
    large = full_size(masks, (40, 32), (20, 16))
    assert large.shape == (1, 20, 16)
    assert (large > 0).all()
    assert (full_size(masks, (64, 32), (32, 16)) > 0).any(dim=2)[0].tolist() == [True] * 20 + [False] * 12
