import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.scorers.frechet import Accumulator, Moments, frechet_distance, moments_of
from jfeval.errors import UserError


def gaussian(mean, spread, n=100):
    return Moments(n=n, mean=np.array(mean, float), cov=np.diag(np.square(np.array(spread, float))))


def test_diagonal_gaussians_by_hand():
    a, b = gaussian([0, 0], [1, 2]), gaussian([3, 4], [2, 5])
    assert frechet_distance(a, b) == pytest.approx(25 + (1 - 2) ** 2 + (2 - 5) ** 2)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_it_agrees_with_a_general_square_root():
    rng = np.random.default_rng(0)
    a, b = (moments_of([rng.standard_normal((200, 12)) @ rng.standard_normal((12, 12))]) for _ in range(2))
    root = scipy.linalg.sqrtm(a.cov @ b.cov)
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.cov + b.cov - 2 * np.real(root))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_rank_deficient_covariances_are_welcome():
    rng = np.random.default_rng(1)
    flat = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 10))
    a = moments_of([flat])
    moved = moments_of([flat + 2.0])
    assert frechet_distance(a, moved) == pytest.approx(40.0, rel=1e-6)
    assert frechet_distance(moments_of([np.zeros((5, 3))]), moments_of([np.ones((5, 3))])) == pytest.approx(3.0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**16))
def test_parts_add_up_to_the_whole(sizes, seed):
    rows = np.random.default_rng(seed).standard_normal((sum(sizes) + 2, 4)) + 1000.0
    cuts = np.cumsum(sizes)
    parts = np.split(rows, cuts)
    merged = Accumulator()
    for part in parts:
        one = Accumulator()
        one.add(part)
        merged.merge(one)
    for found in (moments_of(parts), merged.moments()):
        assert found.n == len(rows)
        np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.cov, np.cov(rows, rowvar=False), rtol=1e-8, atol=1e-10)


def test_bad_features_are_named():
    with pytest.raises(UserError, match="at least 2 images, got 1"):
        moments_of([np.zeros((1, 3))])
    with pytest.raises(UserError, match="features of 1 images are not finite"):
        moments_of([np.array([[0.0, np.nan], [1.0, 2.0]])])
    with pytest.raises(UserError, match="width 2 cannot join features of width 3"):
        moments_of([np.zeros((4, 3)), np.zeros((4, 2))])
    with pytest.raises(UserError, match="of different networks or recipes"):
        frechet_distance(gaussian([0], [1]), gaussian([0, 0], [1, 1]))
