"""A CLIP in a folder of transformers' form: what it is, its network and tokenizer, and the pixels that it reads.

Source: openai/CLIP, clip/clip.py, _transform (resizing, mean and deviation).
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jfeval.errors import UserError
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

PUBLISHED = "openai/clip-vit-large-patch14"
"""OpenAI's ViT-L/14 on the Hugging Face hub, in transformers' form: GenEval's colour judge and the paper's CLIP score."""
LARGE = "ViT-L/14"
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SIZES = {(768, 12, 32): "ViT-B/32", (768, 12, 16): "ViT-B/16", (1024, 24, 14): LARGE}
"""Width, layers and patch of the vision transformers that papers name."""


def described(folder: Path) -> tuple[dict[str, Any], JsonObject]:
    """Return a folder's configuration, every size filled in, and what identifies its network.

    Raises:
        UserError: It holds no CLIP in transformers' form.
    """
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    try:
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stated = None
    if path is None or not isinstance(stated, dict) or stated.get("model_type") != "clip":
        raise UserError(
            f"{folder} holds no CLIP in transformers' form (config.json of model_type clip, and {' or '.join(_WEIGHTS)}); OpenAI's "
            f"is {PUBLISHED} on the Hugging Face hub, about 1.7 GB: `jfeval data fetch {PUBLISHED.partition('/')[2]}`"
        )
    from transformers import CLIPConfig

    config = CLIPConfig.from_dict(stated).to_dict()
    vision = config["vision_config"]
    sizes = vision["hidden_size"], vision["num_hidden_layers"], vision["patch_size"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return config, {
        "backbone": _SIZES.get(sizes, f"width {sizes[0]}, {sizes[1]} layers, patch {sizes[2]}"),
        "activation": str(config["text_config"]["hidden_act"]),
        "weights_sha256": digest,
    }


def load(folder: Path, device: str) -> tuple[Any, Any]:
    """Load network (float32, not training) and tokenizer; pickles are not run.

    Raises:
        UserError: A tensor is missing or of another size, or the folder cannot be read.
    """
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    from jfeval.benchmarks.scorers.loading import load_quietly, quietly

    try:
        model, loaded = load_quietly(CLIPModel, folder, local_files_only=True, weights_only=True, dtype=torch.float32)
        with quietly():
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"the CLIP in {folder} cannot be loaded: {str(error)[:300]}") from error
    lost = sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]]))
    if lost:
        raise UserError(f"the CLIP in {folder} is not whole: {len(lost)} tensors are missing or of another size: {', '.join(lost[:3])}")
    return model.to(device).eval(), tokenizer


def pixels(image: "Image", side: int) -> np.ndarray:
    """Return what the network reads: shorter side to ``side`` by bicubic, centre crop, normalised; float32 ``(3, side, side)``."""
    from PIL import Image as Pictures

    picture = image.convert("RGB")
    short = min(picture.size)
    width, height = (side if edge == short else int(side * edge / short) for edge in picture.size)
    picture = picture.resize((width, height), Pictures.Resampling.BICUBIC)
    left, top = round((width - side) / 2), round((height - side) / 2)
    values = np.asarray(picture.crop((left, top, left + side, top + side)), dtype=np.float32) / np.float32(255)
    return ((values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1).copy()
