import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.shapes.language import plural
from jfeval.benchmarks.shapes.questions import QuestionKind, questions
from jfeval.benchmarks.shapes.scene import COLORS, SHAPES, relation_holds, sample_scene, scene_rng

BINARY = ("existence", "relation", "verify_color", "logical")
cases = st.builds(
    lambda split, index: (sample_scene(scene_rng(0, split, index), split), scene_rng(1, "words", index)),
    st.sampled_from(["train", "test", "heldout"]),
    st.integers(0, 10**6),
)


@given(case=cases)
@settings(max_examples=300, deadline=None)
def test_answers_are_true(case):
    scene, rng = case
    for question in questions(scene, rng, 8):
        assert question.answer == truth_of(scene, question), question


def called(scene, name):
    """Find what "star" or "red star" names."""
    return [thing for thing in scene.things if name in (thing.shape, f"{thing.color} {thing.shape}")]


def the(scene, name):
    found = called(scene, name)
    assert len(found) == 1
    return found[0]


def truth_of(scene, question):
    """Answer by an own reading of the question's words."""
    text = question.question.rstrip("?")
    words = re.findall(r"[a-z]+", text)
    shapes = [next(s for s in SHAPES if w in (s, plural(s))) for w in words if any(w in (s, plural(s)) for s in SHAPES)]
    colors = [w for w in words if w in COLORS]
    match = [t for t in scene.things if (not shapes or t.shape == shapes[0]) and (not colors or t.color == colors[0])]
    relations = re.findall(r"left of|right of|above|below", text)
    match question.kind:
        case "relation":
            first, second = re.fullmatch(rf"Is the (.+) {relations[0]} the (.+)", text).groups()
            return yes(relation_holds(the(scene, first), relations[0], the(scene, second)))
        case "choose_relation":
            first, second = re.fullmatch(rf"Is the (.+) {' or '.join(relations)} the (.+)", text).groups()
            held = [relation for relation in relations if relation_holds(the(scene, first), relation, the(scene, second))]
            assert len(held) == 1
            return held[0]
        case "related_color":
            target = the(scene, re.fullmatch(rf"What color is the object {relations[0]} the (.+)", text)[1])
            near = [t for t in scene.things if t is not target and relation_holds(t, relations[0], target)]
            assert len(near) == 1
            return near[0].color
        case "logical":
            there = [any(t.shape == shape for t in scene.things) for shape in shapes]
            return yes(all(there) if " and " in text else any(there))
        case "same_color":
            return yes(the(scene, shapes[0]).color == the(scene, shapes[1]).color)
        case "verify_color":
            return yes(the(scene, shapes[0]).color == colors[0])
        case "choose_color":
            assert len(set(colors)) == 2
            assert the(scene, shapes[0]).color in colors
            return the(scene, shapes[0]).color
        case "existence":
            return yes(match)
        case "count":
            return str(len(match))
    values = {getattr(t, question.kind) for t in match}
    assert len(values) == 1
    return values.pop()


def yes(right):
    return "yes" if right else "no"


def test_every_kind_is_asked_and_yes_is_as_frequent_as_no():
    kinds, answers = Counter(), Counter()
    for i in range(1500):
        rng = scene_rng(0, "train", i)
        for question in questions(sample_scene(rng, "train"), rng, 6):
            kinds[question.kind] += 1
            answers[question.kind, question.answer] += 1
    assert set(kinds) == set(QuestionKind.__args__)
    for kind in BINARY:
        assert answers[kind, "yes"] / kinds[kind] == pytest.approx(0.5, abs=0.06), kind
