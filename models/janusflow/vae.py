"""The autoencoder that pictures are drawn through: diffusers' AutoencoderKL, read from a folder."""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from jfeval.errors import UserError
from jfeval.models.janusflow.checkpoint import fill, tensor_table
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.reading import naming, read_object, read_setting, refuse_others

VAE_FOLDER = "vae"
"""Where it lies in a pipeline's folder, and in that of the part that trained it."""
_STEMS = ("diffusion_pytorch_model", "diffusion_pytorch_model")
_OLD_ATTENTION = re.compile(r"(attentions\.\d+\.)(query|key|value|proj_attn)(?=\.(?:weight|bias)$)")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""How early diffusers spelt the attention layers. Source: diffusers' ``ModelMixin._fix_state_dict_keys_on_load``."""


def load_vae(folder: Path, dtype: torch.dtype = torch.float32, *, fits: JanusFlowConfig | None = None) -> AutoencoderKL:
    """Load it from its folder in diffusers' form, ready for use on the CPU.

    Args:
        folder: ``config.json`` and ``diffusion_pytorch_model``: safetensors or ``.bin``, one file or several.
        dtype: Type of the weights.
        fits: The model that draws through it; None where there is none yet.

    Raises:
        UserError: It is not there, a file is damaged, its tensors are others than its configuration says or not finite, or it does not
            fit the model.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"no VAE in {folder}; the published JanusFlow uses the SDXL VAE: name its folder with vae=...")
    config = read_object(file)
    with naming(file):
        vae = _empty(config)
    if fits is not None:
        _check_fit(vae, fits, folder)
    table = {_renamed(name): info for name, info in tensor_table(folder, _STEMS).items()}
    fill(vae, folder, table, {name: tensor.shape for name, tensor in vae.state_dict().items()}, dtype=dtype)
    return vae.eval()


def _empty(config: Mapping[str, Any]) -> AutoencoderKL:
    """Build an autoencoder without weights, on the meta device.

    Raises:
        UserError: It is of another kind, has a setting of another type, or shifts latents, which is not done here.
    """
    refuse_others(config, {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3}, "the VAE")
    refuse_others(config, {"shift_factor": 0, "latents_mean": None, "latents_std": None}, "the VAE")
    for key, parameter in inspect.signature(AutoencoderKL.__init__).parameters.items():
        default = parameter.default
        if isinstance(default, tuple):
            found = config.get(key, default)
            if not isinstance(found, list | tuple) or not found:
                raise UserError(f"the VAE's {key} must be a list that is not empty, not {found!r}")
            for item in found:
                read_setting({key: item}, key, default[0], "each of the VAE's")
        elif isinstance(default, bool | int | float | str):
            read_setting(config, key, default, "the VAE's")
    try:
        with torch.device("meta"):
            return AutoencoderKL.from_config({key: value for key, value in config.items() if key != "_name_or_path"})  # pyright: ignore[reportReturnType] - no tuple unless asked for
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:  # what its layers raise
        raise UserError(f"diffusers can build no AutoencoderKL from it: {error}") from error


def _check_fit(vae: AutoencoderKL, model: JanusFlowConfig, folder: Path) -> None:
    """Refuse a VAE whose latents are others than the model's."""
    channels, reduction = vae.config["latent_channels"], 2 ** (len(vae.config["block_out_channels"]) - 1)
    if channels != model.flow.latent_channels:
        raise UserError(
            f"the VAE in {folder} has {channels} latent channels, but the model draws {model.flow.latent_channels}; name the VAE that the "
            "model was trained with"
        )
    side, image = model.latent_size, model.vision.image_size
    if side * reduction != image:
        raise UserError(
            f"the VAE in {folder} makes {reduction} pixels of each latent one, so the model's {side} x {side} latents would become "
            f"{side * reduction} x {side * reduction} pixels, not {image} x {image}; name the VAE that the model was trained with"
        )


def _renamed(name: str) -> str:
    """Return a tensor's name in today's spelling."""
    return _OLD_ATTENTION.sub(lambda found: found[1] + _NEW_ATTENTION[found[2]], name)
