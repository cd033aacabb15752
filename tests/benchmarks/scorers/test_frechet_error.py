import numpy as np
import pytest

from jfeval.benchmarks.scorers.frechet import frechet_distance, moments_of
from jfeval.benchmarks.scorers.frechet_error import estimate_frechet, paired_difference
from jfeval.errors import UserError

WIDTH = 24
MANY = 200_000


def world(kind, seed=0):
    """A way to draw features, and reference moments of another distribution."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    mix = turn * np.sqrt(np.geomspace(4, 0.25, WIDTH)) @ turn.T
    mean = 0.3 * rng.standard_normal(WIDTH)

    def draw(n):
        if kind == "rectified":
            return np.maximum(rng.standard_normal((n, WIDTH)) @ mix + mean, 0)
        noise = rng.standard_normal((n, WIDTH)) if kind == "gaussian" else rng.exponential(size=(n, WIDTH)) - 1
        return noise @ mix + mean

    reference = moments_of([rng.standard_normal((2000, WIDTH)) @ np.diag(np.linspace(0.5, 2, WIDTH))])
    return draw, reference


@pytest.mark.parametrize("kind", ["gaussian", "exponential", "rectified"])
@pytest.mark.parametrize("ratio", [5, 10, 20])
def test_intervals_cover_what_they_claim(kind, ratio):
    """Brute force: of many drawn sets, how many intervals hold the mean of FID_n, and how many the true distance.

    At five images per feature the expansion is rough, and the bound is what docs/fid.md states for it.
    """
    draw, reference = world(kind)
    true = frechet_distance(moments_of([draw(MANY)]), reference)
    repeats = 400
    found = [estimate_frechet([draw(ratio * WIDTH)], reference) for _ in range(repeats)]
    mean = np.mean([one.value for one in found])
    margin = 2.5 * np.sqrt(0.95 * 0.05 / repeats)  # Monte Carlo error of a share of 95 %
    for centre, target in (("value", mean), ("corrected", true)):
        intervals = [one.interval(getattr(one, centre)) for one in found]
        covered = np.mean([low <= target <= high for low, high in intervals])
        assert (0.93 if ratio > 5 else 0.91) - margin <= covered <= 0.975 + margin, (centre, covered)
    assert abs(np.mean([one.corrected for one in found]) - true) < 0.25 * (mean - true)


def test_the_error_of_a_sampled_reference_is_added():
    draw, _ = world("gaussian")
    other, _ = world("exponential", seed=5)
    n = 15 * WIDTH
    true = frechet_distance(moments_of([draw(MANY)]), moments_of([other(MANY)]))
    found = [estimate_frechet([draw(n)], [other(n)]) for _ in range(250)]
    corrected = np.array([one.corrected for one in found])
    assert np.mean([one.se for one in found]) == pytest.approx(corrected.std(), rel=0.15)
    assert abs(corrected.mean() - true) < 4 * corrected.std() / np.sqrt(250)
    assert np.mean([one.value for one in found]) - true > 0.2
    sampled, given = found[0], estimate_frechet([draw(n)], moments_of([other(n)]))
    assert sampled.reference_sampled
    assert not given.reference_sampled


def test_the_influence_is_the_derivative():
    draw, reference = world("rectified")
    rows = draw(40 * WIDTH)
    one = estimate_frechet([rows], reference)
    n, step = len(rows), 1e-4
    for place in (0, 7):
        weights = np.full(n, (1 - step) / n)
        weights[place] += step
        mean = weights @ rows
        centred = rows - mean
        moved = moments_of([rows])
        scale = n / (n - 1)
        bumped = type(moved)(n=n, mean=mean, cov=scale * (centred.T * weights) @ centred)
        slope = (frechet_distance(bumped, reference) - one.value) / step
        assert slope == pytest.approx(one.influence[place], rel=0.02, abs=0.02)


def test_batches_do_not_matter():
    draw, reference = world("gaussian")
    rows = draw(10 * WIDTH)
    whole, parts = estimate_frechet([rows], reference), estimate_frechet(np.array_split(rows, 7), reference)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert (parts.se, parts.corrected) == (pytest.approx(whole.se, rel=1e-9), pytest.approx(whole.corrected, rel=1e-9))


def test_too_few_images_have_no_interval():
    draw, reference = world("gaussian")
    few = estimate_frechet([draw(5 * WIDTH - 1)], reference)
    assert (few.se, few.corrected, few.interval(few.value)) == (None, None, None)
    assert few.value > 0
    with pytest.raises(UserError, match="at least 5 images per feature"):
        paired_difference(few, few)


def test_pairing_takes_away_what_two_models_share():
    draw, reference = world("gaussian")
    shared = draw(20 * WIDTH)
    rng = np.random.default_rng(3)
    a, b = (estimate_frechet([shared + 0.1 * rng.standard_normal(shared.shape)], reference) for _ in range(2))
    difference, se = paired_difference(a, b)
    assert difference == pytest.approx(a.value - b.value)
    assert se < 0.4 * np.hypot(a.se, b.se)


def test_a_feature_that_never_moves_is_welcome():
    draw, reference = world("gaussian")
    rows = draw(20 * WIDTH)
    rows[:, 0] = 0.0
    found = estimate_frechet([rows], reference)
    assert np.isfinite([found.value, found.se, found.corrected]).all()
