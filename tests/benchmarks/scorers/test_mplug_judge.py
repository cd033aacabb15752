import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.benchmarks.dpg_rows import Item, Question
from jfeval.benchmarks.scorers.beam import BeamSettings
from jfeval.benchmarks.scorers.mplug import Mplug, MplugConfig
from jfeval.benchmarks.scorers.mplug_judge import MplugJudge, load_judge, load_weights
from jfeval.errors import UserError
from jfeval.schema import ImageRequest, Sample

CONFIG = MplugConfig(
    image_res=28,
    clip_vision_patch_size=14,
    clip_vision_width=64,
    clip_vision_layers=1,
    vocab_size=120,
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=32,
    type_vocab_size=2,
    layer_norm_eps=1e-12,
    text_encoder_layers=1,
    text_decode_layers=2,
    fusion_layers=3,
    stride_layer=2,
)
WORDS = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no", "is", "there", "a", "cat", "?"]
WORDS += [f"w{i}" for i in range(CONFIG.vocab_size - len(WORDS))]
QUESTIONS = ["Is there a cat?", "yes", "no no no", "is w1 w2?", "a " * 40]


def network():
    torch.manual_seed(3)
    model = Mplug(CONFIG)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path):
    """A folder in the published form, twins and unused halves included."""
    sizes = dataclasses.asdict(CONFIG)
    image = {name: sizes.pop(name) for name in list(sizes) if name.startswith(("clip", "image"))}
    (tmp_path / "config.yaml").write_text(
        "\n".join(f"{k}: {v}" for k, v in {**image, "beam_size": 3, "max_length": 6, "min_length": 1}.items())
    )
    (tmp_path / "config_bert.json").write_text(json.dumps(sizes))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    state = {f"model.{name}": tensor for name, tensor in network().state_dict().items()}
    state |= {"text_encoder_m.embeddings.word_embeddings.weight": torch.zeros(1), "visual_encoder.logit_scale": torch.zeros(())}
    torch.save({"model": state}, tmp_path / "pytorch_model.bin")
    return tmp_path


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def test_a_published_folder_answers_and_states_itself(checkpoint):
    judge = load_judge(checkpoint, device="cpu")
    assert judge.beam == BeamSettings(beams=3, least=1, most=6)
    asked = tuple(Question(row=i, number=i + 1, parents=(), category="c", text=text) for i, text in enumerate(QUESTIONS))
    item = Item(id="x", prompt="p", questions=asked)
    sample = Sample(id="x", task="", request=ImageRequest(prompt="p"), reference=item.reference())
    seen = judge.observe(sample, [picture(0), picture(1)])
    assert [len(one["answers"]) for one in seen] == [len(QUESTIONS)] * 2
    identity = judge.identity()
    assert len(identity["weights_sha256"]) == 64
    assert json.dumps(identity)


def test_questions_together_are_answered_as_alone(checkpoint):
    judge = load_judge(checkpoint, device="cpu")
    together = judge.answer(picture(), QUESTIONS)
    assert together == [judge.answer(picture(), [question])[0] for question in QUESTIONS]
    model = judge.model
    ids, mask = judge.tokenize(QUESTIONS)
    with torch.inference_mode():
        seen = model.encode_image(judge.pixels(picture()))

        def logits(rows):
            image, text = model.fuse(seen.expand(len(rows), -1, -1), model.encode_text(ids[rows], mask[rows]), mask[rows])
            return model.next_logits(torch.tensor([[[101, 104]]]).expand(len(rows), 1, -1), model.remember(image, text, mask[rows]))

        whole = logits(list(range(len(QUESTIONS))))
        alone = torch.cat([logits([row]) for row in range(len(QUESTIONS))])
    torch.testing.assert_close(whole, alone, atol=1e-4, rtol=1e-4)
    assert (whole[0] - whole[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-2


def test_questions_are_cut_to_25_tokens():
    judge = MplugJudge(network(), WORDS, BeamSettings())
    ids, mask = judge.tokenize(["Is there a cat?", "a " * 40])
    assert ids.shape == (2, 25)
    assert ids[0, :7].tolist() == [WORDS.index(word) for word in ("[CLS]", "is", "there", "a", "cat", "?", "[SEP]")]
    assert (int(mask[0].sum()), int(mask[1].sum()), int(ids[1, -1])) == (7, 25, WORDS.index("[SEP]"))


def test_pixels_are_squashed_and_normalised():
    judge = MplugJudge(network(), WORDS, BeamSettings())
    found = judge.pixels(Image.new("RGB", (90, 30), (255, 0, 0)))
    assert found.shape == (1, 3, 28, 28)
    assert float(found[0, 0].mean()) == pytest.approx((1 - 0.48145466) / 0.26862954, rel=1e-4)


def test_partial_and_foreign_checkpoints_are_refused():
    whole = network().state_dict()
    with pytest.raises(UserError, match=r"1 tensors of mPLUG are missing: visn_fc\.bias"):
        load_weights(network(), {name: tensor for name, tensor in whole.items() if name != "visn_fc.bias"})
    with pytest.raises(UserError, match=r"1 tensors of mPLUG are unknown: backbone\.weight"):
        load_weights(network(), {**whole, "backbone.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"1 tensors of mPLUG have another size: visn_fc\.bias"):
        load_weights(network(), {**whole, "visn_fc.bias": torch.zeros(2)})


def test_missing_and_broken_files_are_named(checkpoint):
    with pytest.raises(UserError, match="--set-benchmark judge=FOLDER"):
        load_judge(None)
    (checkpoint / "pytorch_model.bin").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"pytorch_model\.bin does not hold tensors alone"):
        load_judge(checkpoint)
    (checkpoint / "config.yaml").write_text("image_res: large")
    with pytest.raises(UserError, match="state no number for image_res, clip_vision_patch_size"):
        load_judge(checkpoint)
    (checkpoint / "config_bert.json").unlink()
    with pytest.raises(UserError, match=r"config_bert\.json is missing"):
        load_judge(checkpoint)
