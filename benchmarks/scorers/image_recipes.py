"""Four named ways from an image file to what the Inception network reads. FID depends on which one is used, so none is called just FID.

==================  ===========================================================  ==============
recipe              resizing                                                     values
==================  ===========================================================  ==============
``gigagan``         centre crop to a square, Lanczos to 256 in whole numbers,    (x - 128) / 128
                    then as ``clean``; for generated and reference images alike
``clean``           bicubic with antialiasing to 299, each channel in float32    (x - 128) / 128
``torch-fidelity``  bilinear to 299 as TensorFlow 1 does, no antialiasing        (x - 128) / 128
``pytorch-fid``     bilinear to 299 as torch does, no antialiasing               2 x / 255 - 1
==================  ===========================================================  ==============

Source: mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py; GaParmar/clean-fid @ e88c4d6269a4, cleanfid/resize.py; torch-fidelity
0.4.0, interpolate_compat_tensorflow.py and feature_extractor_inceptionv3.py; mseitzer/pytorch-fid @ b9c18118d082, inception.py.
"""

from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from jfeval.errors import UserError, unknown

Recipe: TypeAlias = Literal["gigagan", "clean", "torch-fidelity", "pytorch-fid"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

SIDE = 299
"""What the network reads. Source: torch-fidelity 0.4.0, feature_extractor_inceptionv3.py, INPUT_IMAGE_SIZE."""
GIGAGAN_SIDE = 256
"""Source: mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py, option eval_res."""


def prepare(image: Image.Image, recipe: str) -> np.ndarray:
    """Turn an image into the network's input.

    Args:
        image: Any mode and size.
        recipe: One of `RECIPES`.

    Returns:
        Float32 ``(3, 299, 299)``, about [-1, 1].

    Raises:
        UserError: An unknown recipe, or an image without pixels.
    """
    if recipe not in RECIPES:
        raise unknown("FID recipe", recipe, RECIPES)
    if not image.width or not image.height:
        raise UserError(f"an image of {image.width}x{image.height} pixels has no features")
    picture = image.convert("RGB")
    if recipe == "gigagan":
        picture = square(picture, GIGAGAN_SIDE)
    pixels = np.asarray(picture)
    if recipe in ("gigagan", "clean"):
        return _scaled(_bicubic(pixels))
    if recipe == "torch-fidelity":
        return _scaled(_bilinear_tensorflow(pixels))
    return np.float32(2) * (_bilinear_torch(pixels.astype(np.float32) / np.float32(255))) - np.float32(1)


def square(image: Image.Image, side: int) -> Image.Image:
    """Crop the centre to the shorter side and resize by Lanczos, in whole numbers.

    Source: mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py.
    """
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return (pixels - np.float32(128)) / np.float32(128)


def _bicubic(pixels: np.ndarray) -> np.ndarray:
    """Resize each channel in float32 by Pillow and clip to [0, 255] without rounding."""
    size, kind = (SIDE, SIDE), Image.Resampling.BICUBIC
    channels = [np.asarray(Image.fromarray(pixels[..., c].astype(np.float32)).resize(size, kind)) for c in range(3)]
    return np.stack(channels).clip(0, 255)


def _bilinear_tensorflow(pixels: np.ndarray) -> np.ndarray:
    """Resize with corners at whole coordinates: output i lies at input ``i * size / 299``."""
    values = pixels.astype(np.float32).transpose(2, 0, 1)
    for axis in (1, 2):
        low, high, part = _neighbours(values.shape[axis])
        shape = (1, SIDE, 1) if axis == 1 else (1, 1, SIDE)
        below, above = values.take(low, axis), values.take(high, axis)
        values = below + (above - below) * part.reshape(shape)
    return values


def _neighbours(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels on either side of each output and how far it lies between them, in float32 as TensorFlow computes it."""
    place = np.arange(SIDE, dtype=np.float32) * (np.float32(size) / np.float32(SIDE))
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, size - 1), place - low.astype(np.float32)


def _bilinear_torch(values: np.ndarray) -> np.ndarray:
    import torch
    from torch.nn.functional import interpolate

    batch = torch.from_numpy(values.transpose(2, 0, 1)[None].copy())
    return interpolate(batch, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0].numpy()
