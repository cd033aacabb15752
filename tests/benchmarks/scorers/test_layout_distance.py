import numpy as np
import pytest

from jfeval.benchmarks.scorers.layout_distance import GAUSS, layout_distance, layout_map
from jfeval.errors import UserError


def draw(rng, n, *, least=10, most=54):
    """Scenes of one to three objects, centres uniform in a square."""
    return [[tuple(rng.uniform(least, most, 2)) for _ in range(rng.integers(1, 4))] for _ in range(n)]


def test_one_object_has_length_one_wherever_it_stands():
    for centre in ((32, 32), (29.3, 34.1), (24, 40)):
        assert np.linalg.norm(layout_map([centre])) == pytest.approx(1, abs=0.02)
    apart = layout_map([(16, 16)]) @ layout_map([(48, 48)])
    near = layout_map([(32, 32)]) @ layout_map([(36, 32)])
    # two bumps of deviation s at distance d overlap by exp(-d^2 / 4 s^2)
    assert near == pytest.approx(np.exp(-(4**2) / (4 * 8**2)), abs=0.02)
    assert apart == pytest.approx(np.exp(-(32**2 + 32**2) / (4 * 8**2)), abs=0.01)
    assert not layout_map([]).any()


def test_the_kernel_of_equal_maps_is_one():
    maps = np.stack([layout_map([(20, 20), (40, 44)]), layout_map([(20, 20)])])
    np.testing.assert_allclose(np.diag(GAUSS.pairs(maps, maps)), GAUSS.own(maps))
    assert GAUSS.pairs(maps, maps)[0, 1] == pytest.approx(np.exp(-1 / 2), abs=0.03)


def test_intervals_hold_nought_for_one_world_and_leave_it_out_for_two():
    rng = np.random.default_rng(0)
    same = [layout_distance(draw(rng, 150), draw(rng, 150)) for _ in range(60)]
    held = np.mean([abs(one.value) <= 1.96 * one.se for one in same])
    assert held >= 0.87
    moved = layout_distance(draw(rng, 150, most=30), draw(rng, 150))
    assert moved.value > 4 * moved.se
    together = layout_distance([[(20, 20), (44, 44)], [(44, 20), (20, 44)]] * 75, [[(20, 20), (44, 20)], [(20, 44), (44, 44)]] * 75)
    assert together.value > 4 * together.se  # the places are the same on average; how they stand together is not


def test_one_scene_is_too_few():
    with pytest.raises(UserError, match="at least 2 scenes with a reference each, got 1 and 2"):
        layout_distance([[]], [[], []])
