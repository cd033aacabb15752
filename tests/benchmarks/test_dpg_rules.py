import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.dpg_rows import Question
from jfeval.benchmarks.dpg_rules import Dropped, judge_picture, read_answers
from jfeval.errors import UserError


def questions(*parents, first=1, rows=None):
    """Questions 1, 2, ... with the parents given."""
    rows = rows or range(first, first + len(parents))
    return [
        Question(row=r, number=i, parents=p, category=f"c{i} - x", text=f"q{i}?")
        for i, (r, p) in enumerate(zip(rows, parents, strict=True), 1)
    ]


def counted(asked, answers, protocol):
    return list(judge_picture(asked, ["yes" if a == "y" else "no" for a in answers], protocol=protocol).counted.values())


def test_a_question_counts_only_after_its_parents():
    chain = questions((), (1,), (2,))
    for protocol in ("official", "fixed"):
        assert counted(chain, "yyy", protocol) == [True, True, True]
        assert counted(chain, "nyy", protocol) == [False, False, False]
        assert judge_picture(chain, ["yes", "no", "yes"], protocol=protocol).score == pytest.approx(1 / 3)


def test_a_later_parent_counts_with_its_raw_answer_in_the_official_script():
    forward = questions((2,), (3,), ())  # 1 waits for 2, whose own parent was not confirmed
    assert counted(forward, "yyn", "official") == [True, False, False]
    assert counted(forward, "yyn", "fixed") == [False, False, False]


def test_the_first_row_of_the_file_is_asked_in_fixed_alone():
    pair = questions((), (), first=0)
    assert judge_picture(pair, ["no", "yes"], protocol="official").score == 1.0
    assert judge_picture(pair, ["no", "yes"], protocol="fixed").score == 0.5
    with pytest.raises(Dropped, match="no row of this item counts"):
        judge_picture(pair[:1], ["yes"], protocol="official")


def test_only_the_last_run_of_rows_counts_in_the_official_script():
    split = questions((), (), (), rows=[3, 4, 9])
    assert judge_picture(split, ["yes", "yes", "no"], protocol="official").score == 0.0
    assert judge_picture(split, ["yes", "yes", "no"], protocol="fixed").score == pytest.approx(2 / 3)


def test_a_missing_parent_drops_the_prompt_only_where_the_walk_meets_it():
    broken = questions((), (1, 9))
    with pytest.raises(Dropped, match="proposition 2 depends on 9"):
        judge_picture(broken, ["yes", "yes"], protocol="official")
    assert counted(broken, "ny", "official") == [False, False]


def test_an_id_given_twice_keeps_its_first_place_and_takes_its_last_answer():
    twice = [Question(row=r, number=n, parents=(), category="c", text=f"r{r}") for r, n in [(1, 1), (2, 2), (3, 1)]]
    picture = judge_picture(twice, ["yes", "yes", "no"], protocol="official")
    assert list(picture.counted.items()) == [(1, False), (2, True)]
    assert picture.questions[1].text == "r3"


@pytest.mark.parametrize("answer", ["Yes", "yes ", "yes.", "", "no", "a dog"])
def test_only_yes_is_yes(answer):
    assert judge_picture(questions(()), [answer], protocol="official").score == 0.0


def test_the_reason_names_what_did_not_count():
    assert (
        judge_picture(questions((), (1,), ()), ["no", "yes", "yes"], protocol="fixed").reason == "no: q1?\na parent was not confirmed: q2?"
    )


def test_observations_that_are_no_answers_are_refused():
    assert read_answers({"answers": ["yes"]}, where="here") == ["yes"]
    for wrong in ({}, {"answers": "yes"}, {"answers": [1]}):
        with pytest.raises(UserError, match="here: an observation of dpg"):
            read_answers(wrong, where="here")
    with pytest.raises(UserError, match="1 answers for 2 questions"):
        judge_picture(questions((), ()), ["yes"], protocol="fixed")
    with pytest.raises(UserError, match="unknown protocol of dpg 'oficial'; did you mean 'official'"):
        judge_picture(questions(()), ["yes"], protocol="oficial")


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 8))
    order = draw(st.permutations(range(1, n + 1)))
    parents = {number: tuple(draw(st.sets(st.sampled_from(order[:i]), max_size=3))) if i else () for i, number in enumerate(order)}
    asked = [Question(row=i + 1, number=i + 1, parents=parents[i + 1], category="c", text="") for i in range(n)]
    return asked, [draw(st.booleans()) for _ in range(n)]


@given(graphs())
def test_fixed_counts_a_question_exactly_where_all_its_ancestors_are_confirmed(case):
    asked, yes = case

    def confirmed(number):
        return yes[number - 1] and all(confirmed(parent) for parent in asked[number - 1].parents)

    answers = ["yes" if one else "no" for one in yes]
    fixed = judge_picture(asked, answers, protocol="fixed")
    assert fixed.counted == {q.number: confirmed(q.number) for q in asked}
    official = judge_picture(asked, answers, protocol="official")
    assert all(official.counted[n] or not fixed.counted[n] for n in fixed.counted)
