"""JanusFlow from its two starting points: a Llama-form language model and a SigLIP encoder, as training begins.

Source: paper section 3.2: training starts from a pre-trained language model and SigLIP; everything else is new.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.checkpoint import TensorInfo, fill, restore_buffers, tensor_table
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.names import TOWER, stored_tensors
from jfeval.models.janusflow.reading import naming, read_object, read_setting, refuse_others

_LANGUAGE = "language_model."
_RATIO_DIGITS = 1e4


def from_parts(
    language: Path, vision: Path, *, flow: FlowConfig | None = None, seed: int = 0, dtype: torch.dtype | None = None
) -> JanusFlow:
    """Build JanusFlow around a language model and an understanding encoder; what is new starts at random.

    Args:
        language: Folder of a Llama-form model: ``config.json`` and weights under transformers' names.
        vision: Folder of a SigLIP model, or of its vision half alone, in the same form.
        flow: Sizes of the generation encoder and decoder; None for the published ones.
        seed: Seeds the new parts.
        dtype: Type of the weights; None takes the language model's.

    Raises:
        UserError: A folder is none of these, or its tensors do not fit its configuration; all are listed by name.
    """
    config = JanusFlowConfig(language=language_config(language), vision=vision_config(vision), flow=flow or FlowConfig())
    with torch.device("meta"):
        model = JanusFlow(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.add_own_parts()
    expected = {name: list(tensor.shape) for name, tensor in stored_tensors(model).items()}
    for folder, own in ((language, _LANGUAGE), (vision, TOWER)):
        table = _table_of(folder, own)
        wanted = {name: shape for name, shape in expected.items() if name.startswith(own)}
        dtype = dtype or next((info.dtype for info in table.values()), None)
        fill(model, folder, table, wanted, dtype=dtype)
    restore_buffers(model)
    return model.to(dtype).eval()


def _table_of(folder: Path, own: str) -> dict[str, TensorInfo]:
    """List a part's tensors under the names they have in JanusFlow; of a whole SigLIP only the vision half is taken."""
    table = tensor_table(folder)
    if own == _LANGUAGE:
        return {own + name: info for name, info in table.items()}
    inside = {name.removeprefix("vision_model."): info for name, info in table.items() if name.startswith("vision_model.")}
    return {own + name: info for name, info in (inside or table).items()}


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"no config.json in {folder}; expected the folder of a model in transformers' form")
    return read_object(file)


def language_config(folder: Path) -> LanguageConfig:
    """Read the sizes of a Llama-form model.

    Raises:
        UserError: It is of another kind, has what JanusFlow has not (`LanguageConfig.from_published`), or lacks a size; names it.
    """
    found = _read_config(folder)
    if found.get("model_type") != "llama":
        raise UserError(f"{folder} holds a {found.get('model_type')!r} model; JanusFlow needs one of model_type 'llama'")
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if missing := [key for key in needed if key not in found]:
        raise UserError(f"config.json in {folder} lacks {', '.join(missing)}")
    with naming(folder / "config.json"):
        return LanguageConfig.from_published(found)


def vision_config(folder: Path) -> VisionConfig:
    """Read the sizes of a SigLIP model or of its vision half.

    Differs: transformers' SigLIP approximates GELU by tanh; JanusFlow's tower uses the exact form, with the same weights.

    Raises:
        UserError: It is of another kind, or a size is none; names it.
    """
    found = _read_config(folder)
    half = found.get("vision_config", found)
    kind = half.get("model_type") if isinstance(half, Mapping) else half
    if not isinstance(half, Mapping) or kind != "siglip_vision_model":
        raise UserError(f"{folder} holds a {kind!r} model; JanusFlow needs a SigLIP (siglip_vision_model)")
    defaults = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
    with naming(folder / "config.json"):
        refuse_others(half, {"num_channels": 3, "vision_use_head": True}, "the vision model")
        size = {key: read_setting(half, key, value, "the vision model's") for key, value in {**defaults, "patch_size": 16}.items()}
        return VisionConfig(
            model_name="siglip",
            image_size=size["image_size"],
            patch_size=size["patch_size"],
            width=size["hidden_size"],
            layers=size["num_hidden_layers"],
            heads=size["num_attention_heads"],
            mlp_ratio=math.ceil(size["intermediate_size"] / size["hidden_size"] * _RATIO_DIGITS) / _RATIO_DIGITS,
        )
