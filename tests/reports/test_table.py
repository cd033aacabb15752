import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import clean, width

HOSTILE = '=HYPERLINK("x") | <script>alert(1)</script> **b** [a](b) `c` \x1b[31m\u202e'


def table_of(text: str, *, mark: str = "") -> Table:
    columns = (
        Column(key="model", label="model"),
        Column(key="overall", label="overall", kind="metric"),
        Column(key="n", label="n", kind="count"),
    )
    row = (Cell(value=text, mark=mark), Cell(value=-0.5, low=-0.75, high=0.25, n=12), Cell(value=3))
    return Table(title="T", columns=columns, rows=(row,), notes=("a note",))


def test_text_is_aligned_and_unwrapped():
    table = table_of("m" * 300)
    title, head, rule, row, note = table.to_text().split("\n")
    assert (title, note) == ("T", "a note")
    assert row == "m" * 300 + "  -0.500 [-0.750, 0.250]  3"
    assert len(head.rstrip()) == len(rule) == len(row)


def test_marks_travel_with_their_row_in_every_form():
    table = table_of("m", mark="limited: 20 of 384")
    for form in (table.to_text(), table.to_markdown(), table.to_csv()):
        assert "limited: 20 of 384" in form
    assert next(csv.DictReader(io.StringIO(table.to_csv())))["mark"] == "limited: 20 of 384"


def test_csv_keeps_full_precision_and_intervals():
    columns = (Column(key="score", label="score", kind="metric"),)
    table = Table(title="T", columns=columns, rows=((Cell(value=2 / 3, low=0.1, high=None, n=7),),))
    (row,) = csv.DictReader(io.StringIO(table.to_csv()))
    assert row == {"score": repr(2 / 3), "score_ci_low": "0.1", "score_ci_high": "", "score_n": "7"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", "  =1", "＝1"])
def test_csv_text_never_starts_a_formula(text):
    cell = next(csv.reader(io.StringIO(table_of(text).to_csv().split("\n", 1)[1])))[0]
    assert cell.startswith("'")


def test_csv_numbers_stay_numbers():
    row = next(csv.DictReader(io.StringIO(table_of("m").to_csv())))
    assert float(row["overall"]) == -0.5


@given(st.text(max_size=80))
def test_any_text_stays_in_its_cell(text):
    table = table_of(text)
    row = next(csv.reader(io.StringIO(table.to_csv().split("\n", 1)[1])))
    assert len(row) == 6
    assert not row[0].startswith(("=", "+", "-", "@"))
    assert len(table.to_text().splitlines()) == 5
    body = table.to_markdown().split("\n")[4]
    assert body.replace("\\|", "").count("|") == 4
    assert "<" not in body


def test_markdown_shows_hostile_text_as_text():
    line = table_of(HOSTILE).to_markdown().split("\n")[4]
    assert "&lt;script&gt;" in line
    assert "\\*\\*b\\*\\*" in line
    assert "\\[a\\]" in line
    assert "\x1b" not in line


def test_rich_does_not_read_markup_or_escapes():
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(table_of("[bold]x[/bold]\x1b[31m").to_rich())
    assert "[bold]x[/bold]�[31m" in out.getvalue()


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="2 cells for 1 columns"):
        Table(title="T", columns=(Column(key="a", label="a"),), rows=((Cell(), Cell()),))


def test_width_counts_terminal_columns():
    assert (width("ab"), width("日本"), width("e\u0301")) == (2, 4, 1)


@given(st.text(st.characters(codec=None), max_size=200))
def test_clean_text_can_be_written(text):
    result = clean(text)
    result.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\t\n" for c in result)
