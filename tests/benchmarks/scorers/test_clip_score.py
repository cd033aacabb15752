"""The CLIP score with a tiny CLIP of random weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.benchmarks.scorers.clip_score import ClipScore
from jfeval.errors import UserError

WORDS = ["a</w>", "photo</w>", "depicts</w>", "red</w>", "cat</w>", "dog</w>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP in transformers' form that knows six words and twelve places."""
    from transformers import CLIPConfig, CLIPModel

    path = tmp_path_factory.mktemp("clip")
    letters = sorted({c for word in WORDS for c in word.removesuffix("</w>")})
    merges, known = [], []
    for word in WORDS:
        parts = [*word.removesuffix("</w>")[:-1], word.removesuffix("</w>")[-1] + "</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            known.append(parts[0])
    tokens = dict.fromkeys([*letters, *(f"{c}</w>" for c in letters), *known, "<|startoftext|>", "<|endoftext|>"])
    vocab = {token: i for i, token in enumerate(tokens)}
    (path / "vocab.json").write_text(json.dumps(vocab))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(dict.fromkeys(merges)) + "\n")
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(vocab), "max_position_embeddings": 12, "bos_token_id": start, "eos_token_id": end}
    vision = {**small, "image_size": 16, "patch_size": 4}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(path)
    return path


def picture(seed, size=(20, 30)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_a_score_is_a_hundred_times_the_cosine(folder):
    from transformers import CLIPModel

    clip = ClipScore(folder)
    images, prompts = [picture(0), picture(1)], ["a red cat", "dog"]
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        out = model(input_ids=clip.tokens(prompts), pixel_values=torch.from_numpy(np.stack([clip.pixels(i) for i in images])))
    cosines = (out.image_embeds * out.text_embeds).sum(-1)
    np.testing.assert_allclose(clip.scores(images, prompts), 100 * cosines.numpy(), rtol=1e-4)
    assert clip.scores(images[:1], prompts[:1]) == pytest.approx(clip.scores(images, prompts)[:1], rel=1e-4)


def test_the_prefix_goes_in_as_tokens_and_the_end_token_is_kept(folder):
    plain, prefixed = ClipScore(folder), ClipScore(folder, "gigagan")
    row, long = plain.tokens(["red cat", "dog " * 40]).tolist()
    start, end = row[0], row[3]
    assert row == [start, row[1], row[2], *[end] * 9]
    assert long == [start, *[long[1]] * 10, end]
    with_prefix = prefixed.tokens(["red cat"]).tolist()[0]
    assert with_prefix[:1] + with_prefix[4:6] == row[:3]
    assert with_prefix[6] == end
    assert prefixed.tokens(["dog " * 40]).tolist()[0] == [*with_prefix[:4], *[long[1]] * 7, end]


def test_pictures_are_cut_to_the_network_s_square(folder):
    clip = ClipScore(folder)
    assert clip.pixels(picture(0)).shape == (3, 16, 16)
    small = np.asarray(picture(0).resize((24, 16), Image.Resampling.BICUBIC), dtype=np.float32)[:, 4:20] / 255
    expected = (small[..., 0] - 0.48145466) / 0.26862954
    np.testing.assert_allclose(clip.pixels(picture(0))[0], expected, atol=1e-5)
    other = ClipScore(folder, "gigagan").pixels(picture(0))
    assert other.shape == (3, 16, 16)
    assert np.abs(other - clip.pixels(picture(0))).max() > 0.01


def test_prefix_resizing_and_backbone_are_named(folder):
    identity = ClipScore(folder, "gigagan").identity()
    assert identity["prefix"] == "A photo depicts "
    assert identity["resize"] == "Lanczos to 256, bicubic to 16"
    assert identity["backbone"] == "width 16, 2 layers, patch 4"
    assert identity["activation"] == "quick_gelu"
    assert len(identity["weights_sha256"]) == 64


def test_what_is_no_whole_clip_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"holds no CLIP.*about 1\.7 GB.*jfeval data fetch clip-vit-large-patch14"):
        ClipScore(tmp_path)
    with pytest.raises(UserError, match="unknown form of the CLIP score 'plane'; did you mean 'plain'"):
        ClipScore(folder, "plane")
    from safetensors.torch import load_file, save_file

    part = tmp_path / "part"
    part.mkdir()
    for path in folder.iterdir():
        (part / path.name).write_bytes(path.read_bytes())
    tensors = load_file(part / "model.safetensors")
    tensors.pop("text_projection.weight")
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"is not whole: .* text_projection\.weight"):
        ClipScore(part)
