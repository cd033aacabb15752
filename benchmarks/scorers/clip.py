"""CLIP's features of pictures and texts, for GenEval's colour judge: OpenAI's ViT-L/14, whose activation is always QuickGELU.

The weights are a folder in transformers' form. Two networks read them: transformers' own, and open_clip's (extra ``open-clip``), which the
official script uses; on the same weights they give the same features.
Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, load_models (ViT-L-14, openai); openai/CLIP, clip/clip.py,
_transform (resizing, mean and deviation).
Differs: features are float32 on every device; the official script's are float16 (autocast) on a GPU.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from jfeval.benchmarks.scorers.clip_folder import LARGE, MEAN, STD, described, load, pixels
from jfeval.errors import UserError, unknown
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

Backend: TypeAlias = Literal["transformers", "open_clip"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
_BATCH = 16
"""Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, color_classification, batch_size."""
_SAFE = "model.safetensors"


class ClipEncoder(Protocol):
    """Makes features of pictures and of texts that can be compared."""

    def identity(self) -> JsonObject:
        """Return everything that can change a feature."""
        ...

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 ``(N, D)``, not normalised."""
        ...

    def images(self, images: "Sequence[Image]") -> np.ndarray:
        """Return float32 ``(N, D)``, not normalised."""
        ...


class TransformersClip:
    """transformers' network.

    Args:
        folder: Its weights, with ``config.json`` and a tokenizer.
        device: Where it runs.

    Raises:
        UserError: The folder holds no whole CLIP of OpenAI's kind.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        self.config, self.weights = read_folder(folder)
        self.model, self.tokenizer = load(folder, device)
        self.device = torch.device(device)

    def identity(self) -> JsonObject:
        """Return what can change a feature."""
        return {"network": "transformers", **self.weights}

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the texts' features."""
        most = self.config["text_config"]["max_position_embeddings"]
        ids = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=most, return_tensors="pt")["input_ids"]
        return _in_batches(lambda part: self.model.text_projection(self.model.text_model(input_ids=part).pooler_output), ids, self.device)

    @torch.inference_mode()
    def images(self, images: "Sequence[Image]") -> np.ndarray:
        """Return the pictures' features."""
        side = self.config["vision_config"]["image_size"]
        given = torch.stack([torch.from_numpy(pixels(image, side)) for image in images])
        return _in_batches(lambda part: self.model.visual_projection(self.model.vision_model(part).pooler_output), given, self.device)


class OpenClip:
    """open_clip's network, tokenizer and preprocessing, with the weights of the same folder.

    Args:
        folder: As for `TransformersClip`; its tokenizer is not used.
        device: Where it runs.

    Raises:
        UserError: open_clip is not installed, or the folder holds no whole CLIP of OpenAI's kind.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        try:
            import open_clip
            from open_clip.model import CLIPTextCfg, CLIPVisionCfg
            from open_clip.transform import image_transform
        except ImportError as error:
            raise UserError("clip_backend=open_clip needs open_clip: `pip install 'jfeval[open-clip]'`") from error
        config, self.weights = read_folder(folder)
        text, vision = config["text_config"], config["vision_config"]
        self.model = open_clip.CLIP(
            embed_dim=config["projection_dim"],
            vision_cfg=CLIPVisionCfg(
                layers=vision["num_hidden_layers"],
                width=vision["hidden_size"],
                head_width=vision["hidden_size"] // vision["num_attention_heads"],
                patch_size=vision["patch_size"],
                image_size=vision["image_size"],
            ),
            text_cfg=CLIPTextCfg(
                context_length=text["max_position_embeddings"],
                vocab_size=text["vocab_size"],
                width=text["hidden_size"],
                heads=text["num_attention_heads"],
                layers=text["num_hidden_layers"],
            ),
            quick_gelu=True,
        )
        self._load(folder)
        self.model = self.model.to(device).eval()
        self.device = torch.device(device)
        self.version = open_clip.__version__
        self.tokenizer = open_clip.SimpleTokenizer(context_length=text["max_position_embeddings"])
        self.transform = image_transform(vision["image_size"], is_train=False, mean=MEAN, std=STD)

    def _load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if not (folder / _SAFE).is_file():
            raise UserError(f"{folder} has no {_SAFE}, which open_clip's network is filled from; use clip={folder}, or convert the weights")
        try:
            self.model.load_state_dict(to_open_clip(load_file(folder / _SAFE)))
        except (RuntimeError, OSError) as error:
            raise UserError(f"the CLIP in {folder} does not fit open_clip's: {str(error)[:300]}") from error

    def identity(self) -> JsonObject:
        """Return what can change a feature."""
        return {"network": f"open_clip {self.version}", **self.weights}

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the texts' features."""
        return _in_batches(self.model.encode_text, self.tokenizer(list(texts)), self.device)

    @torch.inference_mode()
    def images(self, images: "Sequence[Image]") -> np.ndarray:
        """Return the pictures' features."""
        return _in_batches(self.model.encode_image, torch.stack([self.transform(image) for image in images]), self.device)  # pyright: ignore


def load_clip(folder: Path, *, backend: str = "transformers", device: str = "cpu") -> TransformersClip | OpenClip:
    """Load CLIP from a folder into one of the two networks.

    Raises:
        UserError: Another backend, or as the networks say.
    """
    if backend not in BACKENDS:
        raise unknown("backend of CLIP", backend, BACKENDS)
    return TransformersClip(folder, device=device) if backend == "transformers" else OpenClip(folder, device=device)


def read_folder(folder: Path) -> tuple[dict[str, Any], JsonObject]:
    """Return a folder's configuration, every size filled in, and what identifies its weights.

    Raises:
        UserError: It is no CLIP in transformers' form, or its activation is not QuickGELU: it is not OpenAI's.
    """
    config, network = described(folder)
    for half in ("text_config", "vision_config"):
        if config[half]["hidden_act"] != "quick_gelu":
            found = str(config[half]["hidden_act"])[:40]
            raise UserError(
                f"{folder}: {half}.hidden_act is {found}; GenEval's colour judge is OpenAI's CLIP, whose activation is quick_gelu"
            )
    if network["backbone"] != LARGE:
        log.warning("%s is not %s (%s): colours are judged by another network than GenEval's", folder, LARGE, network["backbone"])
    return config, network


_NAMES: tuple[tuple[str, str], ...] = (
    (r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"\1.resblocks.\2.attn.out_proj."),
    (r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"\1.resblocks.\2.ln_\3."),
    (r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.mlp\.fc1\.", r"\1.resblocks.\2.mlp.c_fc."),
    (r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.mlp\.fc2\.", r"\1.resblocks.\2.mlp.c_proj."),
    (r"text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.", "ln_final."),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", "visual.conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", "visual.ln_pre."),
    (r"vision_model\.post_layernorm\.", "visual.ln_post."),
)
_HALVES = {"text_model.resblocks.": "transformer.resblocks.", "vision_model.resblocks.": "visual.transformer.resblocks."}


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name and shape transformers' tensors as open_clip (and OpenAI) have them; buffers of positions are left out."""
    made = {name: state[name] for name in ("logit_scale",) if name in state}
    for name, target in (("text_projection.weight", "text_projection"), ("visual_projection.weight", "visual.proj")):
        made[target] = state[name].T
    packed: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if found := re.fullmatch(r"(text_model|vision_model)\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
            half, layer, which, kind = found.groups()
            packed.setdefault(_half(f"{half}.resblocks.{layer}.attn.in_proj_{kind}"), {})[which] = tensor
            continue
        for pattern, target in _NAMES:
            if re.match(pattern, name):
                made[_half(re.sub(pattern, target, name))] = tensor
    return made | {name: torch.cat([parts[which] for which in "qkv"]) for name, parts in packed.items()}


def _half(name: str) -> str:
    for ours, theirs in _HALVES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _in_batches(encode: Any, given: Tensor, device: torch.device) -> np.ndarray:  # noqa: ANN401  a network's part
    return torch.cat([encode(part.to(device)).float().cpu() for part in given.split(_BATCH)]).numpy()
