"""`jfeval suite`: several benchmarks in one command."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_evaluate import Failed, carry_out, run_settings, too_many_failed, with_own
from jfeval.cli_options import FOLDER, edition_option, given, model_options, seed_option, together
from jfeval.errors import UserError
from jfeval.last_model import LastModel

if TYPE_CHECKING:
    from jfeval.store import Store


@click.command("suite")
@click.argument("name", default="paper")
@together(
    click.option("--model", metavar="NAME", help="Model.  [default: janusflow-shapes]"),
    edition_option,
    seed_option,
    click.option("--data", type=FOLDER, help="Folder of official data, one folder a benchmark in it."),
    click.option("--out", type=FOLDER, help="Folder of the runs and the report.  [default: folders under runs/]"),
    click.option("--limit", type=int, help="Take N samples of each benchmark, spread evenly over its tasks."),
    click.option("--batch-size", type=int, help="Images or questions per batch.  [default: 16]"),
    click.option("--against", default="JanusFlow", show_default=True, help="Model whose printed numbers stand beside."),
)
@model_options
def suite_command(*, name: str, against: str, data: Path | None, **options: object) -> None:
    """Run all benchmarks of a suite and print what was measured beside what was printed.

    Each benchmark is an ordinary run that goes on where it was stopped. One that cannot be run is named with its reason, the others go on,
    and the exit status is then 1.

    \b
    jfeval suite
    jfeval run --suite paper --limit 20        # the same command by another name
    jfeval suite paper --model janusflow:JanusFlow-1.3B --edition official --data DATA
    """  # noqa: D301
    from jfeval import suite
    from jfeval.console import clean, is_terminal
    from jfeval.registry import load_benchmark, model_settings, split_place
    from jfeval.reports.build import write_report
    from jfeval.settings import resolve

    values = given(options)
    model_values = {key: values.pop(key) for key in ("guidance_scale", "num_steps") if key in values}
    overrides = list(values.pop("overrides", ()))
    common = resolve(run_settings(), values=values)
    model, place = split_place(common.model)
    model_settings(model, {**common.model_settings, **place, **model_values}, overrides)  # said once, not for every benchmark
    stores: list[Store] = []
    missing: dict[str, str] = {}
    models = LastModel()
    for entry in suite.suite(name):
        own = data / entry.benchmark if data is not None else None
        try:
            settings = with_own(replace(suite.settings_of(entry, common), data=own), model_values, overrides, [])
            click.echo(f"{entry.benchmark} ...", err=True)
            benchmark = load_benchmark(settings.benchmark, **settings.benchmark_settings)
            load = partial(models.load, settings.model, **settings.model_settings)
            store = carry_out(settings, benchmark, overwrite=False, retry_failed=False, stop_early=True, load=load)
        except (UserError, Failed) as error:
            missing[entry.benchmark] = clean(str(error).split("\n", 1)[0])[:160]
            continue
        stores.append(store)
        if too_many_failed(store, settings):
            missing[entry.benchmark] = "more samples failed than --max-failures allows"
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("benchmark", "metric", "protocol", "measured", f"printed ({clean(against)})", box=None)
    for line in suite.lines(stores, missing, against):
        table.add_row(*(Text(cell) for cell in (line.benchmark, line.metric, line.protocol, line.measured, line.printed)))
    terminal = is_terminal(sys.stdout)
    Console(width=None if terminal else 250, force_terminal=terminal).print(table)
    if stores:
        click.echo(write_report(stores, suite.folder(common, name) / "report.html"))
    if missing:
        sys.exit(1)


def instead_of_a_benchmark(ctx: click.Context, name: str) -> None:
    """Carry out `jfeval run --suite NAME`: `suite_command` with the options that were given.

    Raises:
        click.UsageError: One of them is for a single benchmark.
    """
    said = {key: value for key, value in ctx.params.items() if ctx.get_parameter_source(key) is click.core.ParameterSource.COMMANDLINE}
    said.pop("suite")
    taken = {parameter.name for parameter in suite_command.params}
    if refused := sorted(said.keys() - taken):
        raise click.UsageError(f"--{refused[0].replace('_', '-')} is for one benchmark and does not go with --suite.")
    ctx.invoke(suite_command, **{**said, "name": name})
