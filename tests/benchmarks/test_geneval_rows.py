import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.benchmarks.geneval_rows import Exclude, Include, Row, parse_row, read_classes, read_rows
from jfeval.errors import UserError

CLASSES = ("cat", "dog", "tv remote")
FULL = {
    "tag": "position",
    "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 2, "color": "red", "position": ["left of", 0]}],
    "exclude": [{"class": "dog", "count": 3}],
    "prompt": "a photo of two red dogs left of a cat",
}


def test_a_full_row():
    assert parse_row(FULL, where="here", classes=CLASSES) == Row(
        tag="position",
        prompt="a photo of two red dogs left of a cat",
        include=(Include(name="cat", count=1), Include(name="dog", count=2, color="red", position=("left of", 0))),
        exclude=(Exclude(name="dog", count=3),),
    )


def put(path, value):
    def change(row):
        *parents, last = path
        for key in parents:
            row = row[key]
        row[last] = value

    return change


def drop(*path):
    def change(row):
        *parents, last = path
        for key in parents:
            row = row[key]
        del row[last]

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put(["tag"], "postion"), ["field tag", "unknown value 'postion'", "did you mean 'position'", "color_attr"]),
        (put(["tag"], 3), ["field tag", "found 3", "one of single_object"]),
        (drop("tag"), ["field row", "'tag' is missing"]),
        (put(["exclud"], []), ["field row", "unknown key 'exclud'", "did you mean 'exclude'"]),
        (put(["include"], {}), ["field include", "found an object", "a list of objects"]),
        (put(["include"], []), ["field include", "found a list", "at least one object"]),
        (put(["include", 0], "cat"), ["field include[0]", "found cat", "an object with class, count"]),
        (put(["include", 0, "class"], "cot"), ["field include[0].class", "unknown class 'cot'", "did you mean 'cat'", "tv remote"]),
        (put(["include", 0, "class"], None), ["field include[0].class", "found null", "a class name"]),
        (put(["include", 0, "count"], 0), ["field include[0].count", "found 0", "a whole number from 1 to 1000"]),
        (put(["include", 0, "count"], True), ["field include[0].count", "found true"]),
        (put(["include", 0, "count"], 1.0), ["field include[0].count", "found 1.0"]),
        (put(["include", 0, "count"], 10**300), ["field include[0].count", "a very large number"]),
        (put(["include", 1, "color"], "rde"), ["field include[1].color", "did you mean 'red'", "black, blue"]),
        (put(["include", 1, "colour"], "red"), ["field include[1]", "unknown key 'colour'", "did you mean 'color'"]),
        (put(["include", 1, "position"], "left of"), ["field include[1].position", "[relation, index"]),
        (put(["include", 1, "position"], ["left", 0]), ["field include[1].position[0]", "did you mean 'left of'"]),
        (put(["include", 1, "position"], ["left of", 1]), ["field include[1].position[1]", "found 1", "an index from 0 to 0"]),
        (put(["include", 1, "position"], ["left of", -1]), ["field include[1].position[1]", "found -1"]),
        (put(["include", 1, "position"], ["left of", "0"]), ["field include[1].position[1]", "found 0", "an index from 0 to 0"]),
        (put(["include", 0, "position"], ["left of", 0]), ["field include[0].position[1]", "the first item has nothing before it"]),
        (put(["exclude", 0, "color"], "red"), ["field exclude[0]", "unknown key 'color'"]),
        (drop("exclude", 0, "count"), ["field exclude[0]", "'count' is missing"]),
        (put(["prompt"], "  "), ["field prompt", "text of 1 to 2000 characters"]),
        (put(["prompt"], "x" * 5000), ["field prompt", "xxx..."]),
        (put(["prompt"], "a \ud800"), ["field prompt", "surrogates"]),
    ],
)
def test_each_mistake_names_place_field_and_what_is_allowed(change, parts):
    row = copy.deepcopy(FULL)
    change(row)
    with pytest.raises(UserError) as caught:
        parse_row(row, where="rows.jsonl, line 7", classes=CLASSES)
    for part in ["rows.jsonl, line 7", *parts]:
        assert part in str(caught.value)


def write(folder, lines, classes="cat\ndog\n"):
    (folder / "object_names.txt").write_text(classes, encoding="utf-8")
    (folder / "evaluation_metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def row_of(name, prompt="a photo"):
    return json.dumps({"tag": "single_object", "include": [{"class": name, "count": 1}], "prompt": prompt}, ensure_ascii=False)


def test_a_folder_is_read_in_order(tmp_path):
    published, rows = read_rows(write(tmp_path, [row_of("cat", "line\u2028separator"), row_of("dog"), ""]))
    assert [row.include[0].name for row in rows] == ["cat", "dog"]
    assert published[0] == json.loads(row_of("cat", "line\u2028separator"))


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([row_of("cat"), row_of("dgo")], ["evaluation_metadata.jsonl, line 2", "include[0].class", "did you mean 'dog'"]),
        ([row_of("cat"), "", row_of("dog")], ["line 2", "not a JSON object"]),
        ([row_of("cat")[:-5]], ["line 1", "not a JSON object"]),
        (["[" * 100_000], ["line 1", "not a JSON object"]),
        (["[]"], ["line 1", "field row", "found a list"]),
        ([""], ["line 1", "not a JSON object"]),
    ],
)
def test_a_bad_line_is_named(tmp_path, lines, parts):
    with pytest.raises(UserError) as caught:
        read_rows(write(tmp_path, lines))
    for part in parts:
        assert part in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"object_names\.txt is missing"):
        read_rows(tmp_path)
    write(tmp_path, [row_of("cat")])
    (tmp_path / "evaluation_metadata.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read_rows(tmp_path)


@pytest.mark.parametrize(("text", "match"), [("cat\ncat\n", "line 2: class named twice: 'cat'"), ("cat\n\ndog", "line 2: empty line")])
def test_class_names_are_checked(tmp_path, text, match):
    (tmp_path / "object_names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=match):
        read_classes(tmp_path / "object_names.txt")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_WORDS = st.sampled_from(["tag", "include", "exclude", "prompt", "class", "count", "color", "position", "cat", "red", "left of"])
_JSON = st.recursive(
    _SCALARS | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
_LIKELY = st.fixed_dictionaries(
    {"tag": st.just("counting") | _JSON, "include": st.lists(st.fixed_dictionaries({"class": _JSON, "count": _JSON}), max_size=2) | _JSON},
    optional={"exclude": _JSON, "prompt": _JSON, "other": _JSON},
)


@given(_JSON | _LIKELY)
def test_whatever_a_row_holds_it_is_a_row_or_a_user_error(data):
    try:
        row, message = parse_row(data, where="here", classes=CLASSES), ""
    except UserError as error:
        row, message = None, str(error)
    assert isinstance(row, Row) != bool(message)
    message.encode("utf-8")
    assert "\n" not in message
    assert len(message) < 600


_ITEM = st.fixed_dictionaries(
    {"class": st.sampled_from(CLASSES), "count": st.integers(1, 20)}, optional={"color": st.sampled_from(["red", "white"])}
)


@given(st.lists(_ITEM, min_size=1, max_size=4), st.text(min_size=1).filter(lambda s: s.strip() and s.isprintable()))
def test_every_well_formed_row_is_read(items, prompt):
    row = parse_row({"tag": "colors", "include": items, "prompt": prompt[:2000]}, where="here", classes=CLASSES)
    assert [(item.name, item.count, item.color) for item in row.include] == [(i["class"], i["count"], i.get("color")) for i in items]
