"""Hand-worked pairs of boxes. Squares of side 10, so the dead zone of two of them is 0.1 * (10 + 10) = 2 pixels per axis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.scorers.relations import iou, relations


def square(x, y, side=10):
    return [x, y, x + side, y + side]


@pytest.mark.parametrize(
    ("a", "expected"),
    [
        (square(0, 20), ("left of",)),  # apart (-20, 0) -> revised (-18, 0) / 20 = -0.9
        (square(40, 20), ("right of",)),
        (square(20, 0), ("above",)),
        (square(20, 40), ("below",)),
        (square(0, 0), ("above", "left of")),  # (-18, -18) / 28.28 = -0.64 on both axes
        (square(40, 40), ("below", "right of")),
        (square(20, 20), ()),  # same place
        (square(22, 20), ()),  # exactly the dead zone
        (square(23, 20), ()),  # 1 / 3 = 0.33
        (square(24, 20), ()),  # 2 / 4 = 0.5, not above
        (square(25, 20), ("right of",)),  # 3 / 5 = 0.6
        (square(24, 24), ()),  # 2 / 5.66 = 0.35 on both axes
    ],
)
def test_squares_around_a_square_at_20_20(a, expected):
    assert relations(a, square(20, 20)) == expected


def test_the_length_of_the_unrevised_offset_divides():
    # apart (-6, 4), revised (-4, 2): divided by 7.21 gives (-0.55, 0.28); by the revised length 4.47 it would be (-0.89, 0.45)
    assert relations(square(14, 24), square(20, 20)) == ("left of",)
    # apart (-5, 5), revised (-3, 3): 3 / 7.07 = 0.42, although 3 / 4.24 would be 0.71
    assert relations(square(15, 25), square(20, 20)) == ()


def test_the_threshold_widens_the_dead_zone():
    assert relations(square(30, 20), square(20, 20), threshold=0.1) == ("right of",)
    assert relations(square(30, 20), square(20, 20), threshold=0.3) == ()


def test_comparisons_are_float32():
    # the revised offset is 2.0000001 / 4 in float64, and 0.5 exactly in float32
    assert relations([24 + 1e-7, 20, 34 + 1e-7, 30], square(20, 20)) == ()


def test_overlap_counts_one_pixel_more():
    assert iou([0, 0, 9, 9], [0, 0, 9, 9]) == 1.0
    # 10 x 10 each, sharing 5 x 10: 50 / 150
    assert iou([0, 0, 9, 9], [5, 0, 14, 9]) == pytest.approx(1 / 3, abs=1e-7)
    # neighbours that touch share a column of one pixel: 10 / 190
    assert iou([0, 0, 9, 9], [9, 0, 18, 9]) == pytest.approx(10 / 190, abs=1e-7)
    assert iou([0, 0, 9, 9], [10, 0, 19, 9]) == 0.0
    assert iou([0, 0, -1, -1], [0, 0, -1, -1]) == 0.0


def test_a_box_of_three_numbers_is_refused():
    with pytest.raises(ValueError, match="at least 4 numbers"):
        iou([0, 0, 1], [0, 0, 1, 1])


_CORNER = st.integers(-50, 50)
_SIDE = st.integers(1, 40)
_BOX = st.tuples(_CORNER, _CORNER, _SIDE, _SIDE).map(lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]])
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@given(_BOX, _BOX)
def test_swapping_the_boxes_swaps_the_relations(a, b):
    assert sorted(_OPPOSITE[name] for name in relations(a, b)) == list(relations(b, a))
    assert iou(a, b) == iou(b, a)
    assert 0.0 <= iou(a, b) <= 1.0


@given(_BOX, _BOX)
def test_scaling_by_two_changes_no_relation(a, b):
    assert relations(a, b) == relations([2 * v for v in a], [2 * v for v in b])
