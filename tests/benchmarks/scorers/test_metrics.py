import json
import math
from dataclasses import asdict

from jfeval.benchmarks.scorers.metrics import as_metric
from jfeval.stats import Estimate


def test_an_interval_without_an_end_is_left_out_and_the_metric_can_be_stored():
    estimate = Estimate(value=1.0, se=None, ci_low=0.0, ci_high=math.inf, n=3, clusters=1)
    metric = as_metric(estimate, name="distribution", protocol="official", detail="")
    assert (metric.ci_low, metric.ci_high) == (None, None)
    json.dumps(asdict(metric), allow_nan=False)
    bounded = as_metric(Estimate(value=0.5, se=0.1, ci_low=0.3, ci_high=0.7, n=3, clusters=3), name="a", protocol="p", detail="")
    assert (bounded.ci_low, bounded.ci_high) == (0.3, 0.7)
