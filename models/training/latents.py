"""The latents of every training image, computed once: the VAE is frozen throughout, so no step needs to encode an image again."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from jfeval.errors import UserError
from jfeval.models.janusflow.pipeline import VAE_FOLDER
from jfeval.models.training.data import Scenes
from jfeval.models.training.part import Part

LATENTS_FILE = "latents.npy"


@dataclass(frozen=True, kw_only=True)
class LatentsSettings:
    """Caching the training images' latents."""

    batch_size: int = 128
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What the encoder runs in."""


@torch.no_grad()
def cache_latents(settings: LatentsSettings, part: Part) -> dict[str, float]:
    """Encode every training image once: posterior means times the scaling factor, (N, C, h, w) float16."""
    scenes = Scenes.open_train(part.inputs["data"])
    vae = AutoencoderKL.from_pretrained(part.inputs["vae"] / VAE_FOLDER, local_files_only=True).eval()
    out: np.memmap | None = None
    for start in range(0, len(scenes), settings.batch_size):
        rows = np.arange(start, min(start + settings.batch_size, len(scenes)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            mean = vae.encode(scenes.pixels(rows), return_dict=False)[0].mean
        latents = (mean.float() * vae.config["scaling_factor"]).to(torch.float16).numpy()
        if out is None:
            shape = (len(scenes), *latents.shape[1:])
            out = np.lib.format.open_memmap(part.folder / LATENTS_FILE, "w+", np.float16, shape)
        out[rows] = latents
    if out is None:
        raise UserError(f"no training image in {part.inputs['data']}")
    out.flush()
    probe = np.asarray(out[:: max(1, len(out) // 2000)], np.float32)
    return {"latents": float(len(out)), "mean": float(probe.mean()), "std": float(probe.std())}
