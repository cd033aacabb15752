import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.pope_rules import (
    SCORERS,
    Answered,
    figures,
    llava,
    lmms_eval,
    official,
    vlmevalkit,
    vlmevalkit_stored,
    without_punctuation,
)

ANSWERS = st.one_of(st.text(), st.text(alphabet="yesnoYESNOt .,;!?/\n\u00a0=3"))


@pytest.mark.parametrize(
    ("answer", "by_official", "by_vlmevalkit", "by_lmms_eval"),
    [
        ("Yes", "yes", "yes", "yes"),
        ("no", "no", "no", "no"),
        ("NO", "yes", "no", "no"),
        ("nO", "yes", "no", "no"),
        ("No!", "yes", "no", "neither"),
        ('"No"', "yes", "no", "neither"),
        ("(No)", "yes", "no", "neither"),
        ("No:", "yes", "neither", "neither"),
        ("**No**", "yes", "neither", "neither"),
        ("No.", "no", "no", "neither"),
        ("Yes,", "yes", "yes", "neither"),
        ("\nNo", "yes", "no", "no"),
        ("No, there isn't", "no", "no", "neither"),
        ("There isn't", "yes", "neither", "neither"),
        ("I know", "yes", "neither", "neither"),
        ("", "yes", "neither", "neither"),
        ("not visible", "no", "neither", "neither"),
        ("Yes, and it is not big", "no", "yes", "neither"),
        ("Yes and no", "no", "neither", "neither"),
        ("Yes. No.", "yes", "neither", "neither"),
        ("It is hard to say. No.", "yes", "no", "neither"),
        ("3.5 No", "yes", "no", "neither"),
        ("No.Yes", "no", "neither", "neither"),
        ("No,there is nothing", "yes", "no", "neither"),
        ("yes/no", "yes", "neither", "neither"),
        ("Yes / No", "no", "neither", "neither"),
        ("No\u00a0way", "yes", "no", "neither"),
        ("是", "yes", "neither", "neither"),
        ("ＮＯ", "yes", "neither", "neither"),
    ],
)
def test_each_scorer_reads_an_answer_its_own_way(answer, by_official, by_vlmevalkit, by_lmms_eval):
    assert (official(answer), vlmevalkit(answer), lmms_eval(answer)) == (by_official, by_vlmevalkit, by_lmms_eval)


def test_llava_strips_before_it_reads_and_vlmevalkit_loses_formulas():
    assert (official("\nNo"), llava("\nNo")) == ("yes", "no")
    assert (vlmevalkit("=no"), vlmevalkit_stored("=no"), vlmevalkit_stored("no")) == ("no", "neither", "no")


@settings(deadline=None)
@given(ANSWERS)
def test_every_scorer_reads_any_text(answer):
    assert {read(answer) for read in SCORERS.values()} <= {"yes", "no", "neither"}
    assert official(answer) != "neither"


@settings(deadline=None)
@given(ANSWERS, ANSWERS)
def test_nothing_after_the_first_full_stop_counts_officially(answer, more):
    head = answer.replace(".", "")
    assert official(f"{head}.{more}") == official(head)


@settings(deadline=None)
@given(ANSWERS)
def test_what_lmms_eval_accepts_vlmevalkit_reads_alike(answer):
    if lmms_eval(answer) != "neither":
        assert vlmevalkit(answer) == lmms_eval(answer)


@settings(deadline=None)
@given(st.text(alphabet="yesnoYESNO ,.!"))
def test_case_matters_officially_only(answer):
    assert vlmevalkit(answer) == vlmevalkit(answer.upper())
    assert lmms_eval(answer) == lmms_eval(answer.upper())


@settings(deadline=None)
@given(ANSWERS)
def test_marks_are_gone_and_words_stay(answer):
    out = without_punctuation(answer)
    assert not set(out) & set(';/[]"{}()=+\\_-><@`,?!')
    kept = re.sub(r"\W|_", "", answer)
    assert re.sub(r"\W|_", "", out) == kept


def test_marks_next_to_a_space_join_what_they_part():
    assert without_punctuation("yes/no") == "yes no"
    assert without_punctuation("yes/no / no") == "yesno  no"
    assert without_punctuation("1,000 yes/no") == "1000 yesno"
    assert without_punctuation("3.5. no.") == "3.5 no"
    assert without_punctuation("." * 40) == "." * 8


ROWS = [("yes", "yes")] * 3 + [("yes", "no")] + [("no", "yes")] * 2 + [("no", "no")] * 2 + [("yes", "neither"), ("no", "neither")]


def rows(pairs):
    return [Answered(label=label, said=said, cluster=i) for i, (label, said) in enumerate(pairs)]


def test_figures_worked_by_hand():
    found = {name: one.value for name, one in figures(rows(ROWS), "vlmevalkit-head").items()}
    assert found == pytest.approx({"accuracy": 0.5, "precision": 3 / 5, "recall": 3 / 5, "f1": 3 / 5, "yes_ratio": 0.5})
    strict = {name: one.value for name, one in figures(rows(ROWS), "lmms-eval").items()}
    assert strict == pytest.approx({"accuracy": 0.5, "precision": 3 / 5, "recall": 3 / 4, "f1": 2 / 3, "yes_ratio": 0.5})


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), st.sampled_from(["yes", "no", "neither"])), min_size=1, max_size=40))
def test_f1_is_the_harmonic_mean_and_never_divides_by_zero(pairs):
    for scorer in SCORERS:
        found = {name: one.value for name, one in figures(rows(pairs), scorer).items()}
        assert all(0 <= value <= 1 for value in found.values())
        total = found["precision"] + found["recall"]
        assert math.isclose(found["f1"], 2 * found["precision"] * found["recall"] / total if total else 0.0, abs_tol=1e-12)
