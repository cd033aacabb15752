"""From Mask2Former's logits to scored objects, as mmdetection does it for instance segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

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


class Detector(Protocol):
    """Finds objects in pictures; knows labels as numbers, and no rules."""

    name: str

    def identity(self) -> JsonObject:
        """Return everything that can change a detection."""
        ...

    def detect(self, images: "Sequence[Image]") -> list[Instances]:
        """Return the objects of each picture at its own size, in order."""
        ...


def instances(class_logits: Tensor | np.ndarray, mask_logits: Tensor | np.ndarray, *, max_per_image: int = MAX_PER_IMAGE) -> Instances:
    """Turn the last layer's logits into objects, on the device that holds them.

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
    classes, masks = torch.as_tensor(class_logits).float(), torch.as_tensor(mask_logits).float()
    if classes.ndim != 2 or masks.ndim != 3 or len(classes) != len(masks) or classes.shape[1] < 2:
        raise ValueError(f"need logits (Q, classes + 1) and masks (Q, H, W), got {tuple(classes.shape)} and {tuple(masks.shape)}")
    labels = classes.shape[1] - 1
    table = classes.softmax(dim=-1)[:, :labels].flatten()
    best = table.argsort(descending=True, stable=True)[:max_per_image]
    queries, place = (best // labels).unique(return_inverse=True)

    masks = masks[queries]
    inside = masks > 0
    foreground = (masks.sigmoid() * inside).sum(dim=(1, 2)) / (inside.sum(dim=(1, 2)).float() + _EMPTY_MASK)
    scores = table[best] * foreground[place]

    order = scores.argsort(descending=True, stable=True)
    seen = inside[place[order]].cpu().numpy()
    return Instances(scores=scores[order].cpu().numpy(), labels=(best % labels)[order].cpu().numpy(), boxes=mask_boxes(seen), masks=seen)


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """Return the tight boxes ``(N, 4)``, float32, of boolean masks ``(N, H, W)``: first pixel, last pixel + 1; zeros for an empty mask."""
    boxes = np.zeros((len(masks), 4), dtype=np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if xs.size:
            box[:] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes
