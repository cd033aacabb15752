from jfeval.schema import Metric, Score
from jfeval.sensitivity import changed_verdicts, side_by_side


def metric(name, value, task="", **more):
    return Metric(name=name, protocol="p", value=value, n=4, clusters=4, task=task, **more)


def test_numbers_that_several_protocols_have_stand_side_by_side():
    found = side_by_side(
        {
            "one": [metric("accuracy", 0.5, headline=True), metric("f1", 0.25, "random"), metric("only", 1.0)],
            "two": [metric("f1", 0.75, "random"), metric("accuracy", 0.5)],
            "three": [metric("f1", 0.5, "random")],
        }
    )
    assert [(one.name, one.task, list(one.found), one.spread) for one in found] == [
        ("accuracy", "", ["one", "two"], 0.0),
        ("f1", "random", ["one", "two", "three"], 0.5),
    ]


def score(sample_id, correct, index=0, **labels):
    return Score(sample_id=sample_id, task=f"t{index}", cluster=sample_id, index=index, values={"correct": correct}, labels=labels)


def test_an_answer_that_counts_in_several_tasks_is_one_answer_and_images_are_several():
    strict = [score("a", 0.0, 0, said="x"), score("a", 0.0, 1, said="x"), score("b", 1.0), score("b", 0.0, 1)]
    kind = [score("a", 1.0, 0, said="y"), score("a", 1.0, 1, said="y"), score("b", 1.0), score("b", 1.0, 1)]
    changed, total = changed_verdicts({"strict": strict, "kind": kind})
    assert total == 3
    assert [(one.sample_id, one.index, one.right, one.wrong) for one in changed] == [
        ("a", 0, ("kind",), ("strict",)),
        ("b", 1, ("kind",), ("strict",)),
    ]


def test_a_protocol_that_leaves_an_answer_out_does_not_change_its_verdict():
    left_out = Score(sample_id="c", task="t", cluster="c", values={"other": 1.0})
    changed, total = changed_verdicts({"one": [score("c", 0.0)], "two": [left_out], "three": []})
    assert (changed, total) == ([], 1)
