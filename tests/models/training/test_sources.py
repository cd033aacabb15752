"""Data sources: any kind, local, streamed or not; what cannot be used is skipped, counted and named."""

import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.training import sources
from jfeval.models.training.part import Part
from jfeval.models.training.rows import Source, usable
from jfeval.models.training.skipped import Skipped
from jfeval.models.training.sources import Kinds, Reader, SourcesSettings, prepare_sources, read_settings


def png(shade, size=(20, 16)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def drawings(folder, count=10, spoil=()):
    rows = [{"image": png(i), "captions": [f"picture {i}"]} for i in range(count)]
    for i in spoil:
        rows[i]["image"]["bytes"] = b"no picture"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet")
    return folder


def source(folder, kind="generation", **more):
    return Source(name=more.pop("name", "s"), kind=kind, path=str(folder), **more)


def shade(row):
    return row.image.getpixel((0, 0))[0]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 4)


@pytest.mark.parametrize("streaming", [True, False])
def test_every_row_comes_once_per_epoch_in_an_order_of_the_seed(tmp_path, streaming):
    kind = source(drawings(tmp_path), streaming=streaming)
    reader = Reader(kind, seed=3, max_skipped=0)
    seen = [shade(reader.row(n)) for n in range(25)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]
    other = Reader(kind, seed=4, max_skipped=0)
    assert seen[:10] != [shade(other.row(n)) for n in range(10)]
    for place in (0, 7, 13, 24):  # a resumed training starts anywhere, also beyond the first epoch
        assert shade(Reader(kind, seed=3, max_skipped=0).row(place)) == seen[place]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_corrupt_row_is_named_counted_once_and_replaced_by_the_next(tmp_path, streaming):
    kind = source(drawings(tmp_path, spoil=(4,)), streaming=streaming)
    reader = Reader(kind, seed=0, max_skipped=3)
    seen = [shade(reader.row(n)) for n in range(9)]
    assert 4 not in seen
    assert len(reader.skipped) == 1
    assert "s row" in reader.skipped[0]
    assert "UnidentifiedImageError" in reader.skipped[0]
    again = Reader(kind, seed=0, max_skipped=3)
    assert [shade(again.row(n)) for n in (5, 8)] == [seen[5], seen[8]]


@pytest.mark.parametrize("streaming", [True, False])
def test_corrupt_rows_count_once_over_epochs_and_are_known_after_a_resume(tmp_path, streaming):
    kind, file = source(drawings(tmp_path / "data", spoil=(4, 7)), streaming=streaming), tmp_path / "skipped.jsonl"
    reader = Reader(kind, seed=0, max_skipped=2, known=Skipped(file))
    for place in range(30):
        row = reader.row(place)
        name, at, number = re.fullmatch(r"(\w+):(\d+) \(row (\d+)\)", row.id).groups()
        assert (name, int(number)) == ("s", shade(row))  # the shade is the row's number in the file
        assert place <= int(at) <= place + 4
    assert sorted(line.split(":")[0] for line in reader.skipped) == ["s row 4", "s row 7"]
    with file.open("a") as opened:
        opened.write('\n{"source": "s", "ro')  # a kill in the middle of a line
    resumed = Reader(kind, seed=0, max_skipped=2, known=Skipped(file))
    assert resumed.skipped == reader.skipped
    assert [resumed.row(n).id for n in range(30, 40)] == [reader.row(n).id for n in range(30, 40)]
    assert resumed.skipped == reader.skipped
    Skipped(file).add("s", 9, ValueError("no caption"))
    with pytest.raises(UserError, match=r"more than 2 unusable rows in 's': .*all are listed in .*skipped\.jsonl; delete it once"):
        Reader(kind, seed=0, max_skipped=2, known=Skipped(file))


def test_a_place_where_two_epochs_meet_may_have_all_corrupt_rows_twice(tmp_path):
    for seed in range(6):
        reader = Reader(source(drawings(tmp_path / "data", count=3, spoil=(0, 1)), streaming=False), seed=seed, max_skipped=2)
        assert {shade(reader.row(n)) for n in range(9)} == {2}
        assert len(reader.skipped) == 2


def test_too_many_corrupt_rows_stop(tmp_path):
    reader = Reader(source(drawings(tmp_path, spoil=(1, 3, 5, 7))), seed=0, max_skipped=2)
    with pytest.raises(UserError, match="more than 2 unusable rows in 's'"):
        [reader.row(n) for n in range(10)]


def test_sources_of_a_kind_are_mixed_by_weight(tmp_path):
    both = (
        source(drawings(tmp_path / "a"), name="a", weight=3.0),
        source(drawings(tmp_path / "b"), name="b", weight=1.0),
    )
    kinds = Kinds(SourcesSettings(sources=both), seed=0, kinds=["generation"])
    ids = [kinds.row("generation", n).id for n in range(40)]
    assert [sum(i.startswith(name) for i in ids) for name in ("a:", "b:")] == [30, 10]
    assert len(set(ids)) == 40
    with pytest.raises(UserError, match="asks for text, but no source is of that kind"):
        Kinds(SourcesSettings(sources=both), seed=0, kinds=["text"])


def test_conversations_of_two_forms_and_texts(tmp_path):
    talk = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A ring."},
        {"from": "human", "value": "Red?"},
        {"from": "gpt", "value": "Yes."},
    ]
    row = usable({"image": png(1), "conversations": talk}, source("", "understanding"), "x")
    assert [(q.question, q.answer) for q in row.questions] == [("What is it?", "A ring."), ("Red?", "Yes.")]
    asked = [{"question": "What?", "answer": "That."}]
    assert usable({"image": png(1), "questions": asked}, source("", "understanding"), "x").questions[0].answer == "That."
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "two")))
    reader = Reader(source(tmp_path, "text"), seed=0, max_skipped=0)
    assert {reader.row(0).text, reader.row(1).text} == {"one", "two"}


@pytest.mark.parametrize(
    ("kind", "raw", "message"),
    [
        ("text", {"text": " "}, "no text"),
        ("generation", {"image": png(1), "captions": []}, "no caption"),
        ("generation", {"image": None, "captions": "a"}, "no image bytes"),
        ("understanding", {"image": png(1), "conversations": [{"from": "gpt", "value": "hi"}]}, "no question with an answer"),
    ],
)
def test_a_row_of_another_kind_is_refused(kind, raw, message):
    with pytest.raises(ValueError, match=message):
        usable(raw, source("", kind), "x")


def test_sources_are_opened_before_any_training(tmp_path):
    folder = tmp_path / "part"
    folder.mkdir()
    good = SourcesSettings(sources=(source(drawings(tmp_path / "a"), name="a"),))
    prepare_sources(good, Part(name="data", folder=folder))
    assert read_settings(folder) == good
    mislabelled = SourcesSettings(sources=(source(tmp_path / "a", "text", name="a"),), max_skipped=2)
    with pytest.raises(UserError, match="no text in column 'text'"):
        prepare_sources(mislabelled, Part(name="data", folder=folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no Parquet or JSON Lines file"):
        prepare_sources(SourcesSettings(sources=(source(tmp_path / "empty"),)), Part(name="data", folder=folder))
    with pytest.raises(UserError, match="needs its commit as revision"):
        prepare_sources(SourcesSettings(sources=(Source(name="h", kind="text", path="owner/name"),)), Part(name="data", folder=folder))
    with pytest.raises(UserError, match="different names"):
        SourcesSettings(sources=(source("x"), source("y")))


def test_an_empty_source_is_named(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "t.parquet")
    for streaming in (True, False):
        with pytest.raises(UserError, match="'s' is empty"):
            Reader(source(tmp_path, "text", streaming=streaming), seed=0, max_skipped=0).row(0)


def test_random_squares_keep_the_shorter_side():
    from jfeval.models.training.stream import random_square

    wide = Image.fromarray(np.tile(np.arange(80, dtype=np.uint8), (40, 1))).convert("RGB")
    cuts = [random_square(wide, 20, np.random.default_rng(k)) for k in range(5)]
    assert all(cut.shape == (3, 20, 20) and cut.min() >= -1 and cut.max() <= 1 for cut in cuts)
    assert len({float(cut[0, 0, 0]) for cut in cuts}) > 1
