"""The Inception network that FID, KID and inception score are defined by: torch-fidelity's conversion of TensorFlow's.

torch-fidelity (extra ``fid``) is imported only when a network is loaded; it brings torchvision, which nothing else here needs.

Source: torch-fidelity 0.4.0, feature_extractor_inceptionv3.py.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.scorers.image_recipes import RECIPES, SIDE, prepare
from jfeval.errors import UserError, unknown
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""Name of the published file in torch-fidelity's release v0.2.0."""
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published file; recorded by several projects that use it, its first digits in the file's name."""
WIDTH = 2048
_LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
"""Order of the forward pass. Source: as above, forward."""


class Inception:
    """Features and logits of images under one recipe.

    Args:
        weights: torch-fidelity's converted weights.
        recipe: How images are resized and scaled; one of `RECIPES`.
        device: Where it runs.

    Raises:
        UserError: torch-fidelity is not installed, the file is missing or not these weights, or the recipe is unknown.
    """

    def __init__(self, weights: Path, recipe: str, *, device: str = "cpu") -> None:
        if recipe not in RECIPES:
            raise unknown("FID recipe", recipe, RECIPES)
        self.recipe = recipe
        self.device = device
        self._digest = _checked(weights)
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise UserError(f"Inception features need torch-fidelity ({error}): pip install 'jfeval[fid]'") from error
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
        self._network = network.to(device)

    def identity(self) -> JsonObject:
        """Return what can change a feature."""
        from importlib.metadata import version

        return {
            "network": "inception-v3-compat",
            "weights_sha256": self._digest,
            "published": self._digest == SHA256,
            "recipe": self.recipe,
            "torch_fidelity": version("torch-fidelity"),
        }

    def features(self, images: "Sequence[Image]") -> tuple[np.ndarray, np.ndarray]:
        """Return features ``(B, 2048)`` and logits without bias ``(B, 1008)``, float32."""
        import torch

        batch = torch.from_numpy(np.stack([prepare(image, self.recipe) for image in images])).to(self.device)
        if batch.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"the network reads (3, {SIDE}, {SIDE}), got {tuple(batch.shape[1:])}")
        with torch.inference_mode():
            for name in _LAYERS:
                batch = getattr(self._network, name)(batch)
            pooled = torch.flatten(batch, 1)
            logits = pooled @ self._network.fc.weight.T
        return pooled.float().cpu().numpy(), logits.float().cpu().numpy()


def _checked(weights: Path) -> str:
    """Return the file's sha256 once it is known to hold tensors only: torch-fidelity itself would run what a pickle says.

    Raises:
        UserError: The file is missing, or holds something else.
    """
    import torch

    if not weights.is_file():
        raise UserError(
            f"Inception's weights are missing: there is no file {weights}. It is {WEIGHTS} of torch-fidelity's release v0.2.0, 96 MB; "
            "`jfeval data fetch inception` gets it to where runs look for it. To evaluate a model without: --edition shapes"
        )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"{weights} does not hold tensors alone and is not loaded: {str(error)[:200]}") from error
    found = state.get("fc.weight") if isinstance(state, dict) else None
    if found is None or tuple(found.shape) != (1008, WIDTH):
        raise UserError(f"{weights} holds other weights; Inception with 1,008 classes is needed ({WEIGHTS})")
    return hashlib.sha256(weights.read_bytes()).hexdigest()
