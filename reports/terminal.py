"""The report's tables on a terminal: drawn by rich and cut into as many as its width asks for; plain and unwrapped elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TextIO

from jfeval.console import is_terminal
from jfeval.reports.table import Table
from jfeval.reports.text import width

_PADDING = 3
_LEAST = 24
"""Narrowest a column of words is drawn before another table is begun."""


def print_tables(tables: Sequence[Table], out: TextIO | None = None, *, columns: int | None = None) -> None:
    """Print tables.

    Args:
        tables: What to print.
        out: Where to; standard output by default.
        columns: Width of a terminal; by default its own.
    """
    stream: TextIO = out or sys.stdout
    if not is_terminal(stream):
        known = getattr(stream, "encoding", None) or "utf-8"  # not every pipe can carry the marks of standings
        for table in tables:
            stream.write(table.to_text().encode(known, "replace").decode(known) + "\n\n")
        return
    from rich.console import Console

    console = Console(file=stream, width=columns, force_terminal=True)
    for table in tables:
        for part in fitted(table, console.width):
            console.print(part.to_rich())


def fitted(table: Table, most: int) -> Iterator[Table]:
    """Cut a table into parts that fit a width, each with the first column; the last one has the notes.

    Args:
        table: The table.
        most: Terminal columns.
    """
    sizes = [_size(table, i) for i in range(len(table.columns))]
    part: list[int] = []
    parts: list[list[int]] = []
    for i in range(1, len(table.columns)):
        if part and sizes[0] + sum(sizes[k] for k in part) + sizes[i] >= most:
            parts.append(part)
            part = []
        part.append(i)
    parts.append(part)
    for number, chosen in enumerate(parts):
        kept = [0, *chosen]
        yield replace(
            table,
            title=table.title if number == 0 else f"{table.title}, continued",
            columns=tuple(table.columns[i] for i in kept),
            rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
            notes=table.notes if number == len(parts) - 1 else (),
        )


def _size(table: Table, i: int) -> int:
    """Return how wide a column is drawn: words may wrap, numbers may not."""
    column = table.columns[i]
    longest = max((width(row[i].text()) for row in table.rows), default=0)
    if column.kind == "text":
        longest = min(longest, _LEAST)
    return max(longest, width(column.label)) + _PADDING
