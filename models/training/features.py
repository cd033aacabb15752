"""The understanding encoder's features of every training image, computed once: while it is frozen, no step needs to run it again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.parts import vision_config
from jfeval.models.training.data import Scenes
from jfeval.models.training.encoders import LatentEncoder, alignment_target
from jfeval.models.training.part import Part

FEATURES_FILE = "features.npy"
_COMPARED = 4


@dataclass(frozen=True, kw_only=True)
class FeaturesSettings:
    """Caching the training images' features."""

    batch_size: int = 128
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What the encoder runs in; float16 is stored."""


@torch.no_grad()
def cache_features(settings: FeaturesSettings, part: Part) -> dict[str, float]:
    """Encode every training image once: (N, tokens, width) float16."""
    scenes, siglip = Scenes.open_train(part.inputs["data"]), part.inputs["contrastive"] / "siglip"
    tower = alignment_target("contrastive", siglip, vision_config(siglip), seed=0)
    assert tower is not None
    out: np.memmap | None = None
    for start in range(0, len(scenes), settings.batch_size):
        rows = np.arange(start, min(start + settings.batch_size, len(scenes)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            features = tower(scenes.pixels(rows)).to(torch.float16).numpy()
        if out is None:
            out = np.lib.format.open_memmap(part.folder / FEATURES_FILE, "w+", np.float16, (len(scenes), *features.shape[1:]))
        out[rows] = features
    if out is None:
        raise UserError(f"no training image in {part.inputs['data']}")
    out.flush()
    return {"features": float(len(out)), "tokens": float(out.shape[1]), "width": float(out.shape[2])}


def open_features(folder: Path, model: JanusFlow, scenes: Scenes, *, frozen: bool) -> np.ndarray:
    """Open cached features for a stage.

    Args:
        folder: The part that holds them.
        model: What the stage trains.
        scenes: The images that they should be of.
        frozen: Whether the stage leaves the understanding encoder as it is.

    Raises:
        UserError: The stage trains the encoder or has another one, or the features are of other images.
    """
    if not frozen or isinstance(model.vision_und_enc_model, LatentEncoder):
        raise UserError(f"{folder} holds features of a frozen contrastive encoder, and this stage has none; take it out of its inputs")
    features: np.ndarray = np.load(folder / FEATURES_FILE, mmap_mode="r")
    config = model.config.vision
    if features.shape != (len(scenes), config.tokens, config.width):
        expected = (len(scenes), config.tokens, config.width)
        raise UserError(f"the features in {folder} have shape {features.shape}, this stage needs {expected}; make them anew")
    rows = list(range(min(_COMPARED, len(scenes))))
    if not _close(model.vision_und_enc_model, scenes.pixels(rows), torch.from_numpy(np.asarray(features[rows], np.float32))):
        raise UserError(f"the features in {folder} are of another encoder or other images than this stage's; make them anew")
    return features


@torch.no_grad()
def _close(encoder: Callable[[Tensor], Tensor], pixels: Tensor, stored: Tensor) -> bool:
    """Tell whether features are an encoder's own, up to the rounding of 16-bit floats."""
    own = encoder(pixels).float()
    return bool((own - stored).norm() <= 0.05 * own.norm())
