"""The autoencoder that pictures are drawn through: diffusers' AutoencoderKL, read from a folder."""

from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from jfeval.errors import UserError

VAE_FOLDER = "vae"
"""Where it lies in a pipeline's folder, and in that of the part that trained it."""


def load_vae(folder: Path, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
    """Load it from its folder in diffusers' form, ready for use on the CPU.

    Raises:
        UserError: It is not there.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"no VAE in {folder}; the published JanusFlow uses the SDXL VAE: name its folder with vae=...")
    # what diffusers does anyway without accelerate, after saying so at every start
    return AutoencoderKL.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False, torch_dtype=dtype).eval()
