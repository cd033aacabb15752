"""What colour an object is, by GenEval's zero-shot head: the crop it looks at, its prompts, its classifier.

The head sees image features only; which network makes them is the caller's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

Colour: TypeAlias = Literal["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"]
COLOURS: tuple[Colour, ...] = get_args(Colour)
"""In the order of the logits and of the words in a reason.

Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, COLORS.
"""

TEMPLATES = ("a photo of a {colour} {noun}", "a photo of a {colour}-colored {noun}", "a photo of a {colour} object")
"""Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, color_classification."""

LOGIT_SCALE = 100.0
"""Source: LAION-AI/CLIP_benchmark @ v1.4.0, clip_benchmark/metrics/zeroshot_classification.py, run_classification."""

_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How an object is cut out before its colour is read. Defaults: the official script's options ``bgcolor`` and ``crop``."""

    background: str = "#999"
    """What lies outside the mask: a colour that PIL knows, or ``original`` for the picture itself."""
    crop: bool = True
    """Whether to cut to the box."""


def crop_object(image: Image.Image, box: Sequence[float] | np.ndarray, mask: np.ndarray | None, settings: CropSettings) -> Image.Image:
    """Cut one object out of an image: flat background outside the mask first, then the box.

    The box is rounded half to even; what lies beyond the frame is black. Without a mask the background stays.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, ImageCrops.

    Args:
        image: Upright picture (EXIF already applied).
        box: ``(x0, y0, x1, y1, ...)`` in pixels.
        mask: Boolean ``(H, W)``, or None.
        settings: Background, and whether to cut.

    Raises:
        ValueError: The mask is not as large as the image, the box is inside out, or the background is no colour.
    """
    picture = image.convert("RGB")
    if mask is not None:
        if mask.shape != (picture.height, picture.width):
            raise ValueError(f"mask is {mask.shape}, image is {(picture.height, picture.width)} (height, width)")
        if settings.background != "original":
            blank = Image.new("RGB", picture.size, color=settings.background)
            picture = Image.composite(picture, blank, Image.fromarray(mask.astype(bool)))
    if not settings.crop:
        return picture
    x0, y0, x1, y1 = (float(value) for value in box[:4])
    return picture.crop((x0, y0, x1, y1))  # type: ignore[arg-type]  # PIL rounds floats itself


def colour_prompts(noun: str) -> list[str]:
    """List the texts of one class: colour by colour, three templates each. ``noun`` is the class name."""
    return [template.format(colour=colour, noun=noun) for colour in COLOURS for template in TEMPLATES]


def build_classifier(text_embeddings: np.ndarray, *, classes: int = len(COLOURS)) -> np.ndarray:
    """Average the normalised embeddings of each class and normalise again.

    Source: LAION-AI/CLIP_benchmark @ v1.4.0, clip_benchmark/metrics/zeroshot_classification.py, zero_shot_classifier.

    Args:
        text_embeddings: ``(classes * templates, D)``, class by class.
        classes: How many classes those rows hold.

    Returns:
        ``(D, classes)``, float32, columns of length 1.

    Raises:
        ValueError: The rows do not divide evenly among the classes.
    """
    rows, width = text_embeddings.shape
    if rows == 0 or rows % classes:
        raise ValueError(f"{rows} text embeddings cannot be shared evenly by {classes} classes")
    grouped = _normalise(text_embeddings.astype(np.float32)).reshape(classes, rows // classes, width)
    return _normalise(grouped.mean(axis=1)).T


def colour_logits(image_features: np.ndarray, classifier: np.ndarray) -> np.ndarray:
    """Return 100 x cosine, ``(N, classes)``, of image features ``(N, D)`` and a classifier ``(D, classes)``.

    Source: LAION-AI/CLIP_benchmark @ v1.4.0, clip_benchmark/metrics/zeroshot_classification.py, run_classification.
    """
    return np.float32(LOGIT_SCALE) * _normalise(image_features.astype(np.float32)) @ classifier


def name_colours(logits: np.ndarray) -> list[Colour]:
    """Name the largest of each row's ten logits; of equals the first; there is no way to answer "none of these".

    Raises:
        ValueError: The logits are not ``(N, 10)``.
    """
    if logits.ndim != 2 or logits.shape[1] != len(COLOURS):
        raise ValueError(f"colour logits must be (N, {len(COLOURS)}), got {logits.shape}")
    return [COLOURS[index] for index in logits.argmax(axis=1)]


def _normalise(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.maximum(norms, np.float32(_SMALLEST_NORM))
