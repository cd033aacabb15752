"""`jfeval suite`: several benchmarks in one command."""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_evaluate import Failed, carry_out, run_settings, too_many_failed, with_own
from jfeval.cli_options import (
    FOLDER,
    batch_size_option,
    edition_option,
    given,
    max_failures_option,
    model_options,
    retry_failed_option,
    seed_option,
    set_benchmark_option,
    take_engine,
    title_option,
    together,
    workers_option,
)
from jfeval.cli_ready import READY, place_of, ready_loader
from jfeval.errors import UserError, unknown
from jfeval.last_model import LastModel

if TYPE_CHECKING:
    from jfeval.engine import Engine
    from jfeval.settings import RunSettings
    from jfeval.store import Store
    from jfeval.suite import Entry, Line

_CANNOT = {"generate": "the model cannot draw", "answer": "the model cannot answer questions"}
_USUAL = "JanusFlow"
"""Whose printed numbers stand beside a model that nothing is printed for."""

against_option = click.option(
    "--against", metavar="MODEL", help=f"With a suite: whose printed numbers stand beside.  [default: the model's own, or {_USUAL}'s]"
)


@click.command("suite")
@click.argument("name", default="paper")
@together(
    click.option("--model", metavar="NAME", help="Model.  [default: janusflow-shapes]"),
    set_benchmark_option,
    edition_option,
    seed_option,
    click.option("--data", type=FOLDER, help="Folder of official data, one folder a benchmark in it."),
    click.option("--out", type=FOLDER, help="Folder of the runs and the report.  [default: folders under runs/]"),
    click.option("--limit", type=int, help="Take N samples of each benchmark, spread evenly over its tasks."),
    batch_size_option,
    title_option,
    max_failures_option,
    retry_failed_option,
    workers_option,
    against_option,
)
@model_options
def suite_command(*, name: str, against: str | None, data: Path | None, retry_failed: bool, **options: object) -> None:
    """Run all benchmarks of a suite and print what was measured beside what was printed.

    Each benchmark is an ordinary run that goes on where it was stopped. One that cannot be run is named with its reason, the others go on,
    and the exit status is then 1. One that asks for what the model cannot do, such as pictures of a model that only answers, is not
    applicable, which is no failure. --set-benchmark KEY=VALUE goes to the benchmarks that have such a setting, BENCHMARK.KEY=VALUE to one.
    Ready images and answers (--model folder or answers) lie at PATH/BENCHMARK, as data do.

    \b
    jfeval suite
    jfeval run --suite paper --limit 20        # the same command by another name
    jfeval suite paper --model janusflow:JanusFlow-1.3B --edition official --data DATA
    jfeval suite paper --model folder:IMAGES --edition official --data DATA --against Show-o
    """  # noqa: D301
    from jfeval import suite
    from jfeval.console import clean
    from jfeval.registry import can, model_settings, split_place
    from jfeval.settings import resolve

    values = given(options)
    engine = take_engine(values)
    entries = suite.suite(name)
    own = _shared_out(list(values.pop("set_benchmark", ())), entries)
    model_values = {key: values.pop(key) for key in ("guidance_scale", "num_steps") if key in values}
    overrides = list(values.pop("overrides", ()))
    common = resolve(run_settings(), values=values)
    model, place = split_place(common.model)
    checked = model_settings(model, {**common.model_settings, **place, **model_values}, overrides)  # said once, not for every benchmark
    path = getattr(checked, "path", None)
    common = _titled(common, model, checked)
    against = _against(against, str(path or ""))
    asked = _Asked(
        common=common,
        data=data,
        ready=Path(path) if model in READY and path else None,
        model_values=model_values,
        overrides=overrides,
        retry_failed=retry_failed,
        engine=engine,
    )
    models = LastModel()
    stores: list[Store] = []
    missing: dict[str, str] = {}
    not_applicable: dict[str, str] = {}
    for entry in entries:
        if not can(model, entry.needs):
            not_applicable[entry.benchmark] = _CANNOT[entry.needs]
            continue
        try:
            store = _run(asked, entry, own[entry.benchmark], models)
        except (UserError, Failed) as error:
            missing[entry.benchmark] = clean(str(error).split("\n", 1)[0])[:160]
            continue
        stores.append(store)
        if too_many_failed(store, common):
            missing[entry.benchmark] = "more samples failed than --max-failures allows"
    _print_table(suite.lines(stores, missing, against, not_applicable), against)
    if stores:
        from jfeval.reports.build import write_report

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


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is asked of every benchmark of a suite."""

    common: "RunSettings"
    data: Path | None
    ready: Path | None
    """Where ready images or answers lie, one folder or file a benchmark; None for a model that makes its own."""
    model_values: Mapping[str, object]
    overrides: list[str]
    retry_failed: bool
    engine: "Engine"


def _run(asked: _Asked, entry: "Entry", own: list[str], models: LastModel) -> "Store":
    """Carry out one benchmark's run, with its own settings ``own``."""
    from jfeval import suite
    from jfeval.registry import load_benchmark, split_place

    model, _ = split_place(asked.common.model)
    model_values, overrides = {**suite.recipe_of(entry, model), **asked.model_values}, asked.overrides
    if asked.ready is not None:
        model_values, overrides = {"path": place_of(model, asked.ready, entry.benchmark)}, []
    data = asked.data / entry.benchmark if asked.data is not None else None
    settings = with_own(replace(suite.settings_of(entry, asked.common), data=data), model_values, overrides, own)
    click.echo(f"{entry.benchmark} ...", err=True)
    benchmark = load_benchmark(settings.benchmark, **settings.benchmark_settings)
    ready = model in READY
    load = ready_loader(settings, benchmark)
    if not ready and asked.engine.alone:  # workers load for themselves
        load = partial(models.load, settings.model, **settings.model_settings)
    again = asked.retry_failed or ready
    return carry_out(settings, benchmark, overwrite=False, retry_failed=again, stop_early=not ready, engine=asked.engine, load=load)


def _shared_out(overrides: Sequence[str], entries: "Sequence[Entry]") -> dict[str, list[str]]:
    """Give each ``KEY=VALUE`` to the benchmarks that have such a setting, and ``BENCHMARK.KEY=VALUE`` to that one.

    Raises:
        UserError: None has.
    """
    from jfeval.registry import benchmark_settings

    own: dict[str, list[str]] = {entry.benchmark: [] for entry in entries}
    known: dict[str, set[str]] = {}
    for benchmark in own if overrides else ():
        settings = benchmark_settings(benchmark)
        known[benchmark] = {item.name for item in dataclasses.fields(settings)} if settings is not None else set()  # pyright: ignore
    for text in overrides:
        benchmark, _, rest = text.partition(".")
        if benchmark in own:
            own[benchmark].append(rest)
            continue
        key = text.partition("=")[0].strip()
        takers = [benchmark for benchmark, names in known.items() if key in names]
        if not takers:
            raise unknown("setting of the suite's benchmarks", key, set().union(*known.values()))
        for benchmark in takers:
            own[benchmark].append(text)
    return own


def _titled(common: "RunSettings", model: str, checked: object) -> "RunSettings":
    """Give all runs one title, also where each benchmark has a folder of its own."""
    own = dataclasses.asdict(checked) if checked is not None else {}  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(common, title=dataclasses.replace(common, model=model, model_settings=own).shown)


def _against(asked: str | None, place: str) -> str:
    """Return whose printed numbers stand beside: who is asked for, else the model that a hub id or path is of.

    Raises:
        UserError: Nothing is printed for who is asked for.
    """
    from jfeval.reports.paper import printed_as, printed_models

    if asked is None:
        return printed_as(place) or _USUAL
    if asked not in printed_models():
        raise unknown("model with printed numbers", asked, printed_models())
    return asked


def _print_table(lines: "Iterable[Line]", against: str) -> None:
    """Print the closing table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from jfeval.console import is_terminal

    table = Table("benchmark", "metric", "protocol", "measured", f"printed ({against})", box=None)
    for line in lines:
        table.add_row(*(Text(cell) for cell in (line.benchmark, line.metric, line.protocol, line.measured, line.printed)))
    terminal = is_terminal(sys.stdout)
    Console(width=None if terminal else 250, force_terminal=terminal).print(table)
