"""Judges of the real form at a size that a test can carry: every tensor named as published, all values random."""

from functools import partial

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from jfeval.benchmarks.scorers import mask2former
from jfeval.benchmarks.scorers.resizing import size_within

WIDTH, DEPTHS, HEADS, WINDOW, HIDDEN = 8, (1, 1, 2, 1), (1, 2, 4, 8), 3, 32


def _linear(name, rows, columns):
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name, rows, columns, side):
    return {f"{name}.conv.weight": (rows, columns, side, side), f"{name}.conv.bias": (rows,), **_norm(f"{name}.gn", rows)}


def _feed_forward(name, width, inner):
    return {**_linear(f"{name}.layers.0.0", inner, width), **_linear(f"{name}.layers.1", width, inner)}


def _backbone():
    shapes = {"backbone.patch_embed.projection.weight": (WIDTH, 3, 4, 4), "backbone.patch_embed.projection.bias": (WIDTH,)}
    shapes |= _norm("backbone.patch_embed.norm", WIDTH)
    for stage, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
        width = WIDTH * 2**stage
        for block in range(depth):
            name = f"backbone.stages.{stage}.blocks.{block}"
            shapes |= {**_norm(f"{name}.norm1", width), **_norm(f"{name}.norm2", width), **_feed_forward(f"{name}.ffn", width, 2 * width)}
            shapes |= {**_linear(f"{name}.attn.w_msa.qkv", 3 * width, width), **_linear(f"{name}.attn.w_msa.proj", width, width)}
            shapes[f"{name}.attn.w_msa.relative_position_bias_table"] = ((2 * WINDOW - 1) ** 2, heads)
            shapes[f"{name}.attn.w_msa.relative_position_index"] = (WINDOW**2, WINDOW**2)
        if stage < 3:
            shapes |= _norm(f"backbone.stages.{stage}.downsample.norm", 4 * width)
            shapes[f"backbone.stages.{stage}.downsample.reduction.weight"] = (2 * width, 4 * width)
        shapes |= _norm(f"backbone.norm{stage}", width)
    return shapes


def _head(classes, queries):
    shapes = {f"{name}.weight": (queries, HIDDEN) for name in ("query_embed", "query_feat")}
    shapes |= {"level_embed.weight": (3, HIDDEN), "pixel_decoder.level_encoding.weight": (3, HIDDEN)}
    shapes |= {**_linear("cls_embed", classes + 1, HIDDEN), **_norm("transformer_decoder.post_norm", HIDDEN)}
    for level in range(3):
        shapes |= _conv(f"pixel_decoder.input_convs.{level}", HIDDEN, WIDTH * 2 ** (3 - level), 1)
    shapes |= {**_conv("pixel_decoder.lateral_convs.0", HIDDEN, WIDTH, 1), **_conv("pixel_decoder.output_convs.0", HIDDEN, HIDDEN, 3)}
    del shapes["pixel_decoder.lateral_convs.0.conv.bias"], shapes["pixel_decoder.output_convs.0.conv.bias"]
    shapes |= {"pixel_decoder.mask_feature.weight": (HIDDEN, HIDDEN, 1, 1), "pixel_decoder.mask_feature.bias": (HIDDEN,)}
    points = 8 * 3 * 4  # heads, levels, points
    for name, rows in (("sampling_offsets", 2 * points), ("attention_weights", points), ("value_proj", HIDDEN), ("output_proj", HIDDEN)):
        shapes |= _linear(f"pixel_decoder.encoder.layers.0.self_attn.{name}", rows, HIDDEN)
    shapes |= _feed_forward("pixel_decoder.encoder.layers.0.ffn", HIDDEN, 48)
    shapes |= {**_norm("pixel_decoder.encoder.layers.0.norms.0", HIDDEN), **_norm("pixel_decoder.encoder.layers.0.norms.1", HIDDEN)}
    for layer in range(3):
        name = f"transformer_decoder.layers.{layer}"
        for kind in ("self_attn", "cross_attn"):
            shapes |= {f"{name}.{kind}.attn.in_proj_weight": (3 * HIDDEN, HIDDEN), f"{name}.{kind}.attn.in_proj_bias": (3 * HIDDEN,)}
            shapes |= _linear(f"{name}.{kind}.attn.out_proj", HIDDEN, HIDDEN)
        shapes |= _feed_forward(f"{name}.ffn", HIDDEN, 64)
        shapes |= {key: shape for i in range(3) for key, shape in _norm(f"{name}.norms.{i}", HIDDEN).items()}
    for layer in (0, 2, 4):
        shapes |= _linear(f"mask_embed.{layer}", HIDDEN, HIDDEN)
    return {f"panoptic_head.{name}": shape for name, shape in shapes.items()}


def _name_of_2(name):
    """Name a tensor as mmdetection 2.x does."""
    if ".transformer_decoder.layers." in name:
        return name.replace("cross_attn", "attentions.0").replace("self_attn", "attentions.1").replace(".ffn.", ".ffns.0.")
    if ".pixel_decoder.encoder.layers." in name:
        return name.replace("self_attn", "attentions.0").replace(".ffn.", ".ffns.0.")
    return name


@pytest.fixture(scope="session")
def tiny_mask2former():
    """Draw a small Mask2Former in mmdetection's form: ``(generation=3, classes=80, queries=20, seed=0)`` to tensors by name."""

    def draw(*, generation=3, classes=80, queries=20, seed=0):
        noise = torch.Generator().manual_seed(seed)
        state = {}
        for name, shape in {**_backbone(), **_head(classes, queries)}.items():
            drawn = torch.randn(shape, generator=noise)
            if "norm" in name or ".gn." in name:
                drawn = drawn * 0.1 + name.endswith("weight")
            elif len(shape) < 2:
                drawn = drawn * 0.1
            elif not name.endswith(("embed.weight", "feat.weight", "table", "encoding.weight")):
                drawn = drawn * 1.2 / torch.tensor(shape[1:]).prod().sqrt()
            state[name if generation == 3 else _name_of_2(name)] = drawn
        return state

    return draw


@pytest.fixture
def small_inputs(monkeypatch):
    """Feed the detector's network a tenth of the published size."""
    monkeypatch.setattr(mask2former, "size_within", partial(size_within, long=133, short=80))


@pytest.fixture(scope="session")
def write_clip():
    """Write a small CLIP in transformers' form: ``(folder, vocab=None, merges=(), **sizes)``; without a vocabulary, one of single bytes."""

    def write(folder, *, vocab=None, merges=(), act="quick_gelu", seed=0):
        letters = sorted(ByteLevel.alphabet())
        words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        vocab = vocab or {word: index for index, word in enumerate(words)}
        half = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1, "hidden_act": act}
        text = {
            **half,
            "vocab_size": len(vocab),
            "max_position_embeddings": 77,
            "bos_token_id": len(vocab) - 2,
            "eos_token_id": len(vocab) - 1,
        }
        vision = {**half, "image_size": 56, "patch_size": 14}
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
        CLIPTokenizer(vocab=vocab, merges=list(merges)).save_pretrained(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def judge_files(tmp_path_factory, tiny_mask2former, write_clip):
    """Write both parts of GenEval's official judge: the detector's file and CLIP's folder."""
    folder = tmp_path_factory.mktemp("judge")
    torch.save({"meta": {"CLASSES": ("thing",) * 80}, "state_dict": tiny_mask2former(generation=2)}, folder / "detector.pth")
    return folder / "detector.pth", write_clip(folder / "clip")
