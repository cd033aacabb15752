import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from jfeval.stats import binomial_interval, clustered_mean, interval_of, mean_of, seed_error


def test_singleton_clusters_give_the_textbook_interval_of_a_mean():
    values = [0.1, 0.4, 0.35, 0.8, 0.6, 0.2]
    got = clustered_mean(values, range(6))
    expected = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert got.se == pytest.approx(scipy_stats.sem(values))
    assert (got.ci_low, got.ci_high) == pytest.approx((expected.low, expected.high))


def test_equal_clusters_equal_the_interval_over_cluster_means():
    values = [1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1]
    got = clustered_mean(values, [i // 4 for i in range(12)])
    assert got.se == pytest.approx(scipy_stats.sem([0.75, 0.25, 1.0]))
    assert (got.n, got.clusters, got.value) == (12, 3, pytest.approx(2 / 3))


def test_unequal_clusters_worked_by_hand():
    # mean 0.5; residual sums: a -> +1 (two of +.5), b -> -0.5 , c -> -0.5; 3/2 * (1 + .25 + .25) / 16
    got = clustered_mean([1, 1, 0, 0], ["a", "a", "b", "c"])
    assert got.se == pytest.approx(math.sqrt(3 / 2 * 1.5 / 16))


@pytest.mark.parametrize(("value", "end"), [(1.0, "ci_high"), (0.0, "ci_low")])
def test_all_equal_is_clopper_pearson_over_clusters_not_a_point(value, end):
    got = clustered_mean([value] * 40, [i // 4 for i in range(40)])
    width = 1 - 0.025 ** (1 / 10)
    assert getattr(got, end) == value
    assert got.ci_high - got.ci_low == pytest.approx(width)
    assert got.se > 0


@pytest.mark.parametrize("values", [[0.0, 1.0], [1.0, 1.0]])
def test_one_cluster_says_nothing_about_others(values):
    got = clustered_mean(values, ["a", "a"])
    for estimate in (got, mean_of([got, clustered_mean([0, 1], [0, 1])])):
        assert (estimate.se, estimate.ci_low, estimate.ci_high) == (None, 0.0, 1.0)


def test_strata_of_unequal_size_have_the_pooled_mean_and_less_spread():
    large, small = [1.0] * 27 + [0.0] * 3, [1.0] * 2 + [0.0] * 8
    pooled = clustered_mean(large + small, range(40))
    strata = [clustered_mean(large, range(30)), clustered_mean(small, range(10))]
    got = mean_of(strata, [30, 10])
    assert got.value == pytest.approx(pooled.value)
    assert got.se == pytest.approx(math.hypot(0.75 * strata[0].se, 0.25 * strata[1].se))
    assert got.se < pooled.se  # how many items each stratum has is not left to chance
    assert mean_of(strata, [3, 1]).se == pytest.approx(got.se)
    for wrong in ([1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="positive weight"):
            mean_of(strata, wrong)


def test_mean_of_two_strata_is_welch():
    a, b = [0.1, 0.5, 0.9, 0.4], [0.2, 0.3, 0.25, 0.8, 0.7]
    got = mean_of([clustered_mean(a, range(4)), clustered_mean(b, range(5))])
    welch = scipy_stats.ttest_ind(a, [-v for v in b], equal_var=False)  # the sum of means is the difference to the negated ones
    ci = welch.confidence_interval(0.95)
    assert (got.ci_low, got.ci_high) == pytest.approx((ci.low / 2, ci.high / 2))
    assert got.df == pytest.approx(welch.df)


def test_binomial_interval_equals_scipy():
    ci = scipy_stats.binomtest(7, 30).proportion_ci(0.95, method="exact")
    assert binomial_interval(7, 30) == pytest.approx((ci.low, ci.high))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 6)), min_size=1, max_size=60))
def test_intervals_hold_the_value_and_stay_in_range(rows):
    got = clustered_mean([value for value, _ in rows], [cluster for _, cluster in rows])
    assert 0 <= got.ci_low <= got.value + 1e-12
    assert got.value - 1e-12 <= got.ci_high <= 1
    assert got.ci_high > got.ci_low


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    a = clustered_mean([v for v, _ in rows], [c for _, c in rows])
    b = clustered_mean([v for v, _ in shuffled], [c for _, c in shuffled])
    assert a.value == pytest.approx(b.value)
    assert a.n == b.n
    if a.se is not None and b.se is not None and a.se > 1e-9:
        assert a.se == pytest.approx(b.se)


def test_intervals_cover_the_truth_under_clustering():
    """2,000 simulated benchmarks of 60 prompts x 4 images with strongly dependent images."""
    rng = np.random.default_rng(0)
    hits = 0
    clusters = np.repeat(np.arange(60), 4)
    for _ in range(2000):
        chance = np.repeat(rng.beta(1.4, 0.6, 60), 4)
        got = clustered_mean((rng.random(240) < chance).astype(float).tolist(), clusters.tolist())
        hits += got.ci_low <= 0.7 <= got.ci_high
    assert 0.93 <= hits / 2000 <= 0.97


def test_nothing_or_nan_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        clustered_mean([], [])
    with pytest.raises(ValueError, match="finite"):
        clustered_mean([math.nan], ["a"])
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


@pytest.mark.parametrize(("p", "dependence"), [(0.97, 0.1), (0.97, 0.3), (0.97, 0.6), (0.9, 0.3), (0.7, 0.3), (0.03, 0.3)])
def test_intervals_cover_the_truth_with_forty_clusters_at_the_edge_too(p, dependence):
    """4,000 simulated benchmarks of 40 prompts x 4 images each; beta-distributed chances with a correlation within prompts.

    97.1 % where images of a prompt are almost independent, and less elsewhere.
    """
    rng = np.random.default_rng(1)
    spread = (1 - dependence) / dependence
    right = rng.binomial(4, rng.beta(p * spread, (1 - p) * spread, (4000, 40))).astype(float)
    alike = {key: clustered_mean(*as_rows(key)) for key in {tuple(sorted(row)) for row in right.tolist()}}
    found = [alike[tuple(sorted(row))] for row in right.tolist()]
    assert 0.93 <= np.mean([e.ci_low <= p <= e.ci_high for e in found]) <= 0.975


def as_rows(counts):
    """Return values and clusters of prompts of which so many of four images are right."""
    values = [float(i < right) for right in counts for i in range(4)]
    return values, [i // 4 for i in range(len(values))]


def test_near_the_edge_the_interval_is_wilsons_for_the_design_effect_n():
    values, clusters = as_rows([4] * 30 + [3, 2, 0])
    got = clustered_mean(values, clusters)
    worth = round(got.value * (1 - got.value) / got.se**2, 9)
    t = scipy_stats.t.ppf(0.975, 32)
    for end in (got.ci_low, got.ci_high):  # Wilson's ends solve (value - end)^2 = t^2 end (1 - end) / n
        assert (got.value - end) ** 2 == pytest.approx(t**2 * end * (1 - end) / worth)
    mid = scipy_stats.binomtest(29, 30).proportion_ci(0.95, method="wilson")
    se = math.sqrt(29 / 30 * (1 / 30) / 30)
    assert interval_of(29 / 30, se, 1e9) == pytest.approx((mid.low, mid.high))


def test_the_error_over_noise_is_that_of_the_same_items_drawn_again():
    rng = np.random.default_rng(2)
    chance = rng.beta(1.4, 0.6, 60)
    drawn = rng.binomial(1, chance[None, :, None], (3000, 60, 4)).astype(float)
    truth = drawn.mean((1, 2)).std()
    items = np.repeat(np.arange(60), 4).tolist()
    estimates = [seed_error(one.ravel().tolist(), items) for one in drawn[:300]]
    assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(truth, rel=0.05)
    over_items = clustered_mean(drawn[0].ravel().tolist(), items, repeats=items)
    assert over_items.se_seed == estimates[0]
    assert over_items.se > 1.3 * over_items.se_seed


def test_the_error_over_noise_worked_by_hand():
    # a: variance 1/2 of two rows, b: 0 of two, c: one row with the mean variance 1/4; (2 * 1/2 + 2 * 0 + 1/4) / 25
    assert seed_error([1, 0, 1, 1, 0], list("aabbc")) == pytest.approx(math.sqrt(1.25 / 25))
    assert seed_error([1.0, 0.0], ["a", "b"]) is None
    halves = [clustered_mean([1, 0, 1, 1], list("aabb"), repeats=list("aabb")) for _ in range(2)]
    assert mean_of(halves).se_seed == pytest.approx(halves[0].se_seed / math.sqrt(2))
    assert mean_of([halves[0], clustered_mean([1, 0], [0, 1])]).se_seed is None
