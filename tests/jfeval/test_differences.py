import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from jfeval.differences import against_printed, holm, mcnemar, p_value, paired_difference, stratified_difference, verdict
from jfeval.stats import clustered_mean


def test_a_paired_difference_is_the_paired_t_interval():
    first, second = [0.1, 0.4, 0.35, 0.8, 0.6, 0.2], [0.3, 0.5, 0.30, 0.9, 0.9, 0.25]
    got = paired_difference(first, second, range(6))
    expected = scipy_stats.ttest_rel(second, first).confidence_interval(0.95)
    assert got.value == pytest.approx(np.mean(second) - np.mean(first))
    assert (got.ci_low, got.ci_high) == pytest.approx((expected.low, expected.high))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]), st.integers(0, 5)), min_size=1, max_size=40))
def test_a_paired_difference_changes_sign_with_its_order(rows):
    first, second, clusters = ([row[k] for row in rows] for k in range(3))
    one, other = paired_difference(first, second, clusters), paired_difference(second, first, clusters)
    assert one.value == pytest.approx(-other.value)
    assert (one.ci_low, one.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))
    assert -1 <= one.ci_low <= one.value + 1e-12
    assert one.value - 1e-12 <= one.ci_high <= 1


def test_no_difference_among_many_still_leaves_room():
    got = paired_difference([1.0] * 300, [1.0] * 300, range(300))
    assert got.value == 0
    assert got.ci_high == pytest.approx(1 - 0.025 ** (1 / 300))
    assert got.ci_low == -got.ci_high


def test_pairs_must_match():
    with pytest.raises(ValueError, match="cannot pair"):
        paired_difference([1.0], [1.0, 0.0], [0])


def test_p_is_the_paired_t_tests():
    first, second = [0.1, 0.4, 0.35, 0.8, 0.6, 0.2], [0.3, 0.5, 0.30, 0.9, 0.9, 0.25]
    assert p_value(paired_difference(first, second, range(6))) == pytest.approx(scipy_stats.ttest_rel(second, first).pvalue)
    assert p_value(paired_difference([1.0, 0.0], [1.0, 0.0], range(2))) == 1.0
    assert p_value(paired_difference([1.0], [0.0], range(1))) is None


def test_clusters_are_paired_not_rows():
    """Four images of a prompt that move together are one piece of evidence."""
    first, second = [0.0] * 40, [1.0] * 8 + [0.0] * 32
    as_rows, as_prompts = (paired_difference(first, second, clusters) for clusters in (range(40), [i // 4 for i in range(40)]))
    assert as_prompts.se > 1.9 * as_rows.se
    means = [scipy_stats.tmean(second[i : i + 4]) for i in range(0, 40, 4)]
    assert p_value(as_prompts) == pytest.approx(scipy_stats.ttest_1samp(means, 0).pvalue)
    assert (verdict(as_rows), verdict(as_prompts)) == ("better", "not separated")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_sign_test(gained, lost, same):
    first = [0.0] * gained + [1.0] * lost + [1.0] * same
    second = [1.0] * gained + [0.0] * lost + [1.0] * same
    expected = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(first, second, range(len(first))) == pytest.approx(expected)


def test_mcnemar_refuses_what_is_not_independent_or_not_a_verdict():
    with pytest.raises(ValueError, match="independent rows"):
        mcnemar([1.0, 0.0], [1.0, 1.0], ["a", "a"])
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        mcnemar([0.5], [1.0], ["a"])


def test_holm_worked_by_hand_and_never_smaller():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(ps):
    rejected = set()
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[i] * (len(ps) - rank) > 0.05:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(ps)) if p <= 0.05} == rejected


def test_tasks_put_together_weigh_by_size_and_their_own_means_are_no_error():
    one = paired_difference([0.0] * 30, [1.0] * 15 + [0.0] * 15, range(30))
    other = paired_difference([0.0, 1.0] * 30, [1.0, 0.0] * 15 + [0.0, 1.0] * 15, range(60))
    both = stratified_difference([one, other])
    assert both.value == pytest.approx((15 + 0) / 90)
    assert both.se == pytest.approx(math.hypot(one.se * 30 / 90, other.se * 60 / 90))
    assert stratified_difference([one]) is one
    still = paired_difference([1.0] * 40, [1.0] * 40, range(40))
    assert stratified_difference([still, still]).ci_high == pytest.approx(1 - 0.025 ** (1 / 80))
    assert stratified_difference([one, still]).se > one.se * 30 / 70


def test_differences_cover_the_truth_on_clusters():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(800):
        chance = np.repeat(rng.beta(2, 1, 50), 4)
        first = (rng.random(200) < chance).astype(float)
        second = (rng.random(200) < chance * 0.9).astype(float)
        got = paired_difference(first.tolist(), second.tolist(), [i // 4 for i in range(200)])
        hits += got.ci_low <= -0.1 * 2 / 3 <= got.ci_high
    assert 0.93 <= hits / 800 <= 0.975


# against a printed number


@pytest.mark.parametrize(
    ("value", "se_seed", "printed", "expected"),
    [
        (0.634, 0.0, "0.63", "reproduced"),  # it rounds to it
        (0.636, 0.0, "0.63", "above"),
        (0.60, 0.01, "0.63", "reproduced"),  # 0.025 beyond rounding, noise 1.96 * sqrt(2) * 0.01 = 0.0277
        (0.597, 0.01, "0.63", "below"),  # 0.028 beyond
        (0.60, None, "0.63", "unknown"),
        (0.631, None, "0.63", "reproduced"),
    ],
)
def test_a_printed_number_is_reproduced_within_its_rounding_and_the_noise_of_two_runs(value, se_seed, printed, expected):
    assert against_printed(value, se_seed, printed).verdict == expected
    assert against_printed(value, se_seed, f"{float(printed) * 100:.0f}", scale=100).verdict == expected


def test_two_runs_of_one_model_reproduce_each_other_95_times_in_100():
    """2,000 pairs of runs on the same 100 prompts; the printed one keeps three decimals."""
    rng = np.random.default_rng(4)
    chance = rng.beta(1.4, 0.6, 100)
    items = np.repeat(np.arange(100), 4).tolist()
    agree = 0
    for _ in range(1000):
        measured, other = (rng.binomial(1, chance[:, None], (100, 4)).astype(float) for _ in range(2))
        found = clustered_mean(measured.ravel().tolist(), items, repeats=items)
        agree += against_printed(found.value, found.se_seed, f"{other.mean():.3f}").verdict == "reproduced"
    assert 0.93 <= agree / 1000 <= 0.975
