from dataclasses import replace

from jfeval.schema import Counts, Metric, RunRecord, Score
from jfeval.summary import plain_lines, protocol_lines, verdict_lines

RECORD = RunRecord(
    name="r",
    model="m",
    benchmark="pope",
    edition="official",
    protocol="a",
    seed=0,
    batch_size=1,
    data_identity={"prompt": "paper"},
    fingerprint="f",
    counts=Counts(available=2, asked=2, finished=2, failed=0),
    started_at="",
)


def metric(name, value, protocol="a", **more):
    return Metric(name=name, protocol=protocol, value=value, n=2, clusters=2, ci_low=0.0, ci_high=1.0, **more)


def test_the_number_for_the_paper_is_marked_with_its_reason_in_the_official_edition_alone():
    numbers = [metric("f1", 0.5, task="random", paper="Because."), metric("mean_f1", 0.6, headline=True)]
    assert "paper: hold f1/random against the paper's number. Because." in plain_lines(RECORD, numbers)
    assert not [line for line in plain_lines(replace(RECORD, edition="shapes"), numbers) if line.startswith("paper")]
    assert "recipe prompt=paper" in plain_lines(RECORD, numbers)


def test_protocols_stand_side_by_side_with_their_spread():
    numbers = {
        "a": [metric("f1", 0.5, headline=True), metric("only", 0.1)],
        "b": [metric("f1", 0.75, "b"), metric("recall", 0.2, "b", task="x y")],
        "c": [metric("recall", 0.3, "c", task="x y", headline=True)],
    }
    assert protocol_lines(numbers) == [
        "protocols a b c spread",
        "f1 0.500 0.750 - 0.250",
        "recall/x_y - 0.200 0.300 0.100",
        "headline a f1 0.500 [0.00, 1.00]",
        "headline c recall/x y 0.300 [0.00, 1.00]",
    ]


def score(sample_id, correct):
    return Score(sample_id=sample_id, task="", cluster="", values={"correct": correct})


def test_answers_whose_verdict_changes_are_quoted_without_what_drives_a_terminal():
    verdicts = {"a": [score("1", 1.0), score("2", 1.0), score("3", 0.0)], "b": [score("1", 0.0), score("2", 1.0)]}
    lines = verdict_lines(verdicts, {"1": "Yes.\x1b[31m" + "x" * 500, "2": "Yes"})
    assert lines[0] == "verdicts: 1 of 3 answers change between protocols"
    assert lines[1].startswith("  1 'Yes.")
    assert lines[1].endswith("right under a")
    assert "\x1b" not in lines[1]
    assert len(lines[1]) < 200
    assert len(lines) == 2
    assert len(verdict_lines(verdicts, {}, shown=0)) == 1
