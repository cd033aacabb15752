import numpy as np
import pytest

from jfeval.benchmarks.scorers.kernel_distance import kernel_distance, kid_of_subsets, paired_kernel_distance
from jfeval.errors import UserError


def kernel(x, y):
    return (float(x @ y) / len(x) + 1) ** 3


def by_hand(a, b):
    within = [sum(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1)) for s in (a, b)]
    return sum(within) - 2 * np.mean([[kernel(x, y) for y in b] for x in a])


def test_both_forms_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((5, 3)) + 1
    assert kernel_distance(a, b).value == pytest.approx(by_hand(a, b), rel=1e-12)
    mean, deviation = kid_of_subsets(a[:5], b, subsets=3, size=5, rng=np.random.RandomState(0))
    assert (mean, deviation) == (pytest.approx(by_hand(a[:5], b), rel=1e-12), pytest.approx(0, abs=1e-12))


def test_the_error_bar_is_the_spread_over_draws():
    rng = np.random.default_rng(1)
    found = [kernel_distance(rng.standard_normal((150, 4)), rng.standard_normal((200, 4)) * 1.2 + 0.5) for _ in range(300)]
    assert np.mean([one.se for one in found]) == pytest.approx(np.std([one.value for one in found]), rel=0.15)


def test_two_sets_of_one_distribution_have_an_error_too():
    rng = np.random.default_rng(4)
    found = [kernel_distance(rng.standard_normal((100, 4)), rng.standard_normal((80, 4))) for _ in range(300)]
    assert np.mean([abs(one.value) < 1.96 * one.se for one in found]) > 0.93
    assert np.mean([one.se for one in found]) < 2 * np.std([one.value for one in found])


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((50, 4)), rng.standard_normal((41, 4))
    whole = kernel_distance(a, b)
    monkeypatch.setattr("jfeval.benchmarks.scorers.kernel_distance._BLOCK", 7)
    assert kernel_distance(a, b).value == pytest.approx(whole.value, rel=1e-12)
    assert kernel_distance(a, b).se == pytest.approx(whole.se, rel=1e-12)


def test_sets_too_small_are_refused():
    few = np.zeros((3, 2))
    with pytest.raises(UserError, match="subsets of 4 images cannot be drawn from 3 and 3"):
        kid_of_subsets(few, few, subsets=1, size=4, rng=np.random.RandomState(0))
    with pytest.raises(UserError, match="features of one width"):
        kernel_distance(few, np.zeros((3, 5)))


def test_pairs_that_share_something_make_no_bias():
    """Both sides are of one distribution and share half their noise; brute force over draws."""
    rng = np.random.default_rng(0)

    def draw(n=60, width=6):
        shared = rng.standard_normal((n, width))
        return tuple((shared + rng.standard_normal((n, width))) / np.sqrt(2) for _ in range(2))

    found = [paired_kernel_distance(*draw()) for _ in range(300)]
    values = np.array([one.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(300)
    assert np.mean([one.se for one in found]) == pytest.approx(values.std(), rel=0.25)
    unpaired = np.array([kernel_distance(*draw()).value for _ in range(300)])
    assert unpaired.mean() < -3 * unpaired.std() / np.sqrt(300)


def test_identical_pairs_are_at_nought_and_others_are_not():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40, 5))
    assert paired_kernel_distance(rows, rows).value == pytest.approx(0, abs=1e-12)
    moved = paired_kernel_distance(rows + 0.8, rows)
    assert moved.value > 3 * moved.se > 0
    with pytest.raises(UserError, match="as many rows on each side, got 40 and 39"):
        paired_kernel_distance(rows, rows[1:])
