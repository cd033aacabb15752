"""From two means and covariances to the Frechet distance: ours against torch-fidelity's own finish.

``python tests/perf/frechet_finish.py [WIDTH]`` prints seconds of both, their ratio and how far the results are apart; covariances apart.
Without torch-fidelity (`pip install torch-fidelity`) the same general eigenvalues are taken by numpy, and the output says so.
"""

import sys
import time

import numpy as np

from jfeval.benchmarks.scorers.frechet import frechet_distance, moments_of


def general(a, b):
    """As torch-fidelity 0.4.0 finishes: eigenvalues of the product, which is not symmetric."""
    apart = a.mean - b.mean
    root = np.sum(np.sqrt(np.linalg.eigvals(a.cov @ b.cov).astype("complex128")).real)
    return float(apart @ apart + np.trace(a.cov) + np.trace(b.cov) - 2 * root)


def theirs():
    """Return torch-fidelity's own finish with its name, or its imitation."""
    try:
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
    except ImportError:
        return "general eigenvalues by numpy (torch-fidelity is not installed)", general

    def finish(a, b):
        first, second = ({"mu": one.mean, "sigma": one.cov} for one in (a, b))
        return float(fid_statistics_to_metric(first, second, False)[KEY_METRIC_FID])

    from importlib.metadata import version

    return f"torch-fidelity {version('torch-fidelity')}", finish


def main(width):
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    a, b = (moments_of([np.maximum(rng.standard_normal((3 * width, width), dtype=np.float32) + shift, 0)]) for shift in (0.0, 0.1))
    print(f"covariances of 2 x {3 * width} images: {time.perf_counter() - started:.2f} s")
    name, other = theirs()
    seconds, values = [], []
    for finish in (frechet_distance, other):
        started = time.perf_counter()
        values.append(finish(a, b))
        seconds.append(time.perf_counter() - started)
    print(f"width {width}: ours {seconds[0]:.2f} s, {name} {seconds[1]:.2f} s: {seconds[1] / seconds[0]:.1f} times faster")
    print(f"relative difference {abs(values[0] - values[1]) / values[1]:.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
