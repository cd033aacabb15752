"""The command line. The only module that reaches all four packages, and only inside its commands, so that ``--help`` answers at once."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval import __version__, cli_inspect
from jfeval.cli_bundle import bundle, unbundle
from jfeval.cli_chat import chat
from jfeval.cli_checkpoint import checkpoint
from jfeval.cli_data import data
from jfeval.cli_doctor import doctor
from jfeval.cli_evaluate import Refused, evaluate, run_settings, with_own
from jfeval.cli_make import generate, train
from jfeval.cli_options import (
    FILE,
    FOLDER,
    batch_size_option,
    benchmark_options,
    engine_options,
    given,
    model_options,
    retry_failed_option,
    take_engine,
    together,
)
from jfeval.cli_ready import READY, ready_loader
from jfeval.cli_score import score
from jfeval.cli_serve import serve
from jfeval.cli_suite import against_option, instead_of_a_benchmark, suite_command
from jfeval.cli_sweep import sweep
from jfeval.cli_train import export, watch
from jfeval.errors import DISK_ERRORS, UserError

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.settings import RunSettings


class _Commands(click.Group):
    """Turns bad input into a message and exit status 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise Refused(str(error)) from error
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise Refused(f"{error}. What is finished is stored; mend that and run the same command again.") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="jfeval")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def main(*, verbose: bool) -> None:
    """Train, run and evaluate JanusFlow, and put any other model beside it.

    \b
    jfeval run                                  evaluate the embedded model on GenEval (shapes)
    jfeval generate "a red circle"              draw a picture
    jfeval list                                 what models and benchmarks there are
    """  # noqa: D301
    from jfeval.console import setup_logging

    setup_logging(verbose=verbose)


@main.command()
@together(
    click.option("--config", type=FILE, help="YAML file of run settings; options win over it."),
    click.option("--model", metavar="NAME", help="Model.  [default: janusflow-shapes]"),
)
@benchmark_options
@model_options
@together(
    click.option("--limit", type=int, help="Take N prompts, spread evenly over tasks and within each; not the first N."),
    batch_size_option,
    retry_failed_option,
    click.option("--dry-run", is_flag=True, help="Print the plan; load no model and write nothing."),
    click.option("--with-text-only", is_flag=True, help="Ask every question without its image too, and show that baseline beside."),
    click.option("--suite", metavar="NAME", help="All benchmarks of a suite, as `jfeval suite NAME` runs them."),
    against_option,
)
@engine_options
@click.pass_context
def run(
    ctx: click.Context,
    *,
    config: Path | None,
    overwrite: bool,
    retry_failed: bool,
    dry_run: bool,
    no_report: bool,
    with_text_only: bool,
    suite: str | None,
    against: str | None,
    **options: object,
) -> None:
    """Evaluate a model: generate, judge, score, report.

    The same command continues a run that was stopped, at whatever moment. The report's path is the last line printed.

    \b
    jfeval run
    jfeval run --seed 3 --out runs/seed3 --guidance-scale 5
    jfeval run --benchmark geneval --edition official --model janusflow --set path=JanusFlow-1.3B
    jfeval run --benchmark pope --with-text-only
    jfeval run --limit 20 --dry-run
    jfeval run --suite paper --model hf:llava-hf/llava-1.5-7b-hf --set revision=COMMIT --edition official --data DATA
    jfeval run --workers 4
    jfeval run --shard $SLURM_ARRAY_TASK_ID/8
    """  # noqa: D301
    if suite is not None:
        instead_of_a_benchmark(ctx, suite)
        return
    if against is not None:
        raise click.UsageError("--against goes with --suite.")
    from jfeval.registry import check_name, load_benchmark
    from jfeval.settings import resolve

    values = given(options)
    engine = take_engine(values)
    benchmark_overrides = list(values.pop("set_benchmark", ()))
    model_values = {key: values.pop(key) for key in ("guidance_scale", "num_steps") if key in values}
    overrides = list(values.pop("overrides", ()))  # pyright: ignore[reportArgumentType, reportCallIssue]
    settings = resolve(run_settings(), file=config, values=values)
    check_name("benchmark", settings.benchmark)
    settings = with_own(settings, model_values, overrides, benchmark_overrides)
    benchmark = load_benchmark(settings.benchmark, **settings.benchmark_settings)
    if dry_run:
        _print_plan(settings, benchmark)
        return
    ready = settings.model in READY
    evaluate(
        settings,
        benchmark,
        overwrite=overwrite,
        retry_failed=retry_failed or ready,
        stop_early=not ready,
        report=not no_report,
        engine=engine,
        text_only=with_text_only,
        load=ready_loader(settings, benchmark) if engine.stage in ("all", "generate") else None,
    )


@main.command()
@click.argument("runs", nargs=-1, type=FOLDER)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: report.html]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "table", "csv", "markdown", "parquet", "model-index"]),
    help="Form; table prints on the terminal where no file is named.  [default: by the file's name]",
)
def report(*, runs: tuple[Path, ...], out: Path | None, form: str | None) -> None:
    """Write one report of RUNS, or of all that stand under runs/: a page, or the leaderboard in other forms with the same numbers.

    \b
    jfeval report
    jfeval report runs/* --out report.html
    jfeval report runs/* --format table
    jfeval report runs/* --out leaderboard.md
    jfeval report runs/mine --out model-index.yaml
    """  # noqa: D301
    from jfeval.reports.runs import load_runs
    from jfeval.store import Store

    stores = [Store.open(path) for path in runs] or list(load_runs("runs/*"))
    if form == "table" and out is None:
        from jfeval.reports.overview import overview
        from jfeval.reports.tables import leaderboard
        from jfeval.reports.terminal import print_tables

        print_tables([*overview(stores), *leaderboard(stores)])
        return
    if form not in (None, "html") and out is None:
        raise click.UsageError(f"Name the file with --out; --format {form} does not print.")
    from jfeval.reports.export import export, format_of

    path = out or Path("report.html")
    click.echo(export(stores, path, form or format_of(path)))  # pyright: ignore[reportArgumentType]


@main.command("list")
def list_() -> None:
    """List models and benchmarks."""
    from jfeval.registry import list_benchmarks, list_models

    for kind, names in (("model", list_models()), ("benchmark", list_benchmarks())):
        for name in names:
            click.echo(f"{kind:<10} {name}")


@main.command()
@click.argument("name")
def describe(*, name: str) -> None:
    """Say what a model or benchmark is, and which settings it takes.

    \b
    jfeval describe janusflow-shapes
    """  # noqa: D301
    from jfeval.registry import describe as look_up

    found = look_up(name)
    click.echo(f"{found.kind} {found.name} ({found.source})\n\n{found.summary}\n")
    for key, value in found.facts.items():
        click.echo(f"{key}: {value}")
    for item in found.settings:
        click.echo(f"  {item.name}: {item.type} = {item.default}\n      {item.doc}")


@main.command()
@click.option("--goldens", type=FOLDER, required=True, help="A golden set, a family of them, or the root.")
@click.pass_context
def verify(ctx: click.Context, *, goldens: Path) -> None:
    """Compare with recorded outputs of the official code.

    Prints one line per recorded set: its suite and place (suite@place), cases, worst error or mismatches, and ok or FAIL, which the
    first difference follows. Exit status 1 if anything differs.

    \b
    jfeval verify --goldens ../shared/goldens
    """  # noqa: D301
    from jfeval.verify import main as compare

    ctx.exit(compare(goldens))


for _command in (score, doctor, serve, generate, chat, train, watch, export, data, sweep, checkpoint, bundle, unbundle, suite_command):
    main.add_command(_command)
for _command in (cli_inspect.show, cli_inspect.compare, cli_inspect.audit):
    main.add_command(_command)


# parts of commands


def _print_plan(settings: "RunSettings", benchmark: "Benchmark") -> None:
    from collections import Counter

    from jfeval.plan import make_plan
    from jfeval.settings import to_yaml
    from jfeval.store import Store

    plan = make_plan(settings, benchmark)
    click.echo(to_yaml(settings).rstrip())
    batches = f"{len(plan.batches)} batches" if plan.batches else "batches of a size still to be found"
    click.echo(f"protocol {plan.protocol}; {len(plan.rows)} of {plan.available} prompts, {plan.images} images in {batches}")
    for task, count in Counter(sample.task for _, sample in plan.rows).items():
        click.echo(f"  {task} {count}")
    store = Store(settings.folder)
    held = f"holds {len(store.outputs())} samples of an earlier invocation" if store.exists() else "is new"
    click.echo(f"{settings.folder} {held}")
