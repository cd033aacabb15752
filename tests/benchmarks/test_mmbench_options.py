"""Option rules: hand-worked answers for each published tool, and what holds for every answer."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.mmbench_options import (
    NA_TOKENS,
    OPTION_RULES,
    REFUSALS,
    as_stored,
    infer,
    letter_candidates,
    text_candidates,
)
from jfeval.errors import UserError

ANIMALS = {"A": "a cat", "B": "a dog", "C": "a horse", "D": "a fish"}
NOV, HEAD, LMMS = OPTION_RULES

answers = st.text(alphabet=st.sampled_from(string.ascii_letters + " .()[],:;!*#{}\"'?\n\u3000。（）选"), max_size=60)
letter_sets = st.lists(st.text(string.ascii_lowercase + " ", min_size=1, max_size=8), min_size=2, max_size=4).map(
    lambda texts: dict(zip("ABCD", texts, strict=False))
)


@pytest.mark.parametrize(
    ("answer", "nov", "head", "lmms"),
    [
        ("B", "B", "B", "B"),
        ("b", "", "", ""),
        ("(B)", "B", "B", "B"),
        ("**B**", "B", "B", ""),
        ("[B]", "B", "B", ""),
        ("B;", "B", "B", ""),
        ("'B'", "", "", ""),
        ("B?", "", "", ""),
        ("B/C", "", "", ""),
        ("选B", "", "", ""),
        ("选项 B", "B", "B", "B"),
        ("答案：B", "", "", ""),
        ("B or C", "", "", ""),
        ("E", "", "", "E"),  # lmms-eval tries A to E whatever the row has
        ("A man stands there", "A", "A", ""),  # four tokens: lmms-eval takes A for the article
        ("A man stands", "A", "A", "A"),
        ("B is right because of what can be seen", "B", "", "B"),  # HEAD wants the letter near the end
        ("The answer is dog", "", "D", ""),
        ("the answer is **c**", "", "C", ""),
        ("The answer is B. Not C", "", "B", "C"),  # two letters: HEAD falls back on what is stated; bare for lmms-eval is only C
        ("Z", "Z", "Z", ""),
        ("I saw a dog", "B", "B", "B"),  # by its text
        ("a dog and a cat", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_answers_worked_by_hand(answer, nov, head, lmms):
    found = tuple(infer(answer, ANIMALS, rules).letter for rules in OPTION_RULES)
    expected = (nov, head, lmms)
    assert found == expected


@pytest.mark.parametrize("phrase", REFUSALS)
def test_a_refusal_wins_over_a_letter_in_vlmevalkit_only(phrase):
    answer = f"{phrase} B"
    assert [infer(answer, ANIMALS, rules).letter for rules in (NOV, HEAD)] == ["Z", "Z"]
    assert infer(answer, ANIMALS, NOV).by == "refusal"
    assert infer(f"{phrase.lower()} B", ANIMALS, NOV).letter == "B"  # case matters
    assert infer(answer, ANIMALS, LMMS).by != "refusal"


@pytest.mark.parametrize("rules", OPTION_RULES)
def test_an_api_failure_has_no_letter(rules):
    assert letter_candidates("Failed to obtain answer via API B", ANIMALS, rules) == ()


def test_overlapping_options_cancel_out():
    pets = {"A": "cat", "B": "cat and dog"}
    assert infer("cat and dog", pets, NOV).letter == ""
    assert infer("cat and dog", pets, NOV).ambiguous
    assert infer("cat", pets, NOV).letter == "A"


def test_head_gives_up_on_texts_in_long_answers():
    answer = "There is a dog somewhere in this picture, beside several other things"
    assert len(answer) > 2 * sum(map(len, ANIMALS.values()))
    assert [infer(answer, ANIMALS, rules).letter for rules in OPTION_RULES] == ["B", "", "B"]


def test_a_missing_option_is_the_text_nan_for_lmms_eval():
    fruits = {"A": "banana", "B": "apple"}
    assert infer("banana", fruits, NOV).letter == "A"
    assert infer("banana", fruits, LMMS).letter == ""  # C and D are "nan", which "banana" holds
    assert infer("banana", fruits, LMMS).ambiguous


def test_the_spreadsheet_makes_nan_of_answers_that_pandas_takes_for_missing():
    assert {as_stored(token) for token in NA_TOKENS} == {"nan"}
    assert as_stored("none") == "none"
    assert as_stored(" None") == " None"
    assert infer(as_stored(""), {"A": "an", "B": "x"}, NOV).letter == "A"  # "an" is part of "nan"


def test_pandas_reads_these_tokens_as_missing():
    pd = pytest.importorskip("pandas")
    import io

    for token in NA_TOKENS - {""}:
        assert pd.read_csv(io.StringIO(f"x\tA\n1\t{token}\n"), sep="\t")["A"].isna().all(), token


def test_unknown_rules_are_named():
    with pytest.raises(UserError, match="unknown option rules 'vlmevalkit'; did you mean"):
        infer("A", ANIMALS, "vlmevalkit")


@given(answers, letter_sets, st.sampled_from(OPTION_RULES))
def test_nothing_but_an_option_or_a_refusal_is_inferred(answer, choices, rules):
    found = infer(answer, choices, rules)
    allowed = {*"ABCDE", "", "Z"} if rules == LMMS else {*choices, "", "Z"}
    assert found.letter in allowed
    assert found.final == (found.letter or "Z")
    assert (found.by == "nothing") == (found.letter == "")
    assert not (found.ambiguous and found.letter)


@given(letter_sets, st.sampled_from(OPTION_RULES), st.data())
def test_a_bare_letter_is_read_by_everyone(choices, rules, data):
    letter = data.draw(st.sampled_from(sorted(choices)))
    around = data.draw(st.sampled_from(["{}", " {} ", "{}.", "({})", "{}\n", "\u3000{}"]))
    assert infer(around.format(letter), choices, rules).letter == letter


@given(answers, letter_sets)
def test_head_infers_by_letter_what_november_infers_or_what_is_stated(answer, choices):
    old, new = letter_candidates(answer, choices, NOV), letter_candidates(answer, choices, HEAD)
    if len(new) == 1 and tuple(new) != tuple(old):
        assert "answer" in answer.lower()


@given(answers, letter_sets, st.sampled_from((NOV, HEAD)))
def test_the_replaced_signs_make_no_difference_to_the_letter_rule(answer, choices, rules):
    if "answer" in answer.lower():
        return
    spaced = answer.translate(str.maketrans(dict.fromkeys(".()[],:;!*#{}", " ")))
    assert list(letter_candidates(answer, choices, rules)) == list(letter_candidates(spaced, choices, rules))


@given(answers, letter_sets, st.sampled_from(OPTION_RULES))
def test_the_text_rule_ignores_case(answer, choices, rules):
    assert list(text_candidates(answer.upper(), choices, rules)) == list(text_candidates(answer.lower(), choices, rules))


@given(answers, letter_sets, st.sampled_from(OPTION_RULES), st.data())
def test_renaming_options_renames_the_text_that_is_found(answer, choices, rules, data):
    """Rotating the options rotates what the text rule finds, as circular evaluation takes for granted."""
    letters = sorted(choices)
    shift = data.draw(st.integers(0, len(letters) - 1))
    moved = {letters[(place + shift) % len(letters)]: choices[letter] for place, letter in enumerate(letters)}
    before = [choices[letter] for letter in text_candidates(answer, choices, rules) if letter in choices]
    after = [moved[letter] for letter in text_candidates(answer, moved, rules) if letter in moved]
    assert sorted(before) == sorted(after)
