import base64
import importlib.util
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jfeval.benchmarks.understanding import media, tables
from jfeval.errors import UserError

_SPEC = importlib.util.spec_from_file_location("jfeval_test_files", Path(__file__).parent / "files.py")
files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(files)
b64, png, write_tsv = files.b64, files.png, files.write_tsv


def read(path, **more):
    return tables.read_tsv(path, columns=("question",), get="fetch it", **more)


def test_a_table_gives_cells_and_images_its_own_and_referred_to(tmp_path):
    red, blue = png(), png((20, 20, 220))
    rows = [("0", b64(red), 'two\nlines and a "quote"'), ("7", "0", "None"), ("1000003.0", b64(blue), ""), ("8", "0.0", "tab\tinside")]
    found = read(write_tsv(tmp_path / "t.tsv", rows))
    assert [row.cells["question"] for row in found] == ['two\nlines and a "quote"', "None", "", "tab\tinside"]
    assert [row.cells["index"] for row in found] == ["0", "7", "1000003", "8"]
    assert [row.image() for row in found] == [red, red, blue, red]
    assert found[0].image_key == found[1].image_key != found[2].image_key
    assert "row 3" in found[1].where


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("0", "5", "q")], "row 2, field image: row index 5 is in no row"),
        ([("0", b64(png()), "q"), ("1", "0", "q"), ("2", "1", "q")], "row 4, field image: row index 1 refers to another reference"),
        ([("0", "not a number", "q")], "row 2, field image: expected a whole number or base64"),
        ([("0", b64(b"this is no image at all, but long enough to be one" * 3), "q")], "row 2, field image: not an image"),
        ([("0", "@" * 80, "q")], "row 2, field image: not base64"),
        ([("0", b64(png(size=(60, 60))[:-30]), "q")], "row 2, field image: not an image"),
        ([("0", b64(png()), "q"), ("0", b64(png()), "q")], "row 3, field index: 0 stands twice"),
        ([("zero", b64(png()), "q")], "row 2, field index: expected a whole number"),
        ([("0", b64(png()))], "row 2: 2 cells where the header has 3"),
    ],
)
def test_a_bad_row_is_named_with_file_row_and_field(rows, message, tmp_path):
    path = write_tsv(tmp_path / "t.tsv", rows)
    with pytest.raises(UserError, match=str(path)) as caught:
        read(path)
    assert message in str(caught.value)


def test_a_missing_file_column_or_end_is_named(tmp_path):
    with pytest.raises(UserError, match="is missing; fetch it"):
        read(tmp_path / "none.tsv")
    with pytest.raises(UserError, match="lacks the column question"):
        read(write_tsv(tmp_path / "a.tsv", [], header=("index", "image", "answer")))
    (tmp_path / "b.tsv").write_text('index\timage\tquestion\n0\tAAAA\t"open')
    with pytest.raises(UserError, match="leaves a quotation mark open"):
        read(tmp_path / "b.tsv")
    (tmp_path / "c.tsv").write_bytes(b"index\timage\tquestion\n0\t\xff\xfe\tq\n")
    with pytest.raises(UserError, match="not tab-separated UTF-8"):
        read(tmp_path / "c.tsv")


def test_a_row_that_never_ends_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW_BYTES", 1000)
    (tmp_path / "t.tsv").write_text('index\timage\tquestion\n0\tA\t"' + "x\n" * 2000)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        read(tmp_path / "t.tsv")


@given(questions=st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=30), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_any_text_comes_back_as_it_was_written(questions, tmp_path):
    rows = [(str(i), b64(png()) if not i else "0", text) for i, text in enumerate(questions)]
    path = write_tsv(tmp_path / "t.tsv", rows)
    assert [row.cells["question"] for row in read(path)] == questions


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_refused(data):
    try:
        media.check_image(data, where="file, row 1, field image")
    except UserError as error:
        assert "file, row 1, field image" in str(error)  # noqa: PT017
    else:
        assert Image.open(io.BytesIO(data)).size


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_text_is_base64_or_refused(text):
    try:
        assert isinstance(media.decode_base64(text, where="w"), bytes)
    except UserError as error:
        assert str(error).startswith("w: not base64")  # noqa: PT017


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(1, 20))
def test_base64_may_be_wrapped_and_lack_padding(data, width):
    text = base64.b64encode(data).decode()
    lines = [text[i : i + width] for i in range(0, len(text), width)]
    assert media.decode_base64("\r\n".join(lines).rstrip("="), where="w") == data


def test_images_that_are_too_large_are_refused(monkeypatch):
    monkeypatch.setattr(media, "MAX_PIXELS", 29)
    with pytest.raises(UserError, match="6x5 pixels"):
        media.check_image(png(), where="w")
    monkeypatch.setattr(media, "MAX_FILE_BYTES", 10)
    with pytest.raises(UserError, match="at most 10"):
        media.check_image(png(), where="w")


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "", "..", "b\\a.png", "a\0.png", 7, "sub/a.png"])
def test_a_name_that_leaves_the_folder_is_refused(name, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(UserError, match="bare file name"):
        media.file_reader(tmp_path, name, where="row 1")


def test_a_file_is_read_when_it_is_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    images = media.pictures(media.file_reader(tmp_path, "a.png", where="row 1"))
    (tmp_path / "a.png").write_bytes(png((0, 0, 0)))
    assert list(images) == [png((0, 0, 0))] == [images[0]]
    with pytest.raises(UserError, match=r"row 1: no image b\.png"):
        media.file_reader(tmp_path, "b.png", where="row 1")
    (tmp_path / "c.png").write_text("text")
    with pytest.raises(UserError, match="not an image"):
        media.file_reader(tmp_path, "c.png", where="row 1")


def test_parquet_keeps_images_on_disk_single_and_listed(tmp_path):
    red, blue = png(), png((0, 0, 255))
    one = {"bytes": red, "path": None}
    pq.write_table(
        pa.table({"id": ["a", "b", "c"], "image": [one, None, {"bytes": blue, "path": "x"}]}), tmp_path / "a.parquet", row_group_size=2
    )
    found = tables.read_parquet([tmp_path / "a.parquet"], columns=("id",), optional=("absent",))
    assert [(row.cells, [read() for read in row.images]) for row in found] == [
        ({"id": "a"}, [red]),
        ({"id": "b"}, []),
        ({"id": "c"}, [blue]),
    ]
    pq.write_table(pa.table({"id": ["a", "b"], "image": [[one, one], []]}), tmp_path / "b.parquet")
    assert [len(row.images) for row in tables.read_parquet([tmp_path / "b.parquet"], columns=("id",))] == [2, 0]
    with pytest.raises(UserError, match="lacks the column nothing"):
        tables.read_parquet([tmp_path / "a.parquet"], columns=("nothing",))
    (tmp_path / "c.parquet").write_text("PAR1 but not really")
    with pytest.raises(UserError, match="not a Parquet file"):
        tables.read_parquet([tmp_path / "c.parquet"], columns=("id",))
