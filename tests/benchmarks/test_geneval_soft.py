import math

import pytest

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_soft import soft_score
from jfeval.benchmarks.scorers.colour import COLOURS


def soft(include, observation, exclude=()):
    row = parse_row({"tag": "counting", "include": include, "exclude": list(exclude), "prompt": "x"}, where="row")
    return soft_score(row, {"colors": {}, **observation}, where="seen")


def box(x, score):
    return [x, 0, x + 10, 10, score]


def test_counts_are_shares_of_what_is_asked():
    seen = {"detections": {"cup": [box(0, 0.5), box(20, 0.75), box(40, 0.25)]}}
    assert soft([{"class": "cup", "count": 1}], seen) == pytest.approx(0.75)
    assert soft([{"class": "cup", "count": 2}], seen) == pytest.approx((0.75 + 0.5) / 2)
    assert soft([{"class": "cup", "count": 4}], seen) == pytest.approx(1.5 / 4)
    assert soft([{"class": "dog", "count": 1}], seen) == 0.0
    assert soft([{"class": "cup", "count": 2}], seen, [{"class": "cup", "count": 3}]) == pytest.approx(((0.75 + 0.5) / 2 + 0.75) / 2)
    assert soft([{"class": "cup", "count": 2}], seen, [{"class": "cup", "count": 4}]) == pytest.approx(((0.75 + 0.5) / 2 + 1) / 2)


def test_colours_weigh_by_their_probability():
    include = [{"class": "cup", "count": 1, "color": "red"}]
    logits = [0.0] * 10
    logits[COLOURS.index("red")] = math.log(9.0)
    seen = {"detections": {"cup": [box(0, 0.8)]}, "colors": {"cup": ["red"]}, "color_logits": {"cup": [logits]}}
    assert soft(include, seen) == pytest.approx(0.8 * 9 / 18)
    assert soft(include, {**seen, "color_logits": {}}) == pytest.approx(0.8)
    assert soft(include, {**seen, "colors": {"cup": ["blue"]}, "color_logits": {}}) == 0.0
    assert soft(include, {**seen, "colors": {"cup": [""]}, "color_logits": {"cup": [[]]}}) == 0.0


def test_places_count_only_where_they_hold():
    include = [{"class": "dog", "count": 1}, {"class": "cup", "count": 1, "position": ["left of", 0]}]
    right = {"detections": {"dog": [box(50, 1.0)], "cup": [box(0, 0.5)]}}
    wrong = {"detections": {"dog": [box(0, 1.0)], "cup": [box(50, 0.5)]}}
    assert soft(include, right) == pytest.approx((1 + 0.5) / 2)
    assert soft(include, wrong) == pytest.approx((1 + 0) / 2)
    assert soft(include, {"detections": {"cup": [box(0, 0.5)]}}) == 0.0
