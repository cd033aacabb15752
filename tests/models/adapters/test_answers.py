import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.models.adapters.answers import ReadyAnswers, Settings, check_ids, load, read_answers
from jfeval.schema import TextRequest


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_answers_are_found_by_the_id_of_their_question(tmp_path):
    file = write(tmp_path / "a.jsonl", {"id": "b", "prediction": "No"}, {"question_id": 7, "text": " yes\n"})
    model = load(Settings(path=file))
    assert model.answer([TextRequest(question="?", sample_id="7"), TextRequest(question="!", sample_id="b")]) == [" yes\n", "No"]
    with pytest.raises(KeyError):
        model.answer([TextRequest(question="?", sample_id="c")])
    other = ReadyAnswers(write(tmp_path / "b.jsonl", {"id": "b", "prediction": "Yes"}))
    assert model.identity() != other.identity()


def test_a_list_is_taken_like_lines(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps([{"questionId": "1", "prediction": "red"}, {"questionId": "2", "prediction": ""}], indent=1)
    )
    assert read_answers(tmp_path / "a.json") == {"1": "red", "2": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "prediction": "x"}\n{"id": "a", "prediction": "y"}\n', "line 2, field id: 'a' is answered twice, first in"),
        ('{"id": "a", "prediction": "x"}\nno json\n', "line 2: not JSON"),
        ('\n{"id": "a"}\n', "line 2: no field prediction (or text, answer)"),
        ('{"prediction": "x"}', "line 1: no field id"),
        ('{"id": "a", "prediction": null}', "line 1, field prediction: expected a text"),
        ('{"id": true, "prediction": "x"}', "line 1, field id: expected a text"),
        ('["a"]', "item 1: expected an object"),
        ("[1, 2", "not JSON"),
        ("", "holds no answers"),
        ('{"id": "a", "prediction": "' + "x" * 100_001 + '"}', "at most 100000 characters"),
    ],
)
def test_a_bad_file_is_named_with_line_and_field(text, message, tmp_path):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(UserError) as caught:
        read_answers(tmp_path / "a.jsonl")
    assert str(tmp_path / "a.jsonl") in str(caught.value)
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "a.jsonl", tmp_path / "none.jsonl"):
        with pytest.raises(UserError, match="cannot be read"):
            read_answers(path)
    with pytest.raises(UserError, match="--set path=FILE"):
        load(Settings())


def test_too_few_and_too_many_answers_are_named(tmp_path):
    check_ids(tmp_path, {"a": "", "b": ""}, ["b", "a"])
    with pytest.raises(UserError, match=r"too few: 2 of 3 questions have no answer, such as 'b', 'c'\. `jfeval data prompts`"):
        check_ids(tmp_path, {"a": ""}, ["a", "b", "c"])
    with pytest.raises(UserError, match=r"too few: 1 of 1 .*'b'; too many: 2 answers are to no question, such as 'a', 'c'"):
        check_ids(tmp_path, {"a": "", "c": ""}, ["b"])


TEXT = st.characters(blacklist_categories=["Cs"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.dictionaries(st.text(TEXT, min_size=1), st.text(TEXT), min_size=1))
def test_any_answers_come_back_as_they_were_written(answers, tmp_path):
    rows = [{"id": key, "prediction": text} for key, text in answers.items()]
    assert read_answers(write(tmp_path / "a.jsonl", *rows)) == answers
