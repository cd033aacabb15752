"""Multiple-choice questions about scenes: right answers are right, wrong ones wrong, and options alone tell nothing."""

from collections import Counter
from functools import cache

import pytest

from jfeval.benchmarks.shapes.choices import KINDS, PLACES, PROPERTIES, choice_question, listed
from jfeval.benchmarks.shapes.language import plural
from jfeval.benchmarks.shapes.scene import CANVAS, HELD_OUT_PAIRS, SHAPES, SIZES, bucket


@cache
def drawn(kind):
    return [choice_question(kind, seed=5, index=index, stream="test") for index in range(16)]


def named(scene, words):
    """Find the one object that a colour and a shape name."""
    (found,) = (thing for thing in scene.things if f"{thing.color} {thing.shape}" == words)
    return found


def fits(kind, asked, option):
    """Tell whether an option is true of the scene, by other means than the maker's."""
    scene, question = asked.scene, asked.question.rstrip("?")
    if kind == "description":
        return option == listed(scene)
    if kind == "presence":
        return option in {f"{color} {shape}" for color, shape in scene.kinds}
    if kind == "color":
        return {option} == {thing.color for thing in scene.things if thing.shape == question.split()[-1]}
    if kind == "shape":
        return {option} == {thing.shape for thing in scene.things if thing.color == question.split()[-2]}
    if kind == "size":
        return named(scene, question.removeprefix("What size is the ")).size == option
    if kind == "property":
        (shape,) = (shape for shape, words in PROPERTIES.items() if question.endswith(words))
        return {option} == {thing.color for thing in scene.things if thing.shape == shape}
    if kind == "place":
        thing = named(scene, question.removeprefix("Where in the image is the "))
        return PLACES.index(option) == 2 * (thing.y > CANVAS / 2) + (thing.x > CANVAS / 2)
    if kind == "side":
        target, subject = (named(scene, words.split(" the ")[1]) for words in question.split(". "))
        dx, dy = subject.x - target.x, subject.y - target.y
        sides = {"to the left of it": -dx, "to the right of it": dx, "above it": -dy, "below it": dy}
        return sides[option] == max(sides.values())
    if kind == "larger":
        return SIZES[named(scene, option).size] == max(SIZES[named(scene, words).size] for words in asked.options)
    if kind == "nearest":
        start = named(scene, question.removeprefix("Which object is closest to the "))
        away = {words: (named(scene, words).x - start.x) ** 2 + (named(scene, words).y - start.y) ** 2 for words in asked.options}
        return away[option] == min(away.values())
    if kind == "count":
        (shape,) = (shape for shape in SHAPES if f" {plural(shape)} " in f"{question} ")
        return int(option) == sum(thing.shape == shape for thing in scene.things)
    gone = asked.hint.split()[1]
    return int(option) == sum(thing.shape != gone for thing in scene.things)


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_stated_option_is_true(kind):
    for asked in drawn(kind):
        assert [fits(kind, asked, option) for option in asked.options] == [place == asked.answer for place in range(len(asked.options))]


@pytest.mark.parametrize("kind", KINDS)
def test_options_differ_and_scenes_are_of_the_test_split(kind):
    for asked in drawn(kind):
        assert 2 <= len(asked.options) <= 4
        assert len(set(asked.options)) == len(asked.options)
        assert bucket(asked.scene) == "test"


def test_no_option_names_a_held_out_pair():
    for color, shape in HELD_OUT_PAIRS:
        assert not any(f"{color} {shape}" in option for kind in KINDS for asked in drawn(kind) for option in asked.options)


@pytest.mark.parametrize("kind", ["place", "side", "count", "removal", "size"])
def test_no_answer_is_favoured_where_answers_are_few(kind):
    answers = [asked.options[asked.answer] for asked in (choice_question(kind, seed=9, index=i, stream="t") for i in range(60))]
    counts = Counter(answers)
    assert len(counts) == (3 if kind == "size" else 4)
    assert max(counts.values()) <= 30


def test_a_question_depends_on_its_arguments_alone():
    assert choice_question("color", seed=5, index=3, stream="test") == drawn("color")[3]
    assert choice_question("color", seed=5, index=3, stream="other") != drawn("color")[3]
