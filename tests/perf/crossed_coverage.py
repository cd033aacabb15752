"""How often the crossed bootstrap's 95 % interval holds the true difference, beside Student's over seeds: simulated two-way tables.

A table's cell is truth + seed + prompt + rest, all normal; seeds and prompts are drawn anew for each table.

    python tests/perf/crossed_coverage.py [--tables 400]
"""

import argparse

import numpy as np

from jfeval.seeds import compare_seeds, crossed_bootstrap

TRUTH = 0.05
SETTINGS = [(seeds, spread) for seeds in (3, 6, 8, 12) for spread in (0.0, 0.03, 0.1)]
PROMPTS = 120


def table(rng: np.random.Generator, seeds: int, spread: float, prompts: int = PROMPTS) -> np.ndarray:
    """Draw differences (seeds, prompts): deviations `spread` over seeds, 0.2 over prompts and 0.4 of the rest."""
    over_seeds, over_prompts = spread * rng.normal(size=(seeds, 1)), 0.2 * rng.normal(size=(1, prompts))
    return TRUTH + over_seeds + over_prompts + 0.4 * rng.normal(size=(seeds, prompts))


def coverage(seeds: int, spread: float, *, tables: int, draws: int = 500) -> tuple[float, float]:
    """Return the shares of tables whose interval holds the truth: the crossed bootstrap's, and Student's over seeds."""
    rng, crossed, student = np.random.default_rng([seeds, int(1000 * spread)]), 0, 0
    for number in range(tables):
        drawn = table(rng, seeds, spread)
        low, high = crossed_bootstrap(drawn, draws=draws, seed=number)
        found = compare_seeds(drawn.mean(1).tolist())
        crossed += low <= TRUTH <= high
        student += found.ci_low <= TRUTH <= found.ci_high
    return crossed / tables, student / tables


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=400)
    asked = parser.parse_args()
    print("| seeds | deviation over seeds | crossed | Student over seeds |\n|---|---|---|---|")
    for seeds, spread in SETTINGS:
        crossed, student = coverage(seeds, spread, tables=asked.tables)
        print(f"| {seeds} | {spread} | {100 * crossed:.1f} | {100 * student:.1f} |")
