import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.gqa_rules import SCORERS, Grouped, distribution, matches, steps, words

ORDER = ("official", "llava", "lmms-eval", "vlmevalkit-nov2024")


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("red", "red", (True, True, True, True)),
        ("red", "Red", (False, True, True, True)),
        ("red", "red.", (False, True, True, False)),
        ("red", "red...", (False, True, True, False)),
        ("red", "red .", (False, False, False, False)),
        ("red", "red!", (False, False, True, False)),
        ("red", '"red"', (False, False, True, False)),
        ("red", " red", (False, True, True, True)),
        ("red", "red。", (False, False, False, False)),
        ("red", "the red", (False, False, False, False)),
        ("t-shirt", "tshirt", (False, False, True, False)),
        ("red", "", (False, False, False, False)),
        ("nan", "", (False, False, False, True)),
    ],
)
def test_each_scorer_compares_its_own_way(gold, answer, right):
    assert tuple(matches(SCORERS[name], answer, gold) for name in ORDER) == right


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text == text.lower().strip() and not text.endswith(".")))
def test_the_recorded_answer_itself_is_right(gold):
    assert matches(SCORERS["official"], gold, gold)
    assert matches(SCORERS["llava"], gold, gold)


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_texts_can_be_compared(answer, gold):
    for matcher in SCORERS.values():
        assert matches(matcher, answer, gold) in (True, False)


def test_steps_leave_out_existence_and_names():
    program = [("select", "chair (1)"), ("filter color", "red"), ("relate", "man,to the left of,s (2)"), ("query", "name"), ("exist", "?")]
    assert steps([{"operation": a, "argument": b} for a, b in program]) == 3
    assert words("Is  the bench\tred?") == 4


def rows(*triples):
    return [Grouped(group=group, gold=gold, said=said, cluster=i) for i, (group, gold, said) in enumerate(triples)]


def test_distribution_worked_by_hand():
    answered = rows(("color", "red", "red"), ("color", "red", "blue"), ("color", "blue", "green"), ("size", "big", "big"))
    # color: red 2 -> 1, blue 1 -> 1: 1/2 + 0, three questions; size: 0, one question
    assert distribution(answered).value == pytest.approx((3 * 0.5 + 1 * 0.0) / 4 / 100)
    assert distribution(rows(("color", "red", "red"), ("color", "blue", "blue"))).value == 0.0
    with pytest.raises(ValueError, match="at least one"):
        distribution([])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("rgb"), st.sampled_from("rgbx")), min_size=3, max_size=30))
def test_leaving_clusters_out_agrees_with_counting_anew(triples):
    listed = [Grouped(group=g, gold=a, said=s, cluster=i % 3) for i, (g, a, s) in enumerate(triples)]
    found = distribution(listed)
    without = [distribution([row for row in listed if row.cluster != left]).value for left in range(3)]
    mean = sum(without) / 3
    assert found.se == pytest.approx(math.sqrt(2 / 3 * sum((one - mean) ** 2 for one in without)), abs=1e-12)
    assert 0 <= found.ci_low <= found.value <= found.ci_high
