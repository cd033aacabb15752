"""Features of a fixed, untrained network: small convolutions with weights drawn once from a seed.

Nobody trained it, so no compared model can have been trained on it or towards it, and it knows no label. It stands in for Inception where
images are of 64x64 flat shapes; its distances mean something beside each other and nothing beside Inception's.

Source: that distances in random features order image sets sensibly: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative
Models" (arXiv 2002.09797), section 4.3, on randomly initialised embeddings.
"""

import base64
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from jfeval.errors import UserError
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

NAME = "random-conv-32"
SEED = 20240607
SIDE = 64
WIDTH = 32
_CHANNELS = (3, 16, 32, 8)
_KERNEL = 5
_GRID = 2
"""The last layer is averaged over the quarters of the image, so that places count."""


def identity() -> JsonObject:
    """Return what can change a feature."""
    return {"network": NAME, "seed": SEED, "width": WIDTH}


def features(images: "Sequence[Image]") -> np.ndarray:
    """Return features ``(B, 32)``, float32.

    Raises:
        UserError: An image is not 64x64.
    """
    import torch

    for image in images:
        if image.size != (SIDE, SIDE):
            raise UserError(f"{NAME} reads images of {SIDE}x{SIDE} pixels, not {image.width}x{image.height}")
    pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]).transpose(0, 3, 1, 2) / 127.5 - 1
    states = torch.from_numpy(pixels)
    with torch.inference_mode():
        for kernel in _kernels():
            states = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(states, kernel, stride=2, padding=2), 0.2)
        return torch.nn.functional.adaptive_avg_pool2d(states, _GRID).flatten(1).numpy()


def pack(row: np.ndarray) -> str:
    """Write one image's features as text: little-endian float32 in base 64."""
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()


def unpack(text: str, *, where: str) -> np.ndarray:
    """Read what `pack` wrote, as float64.

    Raises:
        UserError: It is not that.
    """
    try:
        row = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float64)
    except ValueError as error:
        raise UserError(f"{where}: stored features are not readable ({error}); judge these images again") from error
    if not row.size or not np.isfinite(row).all():
        raise UserError(f"{where}: stored features are empty or not finite; judge these images again")
    return row


@cache
def _kernels() -> "tuple[Tensor, ...]":
    """Draw the weights, scaled so that each layer keeps its input's size."""
    import torch

    rng = np.random.Generator(np.random.PCG64(SEED))
    kernels = []
    for inner, outer in pairwise(_CHANNELS):
        drawn = rng.standard_normal((outer, inner, _KERNEL, _KERNEL), dtype=np.float32)
        kernels.append(torch.from_numpy(drawn * np.float32(np.sqrt(2 / (inner * _KERNEL**2)))))
    return tuple(kernels)
