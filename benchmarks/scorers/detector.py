"""From Mask2Former's logits to scored objects, as mmdetection does it for instance segmentation."""

from dataclasses import dataclass

import numpy as np

MAX_PER_IMAGE = 100
"""Source: mmdetection 3.3.0, configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco.py, test_cfg.max_per_image."""

_EMPTY_MASK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Instances:
    """Objects of one image, best first; objects of equal score in the order of their class probability."""

    scores: np.ndarray
    """``(N,)`` float32 in [0, 1]."""
    labels: np.ndarray
    """``(N,)`` int64, index of the class."""
    boxes: np.ndarray
    """``(N, 4)`` float32, ``x0, y0, x1, y1``; x1 and y1 lie one pixel past the mask."""
    masks: np.ndarray
    """``(N, H, W)`` bool."""


def instances(class_logits: np.ndarray, mask_logits: np.ndarray, *, max_per_image: int = MAX_PER_IMAGE) -> Instances:
    """Turn the last layer's logits into objects.

    The best (query, class) pairs are taken over the whole table, so one query can name several classes. An object's score is its
    class probability times the mean foreground probability inside its mask (sum / (area + 1e-6)). Nothing is suppressed. An empty
    mask gives box 0, 0, 0, 0 and score 0.

    Source: mmdetection 3.3.0, mmdet/models/seg_heads/panoptic_fusion_heads/maskformer_fusion_head.py, instance_postprocess, and
    mmdet/structures/mask/utils.py, mask2bbox.

    Args:
        class_logits: ``(Q, classes + 1)``; the last column is "no object". Every class is a thing.
        mask_logits: ``(Q, H, W)`` at the image's own size.
        max_per_image: How many pairs are kept; all of them where there are fewer.

    Raises:
        ValueError: The two arrays do not belong together.
    """
    if class_logits.ndim != 2 or mask_logits.ndim != 3 or len(class_logits) != len(mask_logits) or class_logits.shape[1] < 2:
        raise ValueError(f"need logits (Q, classes + 1) and masks (Q, H, W), got {class_logits.shape} and {mask_logits.shape}")
    classes = class_logits.shape[1] - 1
    table = _softmax(class_logits.astype(np.float32))[:, :classes].ravel()
    best = np.argsort(-table, kind="stable")[:max_per_image]
    queries = best // classes

    logits = mask_logits.astype(np.float32)[queries]
    masks = logits > 0
    inside = np.where(masks, _sigmoid(logits), np.float32(0)).sum(axis=(1, 2), dtype=np.float32)
    scores = table[best] * (inside / (masks.sum(axis=(1, 2)).astype(np.float32) + np.float32(_EMPTY_MASK)))

    order = np.argsort(-scores, kind="stable")
    masks = masks[order]
    return Instances(scores=scores[order], labels=(best % classes)[order].astype(np.int64), boxes=mask_boxes(masks), masks=masks)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Return the tight boxes ``(N, 4)``, float32, of boolean masks ``(N, H, W)``: first pixel, last pixel + 1; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if xs.size:
            box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.abs(logits))) * np.where(logits < 0, np.exp(-np.abs(logits)), np.float32(1))
