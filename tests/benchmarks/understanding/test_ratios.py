import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.understanding.ratios import estimate, mean_ratio, ratio
from jfeval.stats import clustered_mean


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 4)), min_size=2, max_size=40))
def test_a_plain_mean_has_the_interval_of_the_clustered_mean(pairs):
    found = estimate(ratio((value, 1.0, cluster) for value, cluster in pairs))
    known = clustered_mean([value for value, _ in pairs], [cluster for _, cluster in pairs])
    assert (found.value, found.n, found.clusters) == (pytest.approx(known.value), known.n, known.clusters)
    assert (found.ci_low, found.ci_high) == (pytest.approx(known.ci_low, abs=1e-9), pytest.approx(known.ci_high, abs=1e-9))


def test_the_mean_of_the_same_rows_twice_is_no_surer_than_once():
    rng = random.Random(0)
    rows = [(float(rng.random() < 0.7), 1.0, i // 4) for i in range(80)]
    once, twice = estimate(ratio(rows)), estimate(mean_ratio([ratio(rows), ratio(rows)]))
    assert twice.se == pytest.approx(once.se)
    apart = estimate(mean_ratio([ratio(rows), ratio((top, bottom, -1 - cluster) for top, bottom, cluster in rows)]))
    assert apart.se == pytest.approx(once.se / math.sqrt(2), rel=0.02)


def test_intervals_of_f1_cover_the_truth_at_about_their_level():
    """400 draws of 60 images with 4 questions each, answers alike within an image; the truth comes from 40,000 images."""
    rng = random.Random(1)

    def images(count):
        for image in range(count):
            skill = rng.choice((0.6, 0.9))
            for question in range(4):
                yes = question % 2 == 0
                said = yes if rng.random() < skill else not yes
                yield 2.0 * (yes and said), float(said) + float(yes), image

    truth = ratio(images(40_000)).value
    inside = sum((e := estimate(ratio(images(60)))).ci_low <= truth <= e.ci_high for _ in range(400))
    assert 0.91 <= inside / 400 <= 0.98


def test_nothing_to_count_is_zero_and_says_that_nothing_is_known():
    found = estimate(ratio([(0.0, 0.0, 1), (0.0, 0.0, 2)]))
    assert (found.value, found.n, found.clusters, found.se, found.ci_low, found.ci_high) == (0.0, 0, 0, None, 0.0, 1.0)
    all_right = estimate(ratio((1.0, 1.0, i) for i in range(10)))
    assert (all_right.value, all_right.ci_high) == (1.0, 1.0)
    assert 0.6 < all_right.ci_low < 0.8
    with pytest.raises(ValueError, match="at least one"):
        mean_ratio([])
