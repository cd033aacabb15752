"""A tiny world in the on-disk format, made without the synthetic world's code."""

import io
import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from jfeval.models.training.making import train

LOOP = "{steps: 3, learning_rate: 1.0e-3, warmup: 1, dtype: float32}"
MUON = "{steps: 3, learning_rate: 1.0e-3, warmup: 1, dtype: float32, ema: 0.9, optimizer: muon}"
LONG = "prompt_tokens: 80, conversation_tokens: 120, text_tokens: 60"
RECIPE = f"""
threads: 1
parts:
  - {{name: data, kind: data, settings: {{image_size: 16, source: SOURCE}}}}
  - name: vae
    kind: vae
    inputs: [data]
    settings: {{widths: [8, 8], groups: 4, image_size: 16, batch_size: 4, test_images: 4, loop: {LOOP}}}
  - {{name: tokenizer, kind: tokenizer, inputs: [data], settings: {{least_count: 2}}}}
  - name: contrastive
    kind: contrastive
    inputs: [data, tokenizer]
    settings:
      {{vision: {{width: 16, layers: 1, heads: 2, mlp: 16}}, text: {{width: 16, layers: 1, heads: 2, mlp: 16}}, image_size: 16,
      patch_size: PATCH, text_length: 12, batch_size: 8, gallery: 3, loop: {LOOP}}}
  - name: lm
    kind: lm
    inputs: [data, tokenizer]
    settings: {{width: 16, mlp: 16, layers: 2, heads: 2, row_length: 32, batch_size: 2, test_scenes: 4, loop: {LOOP}}}
  - {{name: latents, kind: latents, inputs: [data, vae], settings: {{dtype: float32}}}}
  - name: stage1
    kind: stage
    inputs: [data, vae, latents, tokenizer, contrastive, lm]
    settings: {{freeze: [vision, language], flow_width: 8, mixture: {{generation: 4, understanding: 2, text: 0, {LONG}}}, loop: {LOOP}}}
  - name: stage2
    kind: stage
    inputs: {{data: data, vae: vae, latents: latents, tokenizer: tokenizer, start: stage1}}
    settings:
      {{mixture: {{generation: 4, understanding: 2, text: 2, {LONG}}}, loop: {MUON}, sample_prompts: [a red square], sample_every: 2,
      sampler: {{num_steps: 2, guidance_scale: 2.0}}}}
  - {{name: export, kind: export, inputs: {{start: stage2, tokenizer: tokenizer, vae: vae}}}}
"""

COLORS = {"red": (216, 30, 36), "blue": (20, 105, 230), "green": (30, 150, 60)}
SIDE = 16


@pytest.fixture(autouse=True)
def _one_thread():
    """Run torch on one thread: sums in one order, and no fight over a busy machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_cache_outside(tmp_path_factory, monkeypatch):
    """Keep what `datasets` copies out of the user's own cache."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def png(color, side=SIDE):
    """Encode a square of `color` on grey."""
    image = Image.new("RGB", (side, side), (150, 150, 150))
    image.paste(color, (4, 4, 12, 12))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scene(number, split):
    """Make one well-formed row."""
    color = list(COLORS)[number % 3]
    return {
        "scene_id": f"{split}-{number:04d}",
        "image": {"bytes": png(COLORS[color]), "path": None},
        "captions": [f"a photo of a {color} square", f"a {color} square"],
        "questions": [{"question": "What color is the square?", "answer": color, "kind": "color"}],
        "objects": [{"shape": "square", "color": color}],
    }


def write_world(folder, *, train=24, test=6, change=None):
    """Write a world of `train` and `test` scenes; `change(rows)` may spoil the training rows."""
    (folder / "scenes").mkdir(parents=True)
    (folder / "text").mkdir()
    for split, count in (("train", train), ("test", test)):
        rows = [scene(i, split) for i in range(count)]
        if change is not None and split == "train":
            change(rows)
        half = (count + 1) // 2
        for i, piece in enumerate((rows[:half], rows[half:])):
            pq.write_table(pa.Table.from_pylist(piece), folder / "scenes" / f"{split}-0000{i}-of-00002.parquet")
    texts = [f"the square is {color}" for color in COLORS] * 3
    pq.write_table(pa.table({"text": texts}), folder / "text" / "train-00000-of-00001.parquet")
    (folder / "meta.json").write_text(json.dumps({"format": "test"}), "utf-8")
    return folder


def write_recipe(folder, patch=4):
    """Write a world and a recipe of every kind of part, as small as they can be."""
    write_world(folder / "world")
    file = folder / "recipe.yaml"
    file.write_text(RECIPE.replace("SOURCE", str(folder / "world")).replace("PATCH", str(patch)))
    return file


def write_sources_recipe(folder, made, mixture, loop):
    """Write a recipe of one stage over the toy world's own files, read as sources, around the parts that were made."""
    world = made.parent / "world"
    sources = [
        {"name": "asked", "kind": "understanding", "path": str(world / "scenes"), "split": "train"},
        {"name": "drawn", "kind": "generation", "path": str(world / "scenes"), "streaming": False},
        {"name": "read", "kind": "text", "path": str(world / "text")},
    ]
    words = json.loads((made / "lm/lm/config.json").read_text())["vocab_size"]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    language, sight = {**sizes, "vocab_size": words}, {"image_size": 16, "patch_size": 4, "width": 16, "layers": 1, "heads": 2}
    siglip = {"holds": "siglip", "path": str(made / "contrastive/siglip"), "vision": sight}
    parts = [
        {"name": "data", "kind": "sources", "settings": {"sources": sources}},
        {"name": "vae", "kind": "given", "settings": {"holds": "vae", "path": str(made / "vae/vae")}},
        {"name": "tokenizer", "kind": "given", "settings": {"holds": "tokenizer", "path": str(made / "tokenizer/tokenizer")}},
        {"name": "lm", "kind": "given", "settings": {"holds": "lm", "path": str(made / "lm/lm"), "language": language}},
        {"name": "contrastive", "kind": "given", "settings": siglip},
        {
            "name": "stage1",
            "kind": "stage",
            "inputs": ["data", "vae", "tokenizer", "contrastive", "lm"],
            "settings": {
                "flow_width": 8,
                "mixture": {"pack_to": 200, "prompt_tokens": 80, "conversation_tokens": 150, **mixture},
                "loop": {"learning_rate": 1e-3, "warmup": 1, "dtype": "float32", "ema": 0.9, "checkpoint_minutes": 0.0, **loop},
            },
        },
    ]
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"threads": 1, "parts": parts}))
    return file


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The parts of that recipe, made; shared by every test, so nothing may be written there."""
    folder = tmp_path_factory.mktemp("stages")
    return train(write_recipe(folder), folder / "out")


@pytest.fixture(scope="session")
def tiny():
    """The helpers above, for tests that make their own world."""
    return SimpleNamespace(
        write_world=write_world, write_recipe=write_recipe, write_sources_recipe=write_sources_recipe, png=png, COLORS=COLORS, SIDE=SIDE
    )


@pytest.fixture
def world(tmp_path):
    return write_world(tmp_path / "world")
