"""From features to named numbers: FID_n, its bias-corrected value and KID, each with its interval or the reason why it has none."""

import numpy as np
from scipy.special import ndtri

from jfeval.benchmarks.scorers.frechet import Moments
from jfeval.benchmarks.scorers.frechet_error import LEAST_RATIO, Batches, FrechetEstimate, estimate_frechet
from jfeval.benchmarks.scorers.kernel_distance import KernelEstimate, kernel_distance
from jfeval.schema import Metric
from jfeval.stats import CONFIDENCE

_QUANTILE = float(ndtri(1 - (1 - CONFIDENCE) / 2))


def frechet_metrics(generated: Batches, reference: Moments | Batches, *, name: str, protocol: str, task: str = "") -> list[Metric]:
    """Return the distance as printed everywhere and without its bias.

    Args:
        generated: Features of the generated images.
        reference: Moments that count as given, or features that are a sample.
        name: For example ``fid_gigagan``: the distance with its network and recipe.
        protocol: Of the metrics.
        task: The category, where it is one.
    """
    found = estimate_frechet(generated, reference)
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
    found: KernelEstimate = kernel_distance(generated, reference)
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
        detail=f"Kernel distance (cubic) of {found.n:,} images against {found.reference_n:,}, without bias; error of both sides.",
    )


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
        detail=detail,
    )
