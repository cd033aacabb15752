"""How two boxes lie to each other: GenEval's relative position and its overlap.

Boxes are ``(x0, y0, x1, y1)`` in pixels, y growing downwards; further numbers (a score) are ignored. Arithmetic is float32, as the
detector's arrays are in the official script: a pair at the edge of a rule falls on the same side.
"""

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

Relation: TypeAlias = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)

POSITION_THRESHOLD = 0.1
"""Share of the two sizes that does not count as displacement.

Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, option position_threshold.
"""

_NO_DISPLACEMENT = 1e-3
_DIRECTION = 0.5


def relations(a: ArrayLike, b: ArrayLike, *, threshold: float = POSITION_THRESHOLD) -> tuple[Relation, ...]:
    """Say where box `a` lies relative to box `b`: none, one, or the two relations of a diagonal, sorted by name.

    Per axis, with d the difference of the centres and s the sum of the sizes::

        r = sign(d) * max(|d| - threshold * s, 0)

    No relation holds where r is under 0.001 on both axes. Otherwise r is divided by the length of d (not of r), and a direction holds
    where its component exceeds 0.5.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, relative_position.
    """
    corners_a, corners_b = _box(a).reshape(2, 2), _box(b).reshape(2, 2)
    apart = corners_a.mean(axis=0) - corners_b.mean(axis=0)
    sizes = np.abs(corners_a[1] - corners_a[0]) + np.abs(corners_b[1] - corners_b[0])
    revised = np.maximum(np.abs(apart) - threshold * sizes, 0) * np.sign(apart)
    if (np.abs(revised) < _NO_DISPLACEMENT).all():
        return ()
    x, y = revised / np.linalg.norm(apart)
    holds: dict[Relation, bool] = {
        "above": bool(y < -_DIRECTION),
        "below": bool(y > _DIRECTION),
        "left of": bool(x < -_DIRECTION),
        "right of": bool(x > _DIRECTION),
    }
    return tuple(name for name, true in holds.items() if true)


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Return intersection over union of two boxes, in [0, 1]; widths and heights count one pixel more than the difference of corners.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, compute_iou.
    """
    box_a, box_b = _box(a), _box(b)
    shared = _area(np.concatenate([np.maximum(box_a[:2], box_b[:2]), np.minimum(box_a[2:], box_b[2:])]))
    union = _area(box_a) + _area(box_b) - shared
    return float(shared / union) if union else 0.0


def _area(box: np.ndarray) -> np.float32:
    width, height = np.maximum(box[2:] - box[:2] + np.float32(1), np.float32(0))
    return width * height


def _box(values: ArrayLike) -> np.ndarray:
    box = np.asarray(values, dtype=np.float32)[:4]
    if box.shape != (4,):
        raise ValueError(f"a box has at least 4 numbers (x0, y0, x1, y1), got {np.shape(values)}")
    return box
