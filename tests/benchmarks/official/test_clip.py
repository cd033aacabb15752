import json

import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.scorers.clip import ClipEncoder, OpenClip, TransformersClip, load_clip
from jfeval.benchmarks.scorers.clip_folder import pixels
from jfeval.benchmarks.scorers.colour import colour_prompts
from jfeval.errors import UserError

TEXTS = [*colour_prompts("cell phone")[:4], "Naïve café & co.: it's 3 o'clock!", "long " * 90]


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_features_tell_pictures_and_texts_apart(tmp_path, write_clip, caplog):
    clip: ClipEncoder = load_clip(write_clip(tmp_path / "c"))
    assert "not ViT-L/14" in caplog.text
    identity = clip.identity()
    assert (identity["activation"], identity["network"], len(str(identity["weights_sha256"]))) == ("quick_gelu", "transformers", 64)
    assert json.dumps(identity)
    texts, images = clip.texts(TEXTS), clip.images([picture(30, 70), picture(70, 30), picture(5, 300)])
    assert (texts.shape, images.shape, texts.dtype) == ((6, 16), (3, 16), np.float32)
    assert np.abs(texts[0] - texts[1]).max() > 1e-3
    assert np.abs(images[0] - images[1]).max() > 1e-3
    many = clip.images([picture(20, 20, seed) for seed in range(20)])
    assert np.abs(many[17] - clip.images([picture(20, 20, 17)])[0]).max() < 1e-5


def test_foreign_and_partial_weights_are_refused(tmp_path, write_clip):
    from safetensors.torch import load_file, save_file

    with pytest.raises(UserError, match=r"hidden_act is gelu; .* activation is quick_gelu"):
        load_clip(write_clip(tmp_path / "g", act="gelu"))
    folder = write_clip(tmp_path / "c")
    state = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in state.items() if "layers.1.mlp.fc2.bias" not in name}, folder / "model.safetensors")
    with pytest.raises(UserError, match="is not whole: 2 tensors are missing"):
        load_clip(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors or pytorch_model\.bin"):
        load_clip(folder)
    with pytest.raises(UserError, match="unknown backend of CLIP 'openclip'; did you mean 'open_clip'"):
        load_clip(folder, backend="openclip")


def test_pictures_are_resized_by_the_short_side_and_cut_in_the_middle():
    wide = Image.new("RGB", (400, 100), (0, 0, 0))
    wide.paste((255, 255, 255), (150, 0, 250, 100))
    made = pixels(wide, 56)
    assert made.shape == (3, 56, 56)
    white = (1 - 0.48145466) / 0.26862954
    assert made[0, :, 3:-3].min() == pytest.approx(white, rel=1e-3)
    assert pixels(Image.new("RGB", (56, 56)), 56)[2, 0, 0] == pytest.approx(-0.40821073 / 0.27577711)


def test_open_clip_gives_the_same_features_of_the_same_weights(tmp_path, write_clip):
    open_clip = pytest.importorskip("open_clip")
    words = open_clip.SimpleTokenizer()
    vocab = {
        word.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): i for word, i in words.encoder.items()
    }
    folder = write_clip(tmp_path / "c", vocab=vocab, merges=words.bpe_ranks)
    ours, theirs = TransformersClip(folder), OpenClip(folder)
    assert theirs.model.visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"
    first, second = ours.texts(TEXTS), theirs.texts(TEXTS)
    assert np.abs(first - second).max() < 1e-4
    pictures = [picture(30, 70), picture(71, 30, 1), picture(5, 300, 2), picture(56, 56, 3), Image.new("RGB", (1, 9), (200, 10, 10))]
    one, other = ours.images(pictures), theirs.images(pictures)
    assert np.abs(one - other).max() < 1e-4
    assert min(np.abs(first).max(), np.abs(one).max()) > 0.1
