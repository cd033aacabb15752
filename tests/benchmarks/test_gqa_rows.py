import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jfeval.benchmarks.gqa import Gqa
from jfeval.benchmarks.gqa_rows import read_folder, read_questions
from jfeval.benchmarks.understanding.base import Settings
from jfeval.errors import UserError

_SPEC = importlib.util.spec_from_file_location("jfeval_test_files", Path(__file__).parent / "understanding" / "files.py")
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)
b64, png, write_tsv = files.b64, files.png, files.write_tsv

IMAGES = {"n100": png((250, 0, 0)), "n200": png((0, 250, 0))}


def questions():
    """Return three questions in the official form."""
    return {
        "900000001": {
            "semantic": [
                {"operation": "select", "dependencies": [], "argument": "ladder (0)"},
                {"operation": "query", "dependencies": [0], "argument": "color"},
            ],
            "entailed": [],
            "question": "What color is the ladder?",
            "imageId": "n100",
            "isBalanced": True,
            "groups": {"global": "color", "local": "10q-ladder_color"},
            "answer": "green",
            "types": {"detailed": "attributeQuery", "semantic": "attr", "structural": "query"},
        },
        "900000002": {
            "semantic": [
                {"operation": "select", "dependencies": [], "argument": "canoe (-) "},
                {"operation": "exist", "dependencies": [0], "argument": "?"},
            ],
            "question": "Is there a canoe?",
            "imageId": "n100",
            "isBalanced": True,
            "groups": {"global": None, "local": "10-canoe"},
            "answer": "no",
            "types": {"detailed": "exist", "semantic": "obj", "structural": "verify"},
        },
        "900000003": {
            "semantic": [{"operation": "select", "dependencies": [], "argument": "boat (3)"}],
            "question": "Is the boat red or blue?",
            "imageId": "n200",
            "isBalanced": False,
            "groups": {"global": "color", "local": None},
            "answer": "blue",
            "types": {"detailed": "chooseAttr", "semantic": "attr", "structural": "choose"},
        },
    }


def official(folder, change=None):
    rows = questions()
    if change is not None:
        change(rows["900000002"])
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(rows))
    (folder / "images").mkdir()
    for name, data in IMAGES.items():
        (folder / "images" / f"{name}.jpg").write_bytes(data)
    return folder


def hub(folder, images=IMAGES):
    for name in ("instructions", "images"):
        (folder / f"testdev_balanced_{name}").mkdir()
    listed = [{"id": key, **row} for key, row in questions().items()]
    pq.write_table(pa.Table.from_pylist(listed), folder / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet")
    pictures = [{"id": name, "image": {"bytes": data, "path": None}} for name, data in images.items()]
    pq.write_table(pa.Table.from_pylist(pictures), folder / "testdev_balanced_images" / "testdev-00000-of-00001.parquet")
    return folder


def tsv(folder):
    rows = [(0, b64(IMAGES["n100"]), "What color is the ladder?", "green"), (1, "0", "Is there a canoe?", "no")]
    rows.append((2, b64(IMAGES["n200"]), "Is the boat red or blue?", "blue"))
    write_tsv(folder / "GQA_TestDev_Balanced.tsv", rows, header=("index", "image", "question", "answer"))
    return folder


FORMS = {"official": official, "hub": hub, "tsv": tsv}


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_gives_the_same_questions(form, tmp_path):
    rows = read_folder(FORMS[form](tmp_path), any_size=True)
    assert [(row.question, row.answer, row.reader()) for row in rows] == [
        (row["question"], row["answer"], IMAGES[row["imageId"]]) for row in questions().values()
    ]
    if form == "tsv":
        assert {(row.kind, row.group, row.steps) for row in rows} == {("", "", None)}
        assert len({row.image for row in rows}) == 2
        return
    assert [(row.id, row.image, row.kind, row.semantic, row.group, row.steps, row.balanced) for row in rows] == [
        ("900000001", "n100", "open", "attr", "color", 2, True),
        ("900000002", "n100", "binary", "obj", "", 1, True),
        ("900000003", "n200", "binary", "attr", "color", 1, False),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_samples_carry_what_scoring_needs(form, tmp_path):
    samples = Gqa(Settings(any_size=True)).samples("official", seed=0, data=FORMS[form](tmp_path))
    assert [sample.request.separator + sample.request.question for sample in samples] == [
        f"{row['question']}\nAnswer the question using a single word or phrase." for row in questions().values()
    ]
    assert samples[0].cluster == samples[1].cluster != samples[2].cluster
    if form != "tsv":
        assert samples[0].reference["types"] == questions()["900000001"]["types"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": None}, "field answer"),
        ({"question": "x" * 3000}, "...; allowed: text of 1 to 2000 characters"),
        ({"imageId": 4}, "field imageId"),
        ({"imageId": "../n100"}, "field imageId: '../n100' is not a bare file name"),
        ({"imageId": "n999"}, "field imageId: no n999.jpg in"),
        ({"isBalanced": "yes"}, "field isBalanced: expected true or false"),
        ({"types": {"structural": "verfy", "semantic": "obj"}}, "field types.structural: unknown type 'verfy'; did you mean 'verify'"),
        ({"types": []}, "field types: expected an object"),
        ({"groups": "color"}, "field groups: expected an object"),
        ({"semantic": [{"operation": "select"}]}, "field semantic: expected operation and argument"),
        ({"semantic": "select"}, "field semantic: expected a list"),
    ],
)
def test_a_bad_question_is_named(fields, message, tmp_path):
    official(tmp_path, change=lambda row: row.update(fields))
    with pytest.raises(UserError) as caught:
        read_folder(tmp_path, any_size=True)
    assert "question 900000002" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"1": {"question": "a"}, "1": {"question": "b"}}', '{"1": 7}'])
def test_a_file_of_another_form_is_refused(text, tmp_path):
    (tmp_path / "q.json").write_text(text)
    with pytest.raises(UserError, match=r"q\.json"):
        read_questions(tmp_path / "q.json")


def test_what_is_missing_is_named_with_what_gets_it(tmp_path):
    with pytest.raises(UserError, match=r"no published form of GQA.*`jfeval data fetch gqa`"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match=r"holds 3 questions, GQA's balanced testdev has 12578.*any_size=true"):
        read_folder(official(tmp_path))
    (tmp_path / "hub").mkdir()
    with pytest.raises(UserError, match="field imageId: no image n200"):
        read_folder(hub(tmp_path / "hub", {"n100": IMAGES["n100"]}), any_size=True)
    (tmp_path / "hub" / "testdev_balanced_images" / "testdev-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"without testdev_balanced_images.*jfeval data fetch gqa"):
        read_folder(tmp_path / "hub", any_size=True)
