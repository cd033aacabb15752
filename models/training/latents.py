"""The latents of every training image, computed once: the VAE is frozen throughout, so no step needs to encode an image again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.training.checks import positive
from jfeval.models.training.data import Scenes
from jfeval.models.training.part import Part

LATENTS_FILE = "latents.npy"


@dataclass(frozen=True, kw_only=True)
class LatentsSettings:
    """Caching the training images' latents."""

    batch_size: int = 128
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What the encoder runs in."""

    def __post_init__(self) -> None:
        """Refuse empty batches."""
        positive(self, "batch_size")


@torch.no_grad()
def encode_once(scenes: Scenes, part: Part, file: str, settings: LatentsSettings, encode: Callable[[Tensor], Tensor]) -> np.memmap:
    """Write what a frozen network makes of every training image into the part's folder, as float16 (N, ...).

    Args:
        scenes: The images.
        part: Whose folder, and whose data are named where there is no image.
        file: Name of the array's file.
        settings: Batch size, and what the network runs in.
        encode: Pixels (B, 3, S, S) to (B, ...).

    Raises:
        UserError: There is no training image.
    """
    out: np.memmap | None = None
    for start in range(0, len(scenes), settings.batch_size):
        rows = np.arange(start, min(start + settings.batch_size, len(scenes)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            encoded = encode(scenes.pixels(rows)).to(torch.float16).numpy()
        if out is None:
            out = np.lib.format.open_memmap(part.folder / file, "w+", np.float16, (len(scenes), *encoded.shape[1:]))
        out[rows] = encoded
    if out is None:
        raise UserError(f"no training image in {part.inputs['data']}")
    out.flush()
    return out


def cache_latents(settings: LatentsSettings, part: Part) -> dict[str, float]:
    """Encode every training image once: posterior means times the scaling factor, (N, C, h, w) float16."""
    vae = load_vae(part.inputs["vae"] / VAE_FOLDER)
    scale = vae.config["scaling_factor"]

    def encode(pixels: Tensor) -> Tensor:
        return vae.encode(pixels, return_dict=False)[0].mean.float() * scale

    out = encode_once(Scenes.open_train(part.inputs["data"]), part, LATENTS_FILE, settings, encode)
    probe = np.asarray(out[:: max(1, len(out) // 2000)], np.float32)
    return {"latents": float(len(out)), "mean": float(probe.mean()), "std": float(probe.std())}
