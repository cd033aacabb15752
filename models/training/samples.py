"""What a training draws for a person to look at: every prompt a few times, with the same noise every time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES_FILE = "samples.png"
"""In a part's folder, drawn when it is trained."""
_COLUMNS = 4
_SCALE = 3


def samples_file(step: int) -> str:
    """Name the picture of a training's state after so many updates."""
    return f"samples-{step:08d}.png"


def draw_samples(prompts: Sequence[str], draw: Callable[[list[str], list[int]], Sequence[Image.Image]], path: Path) -> Path:
    """Draw every prompt four times, a row each, as one PNG; return its path.

    Args:
        prompts: At least one.
        draw: Draws prompts, each from its seed.
        path: The file to write.
    """
    rows = []
    for row, prompt in enumerate(prompts):
        images = draw([prompt] * _COLUMNS, list(range(row * _COLUMNS, (row + 1) * _COLUMNS)))
        rows.append(np.concatenate([np.asarray(image) for image in images], axis=1))
    Image.fromarray(np.concatenate(rows).repeat(_SCALE, 0).repeat(_SCALE, 1)).save(path)
    return path
