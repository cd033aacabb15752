"""Tables apart from how they are drawn: one object gives the HTML, the terminal text, the Markdown and the CSV the same numbers."""

import csv
import io
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from jfeval.reports.text import one_line, width

if TYPE_CHECKING:
    import pandas as pd
    import rich.table
    import rich.text

Kind = Literal["text", "metric", "count", "number"]

_FORMULA = ("=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠")
"""First characters that a spreadsheet may run as a formula, with their full-width forms. Source: OWASP, "CSV Injection"."""


STANDINGS = {"best": ("●", "best of its column"), "near": ("○", "not separated from the best")}
"""Sign and words of a standing."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: what its cells are and how to name it."""

    key: str
    """Name in machine-readable forms."""
    label: str
    """Name for people."""
    kind: Kind = "text"
    detail: str = ""
    """One line that says what the column is."""
    group: str = ""
    """What a few neighbouring columns have in common; drawn above them."""
    aside: bool = False
    """Drawn small under the row's name where there is room for two lines, and as a column of its own elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value; a metric may carry its interval and sample count."""

    value: str | int | float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    """How many scores the value is made of."""
    mark: str = ""
    """A warning that belongs to the value and must be seen with it."""
    standing: Literal["", "best", "near"] = ""
    """Whether this is the best value of its column, or cannot be told from it."""

    def number(self) -> str:
        """Return the value without interval or mark.

        >>> Cell(value=0.87349).number(), Cell(value=12).number(), Cell().number()
        ('0.873', '12', '–')
        """
        if self.value is None:
            return "–"
        return f"{self.value:.3f}" if isinstance(self.value, float) else one_line(str(self.value))

    def interval(self) -> str:
        """Return the interval in brackets, or nothing where there is none."""
        return "" if self.low is None or self.high is None else f"[{self.low:.3f}, {self.high:.3f}]"

    def text(self) -> str:
        """Return value, interval, standing and mark on one line.

        >>> Cell(value=0.5, low=0.4, high=0.6, standing="best").text()
        '0.500 [0.400, 0.600] ●'
        """
        mark = f"({one_line(self.mark)})" if self.mark else ""
        return " ".join(part for part in (self.number(), self.interval(), self.sign(), mark) if part)

    def sign(self) -> str:
        """Return the standing as one character; nothing where there is none."""
        return STANDINGS[self.standing][0] if self.standing else ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled grid with notes that must travel with it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    totals: tuple[int, ...] = ()
    """Indices of rows that sum up the others; drawn apart from them."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: a row has {len(row)} cells for {len(self.columns)} columns")

    @property
    def headings(self) -> list[tuple[str, int]]:
        """Return what stands above neighbouring columns and how many those are, asides left out; nothing where no column has a group."""
        groups = [(name, len(list(own))) for name, own in groupby(column.group for column in self.columns if not column.aside)]
        return groups if any(name for name, _ in groups) else []

    def to_text(self) -> str:
        """Return aligned plain text; lines are never wrapped."""
        grid = [[column.label for column in self.columns], *([cell.text() for cell in row] for row in self.rows)]
        widths = [max(width(line[i]) for line in grid) for i in range(len(self.columns))]
        lines = ["  ".join(_pad(text, widths[i], self.columns[i].kind) for i, text in enumerate(line)).rstrip() for line in grid]
        rule = "  ".join("-" * w for w in widths)
        return "\n".join([one_line(self.title), lines[0], rule, *lines[1:], *(one_line(note) for note in self.notes)])

    def to_markdown(self) -> str:
        """Return a GitHub-flavoured Markdown table; untrusted text cannot leave its cell or start markup."""
        head = [_markdown(column.label) for column in self.columns]
        align = [":--" if column.kind == "text" else "--:" for column in self.columns]
        body = [[_markdown(cell.text()) for cell in row] for row in self.rows]
        lines = [f"| {' | '.join(line)} |" for line in (head, align, *body)]
        return "\n\n".join([f"**{_markdown(self.title)}**", "\n".join(lines), *(_markdown(note) for note in self.notes)]) + "\n"

    def to_csv(self) -> str:
        """Return CSV with full precision: a metric becomes value, ci_low, ci_high and n; marks get a column of their own.

        A text that a spreadsheet would run as a formula gets a leading apostrophe.
        """
        marks = any(cell.mark for row in self.rows for cell in row)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        header = [name for column in self.columns for name in _csv_names(column)]
        writer.writerow([csv_text(name) for name in header] + (["mark"] if marks else []))
        for row in self.rows:
            values = [value for column, cell in zip(self.columns, row, strict=True) for value in _csv_values(column, cell)]
            writer.writerow(values + ([csv_text("; ".join(cell.mark for cell in row if cell.mark))] if marks else []))
        return out.getvalue()

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas frame with the columns of `to_csv` and untouched texts; an empty cell is None."""
        import pandas as pd

        names = [name for column in self.columns for name in _csv_names(column)]
        rows = [[value for column, cell in zip(self.columns, row, strict=True) for value in _values(column, cell)] for row in self.rows]
        frame = pd.DataFrame(rows, columns=pd.Index(names), dtype=object).infer_objects()
        if any(cell.mark for row in self.rows for cell in row):
            frame["mark"] = ["; ".join(cell.mark for cell in row if cell.mark) for row in self.rows]
        return frame

    def to_rich(self) -> "rich.table.Table":
        """Return the table for a rich console; texts are not read as rich markup."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(title=Text(one_line(self.title)), box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
        if self.notes:
            table.caption = Text("\n".join(one_line(note) for note in self.notes))
        for column in self.columns:
            name = f"{column.group}: {column.label}" if column.group else column.label
            table.add_column(
                Text(one_line(name)), justify="left" if column.kind == "text" else "right", no_wrap=column.kind != "text", overflow="fold"
            )
        for row in self.rows:
            table.add_row(*(_rich(cell) for cell in row))
        return table


def _pad(text: str, size: int, kind: Kind) -> str:
    """Fill a text up to a width in terminal columns: words to the left, numbers to the right."""
    space = " " * (size - width(text))
    return text + space if kind == "text" else space + text


def _markdown(text: str) -> str:
    """Escape everything that Markdown or the HTML inside it could read as markup."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)


def _csv_names(column: Column) -> list[str]:
    """Return the CSV columns that a column becomes."""
    if column.kind != "metric":
        return [column.key]
    return [column.key, f"{column.key}_ci_low", f"{column.key}_ci_high", f"{column.key}_n"]


def _csv_values(column: Column, cell: Cell) -> list[str]:
    """Return a cell's CSV values, as many as `_csv_names` gives names."""
    return ["" if v is None else csv_text(v) if isinstance(v, str) else repr(v) for v in _values(column, cell)]


def _values(column: Column, cell: Cell) -> list[str | int | float | None]:
    """Return a cell's values, as many as `_csv_names` gives names."""
    return [cell.value] if column.kind != "metric" else [cell.value, cell.low, cell.high, cell.n]


def csv_text(text: str) -> str:
    """Keep a spreadsheet from running a text.

    >>> csv_text("=1+1"), csv_text("plain")
    ("'=1+1", 'plain')
    """
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _rich(cell: Cell) -> "rich.text.Text":
    """Draw a cell for a rich console: the interval dim, the mark loud."""
    from rich.text import Text

    text = Text(cell.number())
    if cell.interval():
        text.append(f" {cell.interval()}", style="dim")
    if cell.sign():
        text.append(f" {cell.sign()}", style="bold green" if cell.standing == "best" else "")
    if cell.mark:
        text.append(f" ({one_line(cell.mark)})", style="bold yellow")
    return text
