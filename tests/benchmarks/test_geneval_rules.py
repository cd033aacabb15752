"""Hand-worked verdicts. `at(x, y, score)` is a detection of 10 x 10 pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_rules import ImageResult, Thresholds, group_of, judge_image, read_observation, summarise
from jfeval.errors import UserError


def at(x, y, score=0.95):
    return [x, y, x + 10, y + 10, score]


def judge(tag, include, detections, *, exclude=(), colors=None, thresholds=None):
    row = parse_row({"tag": tag, "include": list(include), "exclude": list(exclude), "prompt": "p"}, where="row")
    seen = read_observation({"detections": detections, "colors": colors or {}}, where="image")
    return judge_image(row, seen, thresholds or Thresholds())


CAT = {"class": "cat", "count": 1}


class TestCount:
    TWO = ({"class": "cat", "count": 2},)
    NOT_THREE = ({"class": "cat", "count": 3},)

    @pytest.mark.parametrize(
        ("found", "reason"), [(1, "expected cat>=2, found 1"), (2, ""), (3, "expected cat<3, found 3"), (40, "expected cat<3, found 16")]
    )
    def test_counting_is_exact_and_capped_at_16(self, found, reason):
        verdict = judge("counting", self.TWO, {"cat": [at(i, i) for i in range(found)]}, exclude=self.NOT_THREE)
        assert (verdict.correct, verdict.reason) == (not reason, reason)
        assert len(verdict.kept["cat"]) == min(found, 16)

    def test_counting_rows_ask_for_scores_above_0_9_of_every_class(self):
        detections = {"cat": [at(0, 0, 0.95), at(30, 0, 0.91), at(60, 0, 0.89)], "dog": [at(0, 0, 0.8)]}
        verdict = judge("counting", self.TWO, detections, exclude=self.NOT_THREE)
        assert verdict.correct
        assert verdict.kept == {"cat": (0, 1)}
        assert verdict.exact

    def test_too_few_is_found_as_the_cut_list_counts(self):
        assert judge("single_object", [{"class": "cat", "count": 3}], {"cat": [at(0, 0)]}).reason == "expected cat>=3, found 1"

    def test_extra_objects_are_forgiven_but_not_exact(self):
        verdict = judge("single_object", [CAT], {"cat": [at(0, 0), at(30, 30)], "dog": [at(50, 50)]})
        assert verdict.correct
        assert not verdict.exact

    def test_two_objects_both_missing_gives_two_lines(self):
        verdict = judge("two_object", [CAT, {"class": "dog", "count": 1}], {})
        assert verdict.reason == "expected cat>=1, found 0\nexpected dog>=1, found 0"
        assert not verdict.exact


class TestThreshold:
    def test_is_strict_in_float32(self):
        just = float(np.float32(0.3))  # 0.30000001192...: above 0.3 as a Python float, equal to it as float32
        assert just > 0.3
        assert not judge("single_object", [CAT], {"cat": [at(0, 0, just)]}).correct
        assert judge("single_object", [CAT], {"cat": [at(0, 0, float(np.nextafter(np.float32(0.3), np.float32(1))))]}).correct

    def test_kept_is_best_first_and_ties_come_in_reverse_order(self):
        verdict = judge("single_object", [CAT], {"cat": [at(0, 0, 0.5), at(1, 0, 0.9), at(2, 0, 0.5), at(3, 0, 0.1)]})
        assert verdict.kept == {"cat": (1, 2, 0)}

    def test_overlap_is_forgiven_unless_asked(self):
        boxes = {"cat": [[0, 0, 9, 9, 0.9], [0, 0, 9, 9, 0.8], [5, 0, 14, 9, 0.7], [9, 0, 18, 9, 0.6]]}
        assert len(judge("single_object", [CAT], boxes).kept["cat"]) == 4
        # against the best: overlaps 1, 1/3, 10/190; the third is dropped at 1/3 (not under the limit), the fourth stays
        assert judge("single_object", [CAT], boxes, thresholds=Thresholds(max_overlap=1 / 3)).kept["cat"] == (0, 3)

    def test_the_cap_comes_before_overlap(self):
        boxes = {"cat": [at(0, 0, 0.9), at(0, 0, 0.8), at(50, 50, 0.7)]}
        assert judge("single_object", [CAT], boxes, thresholds=Thresholds(max_overlap=0.5, max_objects=2)).kept["cat"] == (0,)


class TestColour:
    RED = ({"class": "cat", "count": 1, "color": "red"},)

    def test_only_the_best_are_looked_at(self):
        detections = {"cat": [at(0, 0, 0.5), at(20, 0, 0.9)]}
        assert judge("colors", self.RED, detections, colors={"cat": ["blue", "red"]}).correct
        verdict = judge("colors", self.RED, detections, colors={"cat": ["red", "blue"]})
        assert verdict.reason == "expected red cat>=1, found 0 red; and 1 blue"

    def test_found_colours_are_listed_in_the_fixed_order(self):
        include = [{"class": "cat", "count": 4, "color": "red"}]
        detections = {"cat": [at(i * 20, 0, 0.9) for i in range(4)]}
        verdict = judge("colors", include, detections, colors={"cat": ["white", "red", "green", "white"]})
        assert verdict.reason == "expected red cat>=4, found 1 red; and 1 red, 1 green, 2 white"

    def test_colours_that_the_judge_left_out_are_an_error(self):
        with pytest.raises(UserError, match="reported no colours for 'cat'"):
            judge("colors", self.RED, {"cat": [at(0, 0)]})


class TestPosition:
    LEFT = (CAT, {"class": "dog", "count": 1, "position": ["left of", 0]})

    def test_subject_relative_to_target(self):
        assert judge("position", self.LEFT, {"cat": [at(50, 0)], "dog": [at(0, 0)]}).correct
        verdict = judge("position", self.LEFT, {"cat": [at(0, 0)], "dog": [at(50, 0)]})
        assert verdict.reason == "expected dog left of target, found right of target"

    def test_two_names_of_a_diagonal_are_sorted(self):
        verdict = judge("position", self.LEFT, {"cat": [at(0, 50)], "dog": [at(50, 0)]})
        assert verdict.reason == "expected dog left of target, found above and right of target"

    def test_no_relation_leaves_the_place_empty(self):
        assert judge("position", self.LEFT, {"cat": [at(0, 0)], "dog": [at(0, 0)]}).reason == "expected dog left of target, found  target"

    def test_a_missing_target(self):
        assert judge("position", self.LEFT, {"dog": [at(0, 0)]}).reason == "expected cat>=1, found 0\nno target for dog to be left of"

    def test_every_candidate_must_hold_for_every_target(self):
        include = [{"class": "cat", "count": 2}, {"class": "dog", "count": 2, "position": ["left of", 0]}]
        cats = [at(50, 0), at(80, 0)]
        assert judge("position", include, {"cat": cats, "dog": [at(0, 0), at(10, 0)]}).correct
        verdict = judge("position", include, {"cat": cats, "dog": [at(0, 0, 0.9), at(65, 0, 0.8)]})
        assert verdict.reason == "expected dog left of target, found right of target"

    def test_position_is_not_judged_where_the_colour_fails(self):
        include = [CAT, {"class": "dog", "count": 1, "color": "red", "position": ["left of", 0]}]
        verdict = judge("position", include, {"cat": [at(0, 0)], "dog": [at(50, 0)]}, colors={"dog": ["blue"]})
        assert verdict.reason == "expected red dog>=1, found 0 red; and 1 blue"


class TestExclude:
    def test_is_judged_on_all_that_is_kept_and_last(self):
        verdict = judge("two_object", [CAT], {"dog": [at(0, 0)]}, exclude=({"class": "dog", "count": 1},))
        assert verdict.reason == "expected cat>=1, found 0\nexpected dog<1, found 1"


@pytest.mark.parametrize(
    ("observation", "match"),
    [
        ([], "needs 'detections' and 'colors'"),
        ({"colors": {}}, "needs 'detections'"),
        ({"detections": {"cat": [[1, 2, 3, 4]]}}, "detections of 'cat': each must be"),
        ({"detections": {"cat": [[1, 2, 3, 4, float("nan")]]}}, "all finite"),
        ({"detections": {"cat": [[1, 2, 3, 1e300, 0.5]]}}, "all finite"),
        ({"detections": {"cat": "boxes"}}, "detections of 'cat'"),
        ({"detections": {"cat": [at(0, 0)]}, "colors": {"cat": []}}, "one colour name for each of its 1"),
        ({"detections": {}, "colors": {"cat": ["red"]}}, "each of its 0"),
    ],
)
def test_an_observation_that_is_none_is_refused(observation, match):
    with pytest.raises(UserError, match=match) as caught:
        read_observation(observation, where="sample 00001, image 2")
    assert "sample 00001, image 2" in str(caught.value)


def test_classes_without_detections_are_not_kept():
    assert judge("single_object", [CAT], {"cat": [], "dog": [at(0, 0, 0.2)]}).kept == {}


class TestSummary:
    RESULTS = (
        ImageResult(tag="counting", group="a", correct=True),
        ImageResult(tag="counting", group="a", correct=False),
        ImageResult(tag="counting", group="b", correct=False),
        ImageResult(tag="colors", group="c", correct=True),
    )

    def test_numbers(self):
        summary = summarise(self.RESULTS)
        assert (summary.total_images, summary.total_prompts) == (4, 3)
        assert summary.correct_images == 0.5
        assert summary.correct_prompts == pytest.approx(2 / 3)
        assert {tag: (task.correct, task.n) for tag, task in summary.tasks.items()} == {"counting": (1, 3), "colors": (1, 1)}
        assert summary.overall == pytest.approx((1 / 3 + 1) / 2)

    def test_text_is_the_official_script_s(self):
        assert summarise(self.RESULTS).text() == (
            "Summary\n=======\nTotal images: 4\nTotal prompts: 3\n% correct images: 50.00%\n% correct prompts: 66.67%\n\n"
            "Task breakdown\n==============\ncounting         = 33.33% (1 / 3)\ncolors           = 100.00% (1 / 1)\n\n"
            "Overall score (avg. over tasks): 0.66667\n"
        )

    def test_nothing_to_sum_up_is_an_error(self):
        with pytest.raises(UserError, match="no judged images"):
            summarise([])

    def test_groups_are_equal_json_texts(self):
        row = {"tag": "counting", "include": [], "prompt": "p"}
        assert group_of(row) == group_of(dict(row))
        assert group_of(row) != group_of({**row, "prompt": "q"})
        assert group_of(row) != group_of({"prompt": "p", "tag": "counting", "include": []})


_SCORES = st.lists(st.floats(0, 1, width=32), max_size=25)


@given(_SCORES, st.integers(1, 18))
def test_counting_agrees_with_counting_the_scores_above_the_threshold(scores, count):
    above = min(16, sum(np.float32(score) > np.float32(0.9) for score in scores))
    verdict = judge(
        "counting",
        [{"class": "cat", "count": count}],
        {"cat": [at(0, 0, score) for score in scores]},
        exclude=({"class": "cat", "count": count + 1},),
    )
    assert verdict.correct == (above == count)
    assert verdict.exact == verdict.correct
