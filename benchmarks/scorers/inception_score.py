"""Inception score: how sharp and how varied a classifier's labels of the images are.

Source: Salimans et al., "Improved Techniques for Training GANs" (arXiv 1606.03498), section 4.
"""

from itertools import pairwise

import numpy as np
from scipy.special import log_softmax

from jfeval.errors import UserError

SPLITS, SEED = 10, 2020
"""Source: torch-fidelity 0.4.0, defaults isc_splits and rng_seed."""


def inception_score(logits: np.ndarray, *, splits: int = SPLITS, shuffle: bool = True, seed: int = SEED) -> tuple[float, float]:
    """Return mean and population standard deviation over splits of exp E KL(p(y|x) || p(y)).

    The splits are disjoint, so the deviation / sqrt(splits) is an error bar of the mean over splits of this size, whose bias it lacks.

    Args:
        logits: ``(N, classes)``.
        splits: Parts, cut at ``i * N // splits``.
        shuffle: Permute the rows first.
        seed: Of the permutation.

    Source: torch-fidelity 0.4.0, metric_isc.py, isc_features_to_metric.

    Raises:
        UserError: Fewer rows than splits.
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise UserError(f"cannot cut logits of shape {logits.shape} into {splits} splits")
    rows = logits.astype(np.float64)
    if shuffle:
        rows = rows[np.random.RandomState(seed).permutation(len(rows))]
    logs = log_softmax(rows, axis=1)
    bounds = [i * len(rows) // splits for i in range(splits + 1)]
    scores = []
    for low, high in pairwise(bounds):
        part = logs[low:high]
        chances = np.exp(part)
        scores.append(np.exp((chances * (part - np.log(chances.mean(axis=0)))).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
