"""The commands that look at what is stored: show, compare, audit. Part of `jfeval.cli`; imports inside the commands."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_options import FILE, FOLDER
from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.reports.table import Table


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("sample", required=False)
def show(*, run: Path, sample: str | None) -> None:
    """Say where a RUN's numbers come from, or what one SAMPLE of it asked, what came back, and the verdict with its reason.

    \b
    jfeval show runs/seed3
    jfeval show runs/seed3 00017
    """  # noqa: D301
    from jfeval.reports.compare_paper import against_papers
    from jfeval.showing import run_lines, sample_lines
    from jfeval.store import Store

    store = Store.open(run)
    for line in run_lines(store) if sample is None else sample_lines(store, sample):
        click.echo(line)
    papers = against_papers(store) if sample is None else None
    if papers is not None:
        click.echo("")
        _print(papers)


@click.command()
@click.argument("run_a", type=FOLDER)
@click.argument("run_b", type=FOLDER)
@click.option("--protocol", metavar="NAME", help="Way of scoring.  [default: RUN_A's own]")
@click.option("--flips", type=click.IntRange(0), default=20, show_default=True, help="How many changed items to list.")
def compare(*, run_a: Path, run_b: Path, protocol: str | None, flips: int) -> None:
    """Pair the items of two runs: how many verdicts differ, by how much RUN_B is above RUN_A, with interval and p.

    Runs that did not see the same items under the same protocol are refused, with the reason. Distances of whole sets, such as FID, are
    paired by how much each item's image bears on them.

    \b
    jfeval compare runs/mine runs/theirs
    """  # noqa: D301
    from dataclasses import replace

    from jfeval.reports.compare import paired, why_not, words
    from jfeval.reports.compare_sets import compare_sets
    from jfeval.store import Store

    base, other = Store.open(run_a), Store.open(run_b)
    chosen = protocol or base.record().protocol
    of_sets = compare_sets(base, other, chosen)
    if of_sets is not None:
        _print(of_sets)
        return
    reason = why_not(base, other, chosen)
    if reason:
        raise UserError(f"{run_a} and {run_b} cannot be paired: {reason}")
    for line in words(base, other, chosen):
        click.echo(line)
    found = paired(base, other, chosen)
    click.echo("")
    _print(found.differences)
    if flips and found.flips.rows:
        click.echo("")
        listed = replace(found.flips, rows=found.flips.rows[:flips])
        _print(replace(listed, notes=(f"{len(listed.rows)} are listed. {' '.join(found.flips.notes)}",)))


@click.command()
@click.argument("table", type=FILE)
@click.option("--between", nargs=2, multiple=True, metavar="MODEL MODEL", help="Say how far apart two models' reports are.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write every finding, with its reckoning, to this CSV file.")
def audit(*, table: Path, between: tuple[tuple[str, str], ...], out: Path | None) -> None:
    """Ask of each printed number in TABLE under which protocols it can have come about.

    TABLE is a CSV file with the columns model, benchmark, metric and value. A number is a count of right answers over a known number of
    rows, or a mean of such, rounded: not every figure can be. What does not fit is called inconsistent with a protocol, never wrong;
    another protocol, or another subset, may explain it. Exit status 1 if a number fits no protocol that is known here.

    \b
    jfeval audit results.csv
    jfeval audit results.csv --between JanusFlow "TorchUMM run of JanusFlow"
    """  # noqa: D301
    from jfeval.files import write_atomically
    from jfeval.reports.audit import apart, audit_table, read_table

    rows = read_table(table)
    found = audit_table(rows)
    _print(found.table)
    for line in found.patterns:
        click.echo(line)
    for pair in between:
        click.echo("")
        _print(apart(rows, *pair))
    if out is not None:
        write_atomically(out, found.details.to_csv().encode())
    click.echo(f"\n{found.summary}")
    sys.exit(1 if found.impossible else 0)


def _print(table: "Table") -> None:
    """Print a table: drawn on a terminal, plain and unwrapped elsewhere."""
    from jfeval.console import is_terminal

    if is_terminal(sys.stdout):
        from rich.console import Console

        Console(force_terminal=True).print(table.to_rich())
    else:
        click.echo(table.to_text())
