import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval import seeds
from jfeval.seeds import LEAST_PAIRS, compare_seeds, crossed_bootstrap, sign_flip

NUMBERS = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 3))


def test_sign_flips_by_hand():
    # Sums of +-1 +-2 +-3: 6 4 2 0 0 -2 -4 -6.
    assert sign_flip([1.0, 2.0, 3.0]) == 1 / 8
    assert sign_flip([-1.0, 2.0, 3.0]) == 2 / 8
    assert sign_flip([1.0, 2.0, -3.0]) == 5 / 8
    assert sign_flip([-1.0, -2.0, -3.0]) == 1.0
    assert sign_flip([0.0, 0.0]) == 1.0


@given(st.lists(NUMBERS, min_size=1, max_size=8))
def test_it_is_the_share_of_all_patterns(differences):
    observed = sum(differences)
    patterns = [
        sum(s * abs(d) for s, d in zip(signs, differences, strict=True)) for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    expected = sum(p >= observed - 1e-9 for p in patterns) / len(patterns)
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip(differences) >= 2.0 ** -len(differences)


def test_more_pairs_than_can_be_listed_are_counted_exactly_in_two_halves():
    """With n pairs of one size the sum is the count of a coin: a binomial tail."""
    heads = sum(math.comb(30, k) for k in range(21, 31)) / 2**30
    assert sign_flip([1.0] * 21 + [-1.0] * 9) == pytest.approx(heads, rel=1e-12)
    assert compare_seeds([0.1 + 0.001 * k for k in range(21)]).p_above == 2.0**-21
    assert compare_seeds([0.1 + 0.001 * k for k in range(21)]).verdict == "supported"


def test_of_still_more_pairs_patterns_are_drawn(monkeypatch):
    differences = np.random.default_rng(3).normal(0.25, 1.0, 16)
    exact = sign_flip(differences)
    monkeypatch.setattr(seeds, "_MOST_PAIRS", 15)
    drawn = sign_flip(differences)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / seeds._DRAWS))
    assert drawn == sign_flip(differences)
    heads = sum(math.comb(60, k) for k in range(38, 61)) / 2**60
    assert sign_flip([1.0] * 38 + [-1.0] * 22) == pytest.approx(heads, abs=5 * math.sqrt(heads / seeds._DRAWS))
    assert sign_flip([1.0] * 60) == 1 / (1 + seeds._DRAWS)


@pytest.mark.parametrize("n", range(1, LEAST_PAIRS))
def test_few_pairs_never_resolve_anything(n):
    found = compare_seeds([0.5 + 0.001 * k for k in range(n)])
    assert found.verdict == "not resolved"
    assert (found.smallest is None) == (n < 2)


def test_six_clear_pairs_resolve_either_way():
    up = [0.10, 0.12, 0.11, 0.09, 0.13, 0.10]
    assert compare_seeds(up).verdict == "supported"
    assert compare_seeds([-d for d in up]).verdict == "contradicted"
    assert compare_seeds(up, threshold=0.2).verdict == "contradicted"
    assert compare_seeds(up, threshold=0.105).verdict == "not resolved"
    assert compare_seeds([-d for d in up], threshold=-0.2).verdict == "supported"  # non-inferiority
    assert compare_seeds(up).p_above == 1 / 64
    assert compare_seeds([*up[:5], -0.01]).verdict == "not resolved"


def test_interval_and_smallest_visible_difference_by_hand():
    found = compare_seeds([0.1, 0.2, 0.3])
    error = 0.1 / math.sqrt(3)
    assert found.mean == pytest.approx(0.2)
    assert found.ci_high == pytest.approx(0.2 + 4.302653 * error, rel=1e-5)  # t(0.975, 2)
    assert found.smallest == pytest.approx((4.302653 + 1.060660) * error, rel=1e-5)  # t(0.8, 2)


@given(st.lists(NUMBERS, min_size=6, max_size=9), st.floats(-0.5, 0.5).map(lambda x: round(x, 2)))
def test_the_two_directions_never_both_hold(differences, threshold):
    found = compare_seeds(differences, threshold=threshold)
    assert found.p_above + found.p_below >= 1 - 1e-9
    flipped = compare_seeds([-d for d in differences], threshold=-threshold)
    assert {found.verdict, flipped.verdict} in ({"not resolved"}, {"supported", "contradicted"})


def test_crossed_bootstrap_is_wider_than_either_source_of_noise_alone():
    rng = np.random.default_rng(0)
    seeds, prompts = rng.normal(0, 0.1, (8, 1)), rng.normal(0, 0.3, (1, 50))
    low, high = crossed_bootstrap(0.2 + seeds + prompts, draws=2000)
    assert low < 0.2 + seeds.mean() + prompts.mean() < high
    only_seeds = crossed_bootstrap(np.broadcast_to(0.2 + seeds, (8, 50)), draws=2000)
    only_prompts = crossed_bootstrap(np.broadcast_to(0.2 + prompts, (8, 50)), draws=2000)
    assert high - low > max(only_seeds[1] - only_seeds[0], only_prompts[1] - only_prompts[0])
    assert crossed_bootstrap([[0.25, 0.25], [0.25, 0.25]], draws=10) == (0.25, 0.25)


def test_crossed_bootstrap_holds_the_truth_about_as_often_as_it_says():
    """Two-way tables of eight seeds and forty prompts, both drawn anew each time."""
    rng, held, tables = np.random.default_rng(1), 0, 150
    for number in range(tables):
        drawn = 0.1 + 0.05 * rng.normal(size=(8, 1)) + 0.2 * rng.normal(size=(1, 40)) + 0.3 * rng.normal(size=(8, 40))
        low, high = crossed_bootstrap(drawn, draws=300, seed=number)
        held += low <= 0.1 <= high
    assert 0.87 <= held / tables <= 0.99  # 95 %, less what a bootstrap of eight seeds loses, within three standard errors


@given(st.integers(0, 99), st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_crossed_bootstrap_moves_with_its_table_and_does_not_mind_its_order(seed, shift):
    table = np.random.default_rng(seed).normal(size=(4, 9))
    low, high = crossed_bootstrap(table, draws=200)
    assert low <= high
    assert crossed_bootstrap(table + shift, draws=200) == pytest.approx((low + shift, high + shift))
    assert crossed_bootstrap(-table, draws=200) == pytest.approx((-high, -low))


@pytest.mark.parametrize("wrong", [[], [math.nan]])
def test_nothing_to_compare_is_refused(wrong):
    with pytest.raises(ValueError, match="finite"):
        compare_seeds(wrong)
    with pytest.raises(ValueError, match=r"seeds by prompts|truth"):
        crossed_bootstrap([])
