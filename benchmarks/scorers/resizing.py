"""OpenCV's bilinear resize of 8-bit pictures, to the last bit: what mmdetection's detectors are fed with.

Other bilinear resizes (Pillow's, torch's) differ from it by a grey level here and there, which moves boxes by a pixel now and then.
Source: OpenCV 4, modules/imgproc/src/resize.cpp, resize with INTER_LINEAR for CV_8U (HResizeLinear, VResizeLinear, ResizeAreaFast).
"""

import numpy as np

_ONE = 2048
"""Weights are whole numbers of this unit. Source: as above, INTER_RESIZE_COEF_SCALE."""


def size_within(height: int, width: int, *, long: int = 1333, short: int = 800) -> tuple[int, int]:
    """Return height and width of the largest picture of the same shape whose long side is at most `long` and short side at most `short`.

    Source: mmcv 2.1.0, mmcv/image/geometric.py, rescale_size; the defaults: mmdetection 3.3.0,
    configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py, test_pipeline.
    """
    factor = min(long / max(height, width), short / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize_bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a picture ``(H, W, C)`` of uint8 to ``(height, width, C)``.

    A picture of exactly twice the size is averaged over 2x2 pixels, as OpenCV does in place of the linear rule.

    Raises:
        ValueError: It is not uint8 with three dimensions, or has no pixels.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or 0 in (*picture.shape, height, width):
        raise ValueError(f"need uint8 (H, W, C) with pixels, got {picture.dtype} {picture.shape}, to be {height}x{width}")
    if picture.shape[:2] == (height, width):
        return picture.copy()
    if picture.shape[:2] == (2 * height, 2 * width):
        blocks = picture.reshape(height, 2, width, 2, -1).sum(axis=(1, 3), dtype=np.int32)
        return ((blocks + 2) >> 2).astype(np.uint8)
    left, right, columns = _neighbours(picture.shape[1], width)
    columns = np.where(left == right, 0, columns)  # beyond the edge a row's end is taken whole; of columns, as two parts of itself
    upper, lower, rows = _neighbours(picture.shape[0], height)
    wide = picture.astype(np.int32)
    across = wide[:, left] * (_ONE - columns)[:, None] + wide[:, right] * columns[:, None]
    across >>= 4
    above = (across[upper] * (_ONE - rows)[:, None, None]) >> 16
    below = (across[lower] * rows[:, None, None]) >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _neighbours(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each new pixel its two neighbours, the edge repeated, and the second one's weight in units of 1 / 2048."""
    scale = 1.0 / (after / before)
    places = ((np.arange(after) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    weight = np.rint((places - first.astype(np.float32)) * np.float32(_ONE)).astype(np.int32)
    return np.clip(first, 0, before - 1), np.clip(first + 1, 0, before - 1), weight
