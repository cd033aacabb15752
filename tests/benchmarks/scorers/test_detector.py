import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.scorers.detector import instances, mask_boxes


def test_boxes_end_one_past_the_last_pixel():
    masks = np.zeros((2, 5, 6), bool)
    masks[0, 1:3, 2:5] = True
    assert mask_boxes(masks).tolist() == [[2, 1, 5, 3], [0, 0, 0, 0]]
    assert mask_boxes(masks).dtype == np.float32


def test_score_is_class_probability_times_mean_foreground():
    # two classes and "no object": exp gives 4, 2, 2 -> 0.5, 0.25 and 0.25 dropped
    classes = np.log(np.array([[4.0, 2.0, 2.0]]))
    # foreground 0.75 and 0.9 inside; a logit of exactly 0 lies outside
    masks = np.array([[[np.log(3.0), np.log(9.0)], [0.0, -5.0]]])
    found = instances(classes, masks)
    assert found.scores == pytest.approx([0.5 * 0.825, 0.25 * 0.825], rel=1e-5)
    assert found.labels.tolist() == [0, 1]
    assert found.boxes.tolist() == [[0, 0, 2, 1]] * 2
    assert found.masks[0].tolist() == [[True, True], [False, False]]


def test_one_query_may_fill_several_places_and_an_empty_mask_scores_nothing():
    classes = np.array([[5.0, 4.9, -9.0], [1.0, 0.0, 0.0]])
    masks = np.stack([np.full((2, 2), -1.0), np.full((2, 2), 2.0)])
    found = instances(classes, masks, max_per_image=3)
    assert len(found.scores) == 3
    assert found.scores[1:].tolist() == [0, 0]
    assert found.boxes[1:].tolist() == [[0, 0, 0, 0]] * 2


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"need logits \(Q, classes \+ 1\)"):
        instances(np.zeros((3, 4)), np.zeros((2, 5, 5)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_scores_fall_and_stay_probabilities(queries, classes, seed):
    rng = np.random.default_rng(seed)
    found = instances(rng.normal(size=(queries, classes + 1)) * 30, rng.normal(size=(queries, 4, 5)) * 200, max_per_image=7)
    assert len(found.scores) == min(7, queries * classes)
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
