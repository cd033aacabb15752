"""From an estimate to a named number."""

import math
from typing import Literal

from jfeval.schema import Metric
from jfeval.stats import Estimate


def as_metric(
    estimate: Estimate,
    *,
    name: str,
    protocol: str,
    detail: str,
    task: str = "",
    headline: bool = False,
    paper: str = "",
    chance: float | None = None,
    better: Literal["higher", "lower", "neither"] = "higher",
) -> Metric:
    """Give an estimate its name, its protocol and the line that says what it is. An interval without an end is left out."""
    bounded = math.isfinite(estimate.ci_low) and math.isfinite(estimate.ci_high)
    return Metric(
        name=name,
        protocol=protocol,
        value=estimate.value,
        n=estimate.n,
        clusters=estimate.clusters,
        se=estimate.se,
        se_seed=estimate.se_seed,
        ci_low=estimate.ci_low if bounded else None,
        ci_high=estimate.ci_high if bounded else None,
        task=task,
        headline=headline,
        detail=detail,
        paper=paper,
        chance=chance,
        better=better,
    )
