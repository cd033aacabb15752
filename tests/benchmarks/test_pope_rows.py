import importlib.util
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jfeval.benchmarks.pope import Pope
from jfeval.benchmarks.pope_rows import SPLITS, TSV_SUFFIX, read_folder, read_questions
from jfeval.benchmarks.understanding.base import Settings
from jfeval.errors import UserError

_SPEC = importlib.util.spec_from_file_location("jfeval_test_files", Path(__file__).parent / "understanding" / "files.py")
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)
b64, png, write_tsv = files.b64, files.png, files.write_tsv

IMAGES = {"COCO_val2014_000000000001": png((250, 0, 0)), "COCO_val2014_000000000002": png((0, 250, 0))}
ABSENT = {"random": ("canoe", "oven"), "popular": ("person", "car"), "adversarial": ("person", "boat")}


def questions():
    """Yield split, number, image, question and label of a POPE of two images, one object there and one absent each."""
    for split in SPLITS:
        for i, image in enumerate(IMAGES):
            yield split, 2 * i + 1, image, "Is there a ladder in the image?", "yes"
            yield split, 2 * i + 2, image, f"Is there a {ABSENT[split][i]} in the image?", "no"


def official(folder, *, change=None, images=True):
    for split in SPLITS:
        rows = [
            {"question_id": number, "image": f"{image}.jpg", "text": text, "label": label}
            for one, number, image, text, label in questions()
            if one == split
        ]
        if change is not None:
            change(split, rows)
        (folder / f"coco_pope_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if images:
        (folder / "val2014").mkdir()
        for name, data in IMAGES.items():
            (folder / "val2014" / f"{name}.jpg").write_bytes(data)
    return folder


def hub(folder, names):
    """Write the hub's form: one file, or one a split."""
    rows = [
        {
            "id": str(i),
            "question_id": str(number),
            "question": text,
            "answer": label,
            "image_source": image,
            "image": {"bytes": IMAGES[image], "path": None},
            "category": split,
        }
        for i, (split, number, image, text, label) in enumerate(questions())
    ]
    for name, kept in names.items():
        (folder / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row for row in rows if row["category"] in kept]), folder / name)
    return folder


def tsv(folder):
    joined = {}
    for split, _, image, text, label in questions():
        joined.setdefault((image, text, label), []).append(split)
    rows, first = [], {}
    for index, ((image, text, label), splits) in enumerate(joined.items()):
        cell = str(first[image]) if image in first else b64(IMAGES[image])
        first.setdefault(image, index)
        rows.append((index, cell, text + TSV_SUFFIX, label.title(), ",".join(splits)))
    write_tsv(folder / "POPE.tsv", rows, header=("index", "image", "question", "answer", "category"))
    return folder


FORMS = {
    "official": official,
    "hub, default": lambda folder: hub(folder, {"data/test-00000-of-00001.parquet": SPLITS}),
    "hub, full": lambda folder: hub(folder, {f"Full/{split}-00000-of-00001.parquet": (split,) for split in SPLITS}),
    "tsv": tsv,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_gives_the_same_questions(form, tmp_path):
    rows = read_folder(FORMS[form](tmp_path), any_size=True)
    found = {(row.reader(), row.question, row.label, frozenset(row.splits)) for row in rows}
    expected = {}
    for split, _, image, text, label in questions():
        expected.setdefault((IMAGES[image], text, label), set()).add(split)
    assert found == {(*key, frozenset(splits)) for key, splits in expected.items()}
    assert len({row.id for row in rows}) == len(rows) == 7  # the second question about "person" is of both splits
    assert len({row.image for row in rows}) == 2


@pytest.mark.parametrize("form", FORMS)
def test_samples_ask_each_question_once_with_its_image(form, tmp_path):
    samples = Pope(Settings(any_size=True)).samples("official", seed=0, data=FORMS[form](tmp_path))
    assert [len(sample.request.images) for sample in samples] == [1] * 7
    assert {sample.request.question for sample in samples} == {
        f"{text}\nAnswer the question using a single word or phrase." for *_, text, _ in questions()
    }


def changed(**fields):
    return lambda split, rows: rows[1].update(fields) if split == "popular" else None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(label="maybe"), "popular.json, line 2, field label: expected yes or no, found 'maybe'"),
        (changed(text=""), "popular.json, line 2, field text"),
        (changed(text=None), "popular.json, line 2, field text"),
        (changed(image=7), "popular.json, line 2, field image"),
        (changed(question_id="first"), "popular.json, line 2, field question_id: expected a whole number"),
        (changed(question_id=True), "popular.json, line 2, field question_id"),
        (changed(question_id=1), "popular.json, line 2, field question_id: popular-1 stands twice"),
        (changed(text="Is there a ladder in the image?", label="yes"), "stands twice in a split"),
        (changed(text="Is there a canoe in the image?", label="yes"), "field label: 'yes' for 'Is there a canoe in the image?'"),
    ],
)
def test_a_bad_row_is_named(change, message, tmp_path):
    with pytest.raises(UserError) as caught:
        read_questions(official(tmp_path, change=change, images=False))
    assert message in str(caught.value)


def test_other_counts_than_the_published_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"random has 4 rows, published 3000; .*any_size=true"):
        read_folder(official(tmp_path))


def test_what_is_missing_is_named_with_what_gets_it(tmp_path):
    with pytest.raises(UserError, match=r"`jfeval data fetch pope`"):
        read_folder(tmp_path)
    with pytest.raises(UserError, match=r"--data FOLDER.*coco_pope_random\.json.*--edition shapes"):
        Pope().samples("official", seed=0)
    official(tmp_path, images=False)
    with pytest.raises(UserError, match=r"no COCO_val2014_000000000001\.jpg in .*val2014; get http"):
        read_folder(tmp_path, any_size=True)
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000001.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"line 1, field image: .*not an image"):
        read_folder(tmp_path, any_size=True)
    (tmp_path / "coco_pope_popular.json").unlink()
    with pytest.raises(UserError, match=r"coco_pope_popular\.json is missing; output/coco"):
        read_folder(tmp_path, any_size=True)
    (tmp_path / "coco_pope_popular.json").write_text("{}\nnot json\n")
    with pytest.raises(UserError, match="line 1, field"):
        read_folder(tmp_path, any_size=True)


def test_a_split_that_is_none_is_named(tmp_path):
    write_tsv(
        tmp_path / "POPE.tsv",
        [(0, b64(png()), "Is there a cat?", "Yes", "random,populr")],
        header=("index", "image", "question", "answer", "category"),
    )
    with pytest.raises(UserError, match=r"row 2, field category: unknown split 'populr'; did you mean 'popular'"):
        read_folder(tmp_path, any_size=True)
