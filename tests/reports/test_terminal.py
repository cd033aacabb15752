import io
import os
import subprocess
import sys

import click
import pytest

from jfeval.reports.overview import overview
from jfeval.reports.tables import leaderboard
from jfeval.reports.terminal import fitted, print_tables


class Screen(io.StringIO):
    def isatty(self):
        return True


def printed(tables, *, terminal, width=100):
    out = Screen() if terminal else io.StringIO()
    print_tables(tables, out, columns=width)
    return click.unstyle(out.getvalue())


def test_a_narrow_terminal_gets_several_tables_with_every_number(make_store):
    stores = [make_store(prompts=2), make_store(prompts=2, seed=1, model="[red]other")]
    tables = leaderboard(stores)
    shown = printed(tables, terminal=True)
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "continued" in shown
    assert "[red]other" in shown
    for store in stores:
        for metric in store.metrics():
            if metric.headline or metric.name == "task":
                assert f"{metric.value:.3f} [{metric.ci_low:.3f}, {metric.ci_high:.3f}]" in shown
    assert "…" not in shown


def test_a_wide_terminal_gets_one_and_a_pipe_the_plain_text(make_store):
    (table,) = leaderboard([make_store(prompts=2)])
    assert len(list(fitted(table, 400))) == 1
    assert "continued" not in printed([table], terminal=True, width=400)
    assert printed([table], terminal=False, width=40) == table.to_text() + "\n\n"


@pytest.mark.parametrize("colours", ["1", ""])
def test_a_pipe_gets_plain_unwrapped_text_whatever_asks_for_colours(make_store, colours):
    store = make_store(prompts=2)
    environment = {**os.environ, "FORCE_COLOR": colours, "COLUMNS": "40", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "jfeval", "report", str(store.path), "--format", "table"]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, env=environment, check=True).stdout
    assert shown == "".join(table.to_text() + "\n\n" for table in [*overview([store]), *leaderboard([store])])


def test_a_pipe_that_knows_few_characters_gets_what_it_can_carry(make_store):
    tables = leaderboard([make_store(prompts=2), make_store(prompts=2, seed=1)])
    assert "●" in tables[0].to_text()
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="cp1252") as pipe:
        print_tables(tables, pipe)
        pipe.flush()
        assert b"janusflow-shapes" in raw.getvalue()


def test_parts_hold_every_column_once_and_the_notes_once(make_store):
    (table,) = leaderboard([make_store(prompts=2)])
    parts = list(fitted(table, 60))
    assert len(parts) > 2
    assert [column.key for part in parts for column in part.columns[1:]] == [column.key for column in table.columns[1:]]
    assert all(part.columns[0] == table.columns[0] for part in parts)
    assert [bool(part.notes) for part in parts] == [False] * (len(parts) - 1) + [True]
