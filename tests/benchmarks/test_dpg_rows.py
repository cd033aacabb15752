import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.dpg_rows import check_graph, parse_reference, read_items, read_prompts
from jfeval.errors import UserError

HEADER = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
CUPS = [
    '237,"Two cups, red.",,1,0,entity,whole,entity - whole (cups),Are there cups?',
    '237,"Two cups, red.",,2,"1, 1",a,c,"a - c (x, y)",Red?',
]


def write(folder, *rows, header=HEADER):
    path = folder / "dpg_bench.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def row(item="a", text="prompt", number="1", dependency="0", proposition="entity - whole (x)", question="Is it?"):
    return f'{item},"{text}",,{number},"{dependency}",b,d,"{proposition}",{question}'


def test_rows_of_an_item_become_its_questions(tmp_path):
    (item,) = read_items(write(tmp_path, *CUPS))
    assert (item.id, item.prompt) == ("237", "Two cups, red.")
    assert [(q.row, q.number, q.parents, q.category, q.broad) for q in item.questions] == [
        (0, 1, (), "entity - whole", "entity"),
        (1, 2, (1, 1), "a - c", "a"),
    ]


def test_a_reference_survives_json(tmp_path):
    (item,) = read_items(write(tmp_path, *CUPS))
    assert parse_reference(json.loads(json.dumps(item.reference())), where="here") == item.questions
    with pytest.raises(UserError, match="here: the stored questions"):
        parse_reference({"questions": [{"id": 1}]}, where="here")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(number="one")], r"line 2, column proposition_id: found 'one'"),
        ([row(number="0")], r"line 2, column proposition_id"),
        ([row(dependency="1;2")], r"line 2, column dependency: found '1;2'.*several with commas"),
        ([row(dependency="")], r"line 2, column dependency"),
        ([row(question="")], r"line 2, column question_natural_language"),
        ([row(proposition="(cat)")], r"line 2, column tuple.*category before the bracket"),
        ([row(), row(number="2", text="other")], r"line 3, column text: item 'a' has another prompt"),
        ([row() + ",more"], r"line 2: more fields"),
        (["a,prompt"], r"line 2: fewer fields"),
        (['a,"open'], r"cannot be read as UTF-8 CSV"),
        ([], r"holds no question"),
    ],
)
def test_broken_rows_are_named(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        read_items(write(tmp_path, *rows))


def test_a_missing_column_or_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no column proposition_id.*found 'item_id', 'text'"):
        read_items(write(tmp_path, "a,b", header="item_id,text,dependency,tuple,question_natural_language"))
    with pytest.raises(UserError, match="is missing; --data names a folder"):
        read_items(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(dependency="7")], "row 1, column dependency, item 'a': proposition 1 depends on 7, which the item does not have"),
        ([row(), row()], "row 2, column proposition_id, item 'a': proposition 1 stands there more than once"),
        ([row(dependency="2"), row(number="2", dependency="1")], "row 1, column dependency, item 'a': propositions 1, 2"),
    ],
)
def test_graphs_that_no_rule_can_decide_are_refused(tmp_path, rows, message):
    items = read_items(write(tmp_path, *rows))
    with pytest.raises(UserError, match=f"broken in 1 places; mend these rows of here.csv:\n  {message}"):
        check_graph(items, where="here.csv")


def test_a_parent_may_stand_after_its_child(tmp_path):
    check_graph(read_items(write(tmp_path, row(dependency="2"), row(number="2"))))


def test_prompt_files_take_the_place_of_the_texts(tmp_path):
    items = read_items(write(tmp_path, *CUPS))
    (tmp_path / "237.txt").write_text("Two cups.\n")
    (item,) = read_prompts(tmp_path, items)
    assert (item.prompt, item.questions) == ("Two cups.", items[0].questions)
    (tmp_path / "238.txt").write_text("Three cups.")
    with pytest.raises(UserError, match=r"0 items without a prompt file, 1 prompt files without questions \('238'\)"):
        read_prompts(tmp_path, items)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_with_a_reason(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "dpg_bench.csv"
    path.write_text(f"{HEADER}\n{text}\n", encoding="utf-8", errors="replace", newline="")
    try:
        items = read_items(path)
    except UserError as error:
        problem = str(error)
    else:
        problem = ""
        assert items
    assert not problem or str(path) in problem
