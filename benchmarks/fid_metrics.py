"""From features to named numbers: FID_n, its bias-corrected value and KID, each with its interval or the reason why it has none."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtri, stdtrit

from jfeval.benchmarks.scorers.frechet_error import LEAST_RATIO, FrechetEstimate
from jfeval.benchmarks.scorers.kernel_distance import KernelEstimate, kernel_distance
from jfeval.schema import Metric, Score
from jfeval.stats import CONFIDENCE

_QUANTILE = float(ndtri(1 - (1 - CONFIDENCE) / 2))

INFLUENCE = "influence"
"""Name of the score that two runs are paired by: an image's influence on the distance."""
FULL = 30_000
"""Images of MJHQ-30K and of the usual COCO draw."""
SHORT = (10_000, 3_000)
"""Smaller numbers that papers print: FID-10k, and MJHQ's categories."""


def label(count: int) -> str:
    """Name the number of images, because FID depends on it: ``30k``, ``10k``, ``3k``, otherwise the number."""
    return f"{count // 1000}k" if count in (FULL, *SHORT) else f"{count}"


def frechet_metrics(found: FrechetEstimate, *, name: str, protocol: str, task: str = "") -> list[Metric]:
    """Return the distance as printed everywhere and without its bias.

    Args:
        found: The distance with its error.
        name: For example ``fid_30k``: the distance with its network.
        protocol: Of the metrics.
        task: The category, where it is one.
    """
    what = f"of {found.n:,} images against {found.reference_n:,}, {found.width} features"
    if found.se is None:
        why = f" No interval and no correction: fewer than {LEAST_RATIO} images per feature; look at the kernel distance."
        return [_frechet(found, found.value, name, protocol, task, f"Frechet distance {what}, with the bias of so few images.{why}")]
    side = "both sides" if found.reference_sampled else "the generated side, the reference being given"
    corrected = found.corrected if found.corrected is not None else found.value
    return [
        _frechet(found, found.value, name, protocol, task, f"Frechet distance {what}; its finite-sample bias is in it. Error of {side}."),
        _frechet(found, corrected, f"{name}_corrected", protocol, task, f"The same without its finite-sample bias. Error of {side}."),
    ]


def kernel_metric(generated: np.ndarray, reference: np.ndarray, *, name: str, protocol: str, task: str = "") -> Metric:
    """Return the kernel distance of two sets of features with a normal interval; it is unbiased, and may be below zero."""
    found = kernel_distance(generated, reference)
    what = f"Kernel distance (cubic) of {found.n:,} images against {found.reference_n:,}, without bias; error of both sides."
    return as_kernel_metric(found, name=name, protocol=protocol, task=task, detail=what)


def as_kernel_metric(found: KernelEstimate, *, name: str, protocol: str, detail: str, task: str = "") -> Metric:
    """Give a kernel distance its name and a normal interval."""
    half = _QUANTILE * found.se
    return Metric(
        name=name,
        protocol=protocol,
        value=found.value,
        n=found.n,
        clusters=found.n,
        se=found.se,
        ci_low=found.value - half,
        ci_high=found.value + half,
        task=task,
        better="lower",
        detail=detail,
    )


def mean_metric(values: Sequence[float], *, name: str, protocol: str, detail: str) -> Metric:
    """Return the mean of one number an image with Student's interval over images; at least two."""
    found = np.asarray(values)
    mean, se = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
    half = float(stdtrit(len(found) - 1, 1 - (1 - CONFIDENCE) / 2)) * se
    metric = Metric(name=name, protocol=protocol, value=mean, n=len(found), clusters=len(found), se=se, detail=detail)
    return replace(metric, ci_low=mean - half, ci_high=mean + half)


def with_influence(scores: Sequence[Score], influence: np.ndarray) -> list[Score]:
    """Give each image's score its influence, where there are enough images for one."""
    if not len(influence):
        return list(scores)
    return [replace(score, values={INFLUENCE: float(value), **score.values}) for score, value in zip(scores, influence, strict=True)]


def _frechet(found: FrechetEstimate, value: float, name: str, protocol: str, task: str, detail: str) -> Metric:
    interval = found.interval(value)
    return Metric(
        name=name,
        protocol=protocol,
        value=value,
        n=found.n,
        clusters=found.n,
        se=found.se,
        ci_low=interval[0] if interval else None,
        ci_high=interval[1] if interval else None,
        task=task,
        better="lower",
        detail=detail,
    )
