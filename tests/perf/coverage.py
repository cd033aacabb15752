"""How often 95 % intervals hold the truth: Student's, and what `jfeval.stats.interval_of` gives, near the edge and in the middle.

Simulated are benchmarks of G prompts with m images each; a prompt's chance is drawn from a beta distribution with mean p whose images are
correlated within prompts by a given amount (0: independent). The arithmetic is that of `jfeval.stats`, over whole arrays, and is checked
against it.

Run: python tests/perf/coverage.py [BENCHMARKS]
"""

import sys

import numpy as np
from scipy.special import betaincinv, stdtrit

from jfeval.stats import clustered_mean

CASES = [
    (0.97, 40, 1, 0.0),
    (0.97, 40, 4, 0.0),
    (0.97, 40, 4, 0.1),
    (0.97, 40, 4, 0.3),
    (0.97, 40, 4, 0.6),
    (0.97, 80, 4, 0.3),
    (0.97, 200, 4, 0.3),
    (0.99, 100, 4, 0.3),
    (0.95, 20, 4, 0.3),
    (0.90, 40, 4, 0.3),
    (0.85, 40, 4, 0.3),
    (0.75, 40, 4, 0.3),
    (0.50, 40, 1, 0.0),
    (0.03, 40, 4, 0.3),
]


def simulate(rng: np.random.Generator, p: float, prompts: int, images: int, within: float, times: int) -> np.ndarray:
    """Return how many images of each prompt are right, (times, prompts)."""
    if within == 0:
        return rng.binomial(images, p, (times, prompts))
    spread = (1 - within) / within
    return rng.binomial(images, rng.beta(p * spread, (1 - p) * spread, (times, prompts)))


def intervals(right: np.ndarray, images: int, *, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends for every benchmark; Student's where ``edge`` is 0."""
    prompts = right.shape[1]
    mean, se = right.mean(1) / images, right.std(1, ddof=1) / images / np.sqrt(prompts)
    t = stdtrit(prompts - 1, 0.975)
    low, high = np.clip(mean - t * se, 0, 1), np.clip(mean + t * se, 0, 1)
    same = se < 1e-12
    worth = np.where(same, 1, mean * (1 - mean)) / np.where(same, 1, se**2)
    near = ~same & (np.minimum(mean, 1 - mean) < edge - 1e-9)
    centre, half = mean + t * t / (2 * worth), t * np.sqrt(mean * (1 - mean) / worth + (t / (2 * worth)) ** 2)
    low, high = np.where(near, (centre - half) / (1 + t * t / worth), low), np.where(near, (centre + half) / (1 + t * t / worth), high)
    good = mean * prompts
    exact_low = np.where(good <= 1e-9, 0, betaincinv(np.maximum(good, 1e-9), prompts - good + 1, 0.025))
    exact_high = np.where(prompts - good <= 1e-9, 1, betaincinv(good + 1, np.maximum(prompts - good, 1e-9), 0.975))
    return np.where(same, exact_low, low), np.where(same, exact_high, high)


def main() -> None:
    """Print a table of coverages in percent."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rng = np.random.default_rng(0)
    print("   p  prompts  images  within   Student  interval_of")
    for p, prompts, images, within in CASES:
        right = simulate(rng, p, prompts, images, within, times)
        ends = [intervals(right, images, edge=edge) for edge in (0.0, 0.2)]
        for row in range(5):
            values = [float(i < count) for count in right[row] for i in range(images)]
            one = clustered_mean(values, [i // images for i in range(len(values))])
            assert np.allclose((one.ci_low, one.ci_high), (ends[1][0][row], ends[1][1][row]))
        student, ours = (100 * np.mean((low <= p) & (p <= high)) for low, high in ends)
        print(f"{p:.2f}  {prompts:7d}  {images:6d}  {within:6.1f}   {student:7.1f}  {ours:11.1f}")


if __name__ == "__main__":
    main()
