"""The understanding encoder's features of every training image, computed once: while it is frozen, no step needs to run it again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.parts import vision_config
from jfeval.models.training.data import Scenes
from jfeval.models.training.encoders import LatentEncoder, alignment_target
from jfeval.models.training.latents import LatentsSettings, encode_once
from jfeval.models.training.part import Part

FEATURES_FILE = "features.npy"
_COMPARED = 4


@dataclass(frozen=True, kw_only=True)
class FeaturesSettings(LatentsSettings):
    """Caching the training images' features."""


def cache_features(settings: FeaturesSettings, part: Part) -> dict[str, float]:
    """Encode every training image once: (N, tokens, width) float16."""
    siglip = part.inputs["contrastive"] / "siglip"
    tower = alignment_target("contrastive", siglip, vision_config(siglip), seed=0)
    assert tower is not None
    out = encode_once(Scenes.open_train(part.inputs["data"]), part, FEATURES_FILE, settings, tower)
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
