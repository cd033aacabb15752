"""A request that cannot be carried out costs its own sample, with the reason stored; what is wrong with the model stops the run."""

import pytest

from jfeval.errors import BadRequest, UserError

TOO_LONG = "a question of 600 tokens leaves no room for an answer in the model's context of 512; shorten it"


class Reader:
    name = "reader"

    def __init__(self, error):
        self.error, self.asked = error, []

    def identity(self):
        return {"weights": "0" * 64}

    def answer(self, requests):
        self.asked.append(len(requests))
        if any(request.sample_id == "q5" for request in requests):
            raise self.error
        return ["yes" for _ in requests]


def test_a_question_that_is_too_long_fails_alone_with_its_reason(stubs, tmp_path):
    reader = Reader(BadRequest(TOO_LONG))
    store = stubs.run_and_score(tmp_path / "run", bench=stubs.Questions(rows=24), model=reader, max_failures=0.1)
    failed = {key: output.error for key, output in store.outputs().items() if output.error}
    assert list(failed) == ["q5"]
    assert TOO_LONG in failed["q5"]
    assert reader.asked == [8, *[1] * 8, 8, 8]
    counts = store.record().counts
    assert (counts.finished, counts.failed) == (23, 1)
    assert len(store.scores()) == 23  # never counted as wrong


def test_what_is_wrong_with_the_model_stops_the_run(stubs, tmp_path):
    with pytest.raises(UserError, match="the checkpoint has gone"):
        stubs.run_and_score(tmp_path / "run", bench=stubs.Questions(rows=24), model=Reader(UserError("the checkpoint has gone")))
