"""From two means and covariances to the Frechet distance: ours against the general eigenvalues that torch-fidelity takes.

``python tests/perf/frechet_finish.py [WIDTH]`` prints seconds of both, their ratio and how far the results are apart; covariances apart.
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


def main(width):
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    a, b = (moments_of([np.maximum(rng.standard_normal((3 * width, width), dtype=np.float32) + shift, 0)]) for shift in (0.0, 0.1))
    print(f"covariances of 2 x {3 * width} images: {time.perf_counter() - started:.2f} s")
    seconds, values = [], []
    for finish in (frechet_distance, general):
        started = time.perf_counter()
        values.append(finish(a, b))
        seconds.append(time.perf_counter() - started)
    print(f"width {width}: symmetric {seconds[0]:.2f} s, general {seconds[1]:.2f} s, {seconds[1] / seconds[0]:.1f} times faster")
    print(f"relative difference {abs(values[0] - values[1]) / values[1]:.1e}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2048)
