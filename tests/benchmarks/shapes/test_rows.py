import pytest

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.shapes.dataset import names_held_out
from jfeval.benchmarks.shapes.language import counted, with_article
from jfeval.benchmarks.shapes.rows import HELD_OUT_TASKS, TASKS, geneval_rows, heldout_rows
from jfeval.benchmarks.shapes.scene import HELD_OUT_PAIRS, SHAPES, bucket
from jfeval.errors import UserError


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_rows_come_in_the_official_order_with_different_prompts_from_test_scenes(seed):
    rows = geneval_rows(seed)
    assert [row.metadata["tag"] for row in rows] == [task for task in TASKS for _ in range(64)]
    assert len({row.metadata["prompt"] for row in rows}) == len(rows)
    assert {bucket(row.scene) for row in rows} == {"test"}
    assert not [row for row in rows if names_held_out(row.metadata["prompt"])]


def test_rows_are_fixed_by_the_seed():
    assert geneval_rows(3, 8) == geneval_rows(3, 8)
    assert geneval_rows(3, 8) != geneval_rows(4, 8)


def test_rows_have_the_official_form():
    for row in [*geneval_rows(2), *heldout_rows(2)]:
        metadata = row.metadata
        parse_row(metadata, where="row", classes=SHAPES)
        keys = ["tag", "include", "exclude", "prompt"] if metadata["tag"] == "counting" else ["tag", "include", "prompt"]
        assert list(metadata) == keys
        include = metadata["include"]
        assert len({item["class"] for item in include}) == len(include)
        assert prompt_body(metadata) in metadata["prompt"]


def prompt_body(metadata):
    include = metadata["include"]
    names = [f"{item['color']} {item['class']}" if "color" in item else item["class"] for item in include]
    if metadata["tag"] == "counting":
        count = include[0]["count"]
        assert 2 <= count <= 4
        assert metadata["exclude"] == [{"class": include[0]["class"], "count": count + 1}]
        return counted(names[0], count)
    if metadata["tag"] == "position":
        relation, index = include[1]["position"]
        assert index == 0
        return f"{with_article(names[1])} {relation} {with_article(names[0])}"
    return " and ".join(with_article(name) for name in names)


def test_held_out_rows_ask_for_held_out_pairs():
    rows = heldout_rows(5)
    assert [row.metadata["tag"] for row in rows] == [task for task in HELD_OUT_TASKS for _ in range(64)]
    for row in rows:
        asked = {(item["color"], item["class"]) for item in row.metadata["include"]}
        assert asked & HELD_OUT_PAIRS
        assert asked == set(row.scene.kinds)


def test_too_many_rows_are_refused():
    with pytest.raises(UserError, match="1 to 64"):
        geneval_rows(0, 65)
