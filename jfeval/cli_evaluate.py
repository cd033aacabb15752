"""What several commands do with a run: check its settings, carry it out, show its numbers. Part of `jfeval.cli`."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.engine import Engine
    from jfeval.models.base import Model
    from jfeval.settings import RunSettings
    from jfeval.store import Store


class Refused(click.ClickException):
    """Bad input: a message without a traceback, exit status 2."""

    exit_code = 2

    def format_message(self) -> str:
        """Return the message without control characters."""
        from jfeval.console import clean

        return clean(self.message)


class Failed(Refused):
    """A run in which too much failed: exit status 1."""

    exit_code = 1


def run_settings() -> "type[RunSettings]":
    """Import the settings of a run, late."""
    from jfeval.settings import RunSettings

    return RunSettings


def with_own(
    settings: "RunSettings", model_values: Mapping[str, object], model_overrides: list[str], benchmark_overrides: list[str]
) -> "RunSettings":
    """Check the model's and the benchmark's own settings and write them out in full.

    Those that can change a result and are not the default name the run folder. A model named as ``hf:PATH`` becomes its name and its path.
    """
    import dataclasses

    from jfeval.registry import benchmark_settings, model_settings, split_place

    name, place = split_place(settings.model)
    settings = dataclasses.replace(settings, model=name)
    model = model_settings(settings.model, {**settings.model_settings, **place, **model_values}, model_overrides)
    model_full, model_changed = _full_and_changed(model, partial(model_settings, settings.model))
    asked = benchmark_settings(settings.benchmark, settings.benchmark_settings, benchmark_overrides)
    asked_full, asked_changed = _full_and_changed(asked, partial(benchmark_settings, settings.benchmark))
    out = dataclasses.replace(settings, model_settings=model_changed, benchmark_settings=asked_changed).folder
    return dataclasses.replace(settings, model_settings=model_full, benchmark_settings=asked_full, out=out)


def _full_and_changed(checked: object, defaults: Callable[[], object]) -> tuple[dict[str, object], dict[str, object]]:
    """Return settings as a mapping, and those of them that can change a result and are not the default."""
    import dataclasses

    from jfeval.settings import affects_result

    if checked is None:
        return {}, {}
    full, usual = dataclasses.asdict(checked), dataclasses.asdict(defaults())  # pyright: ignore[reportArgumentType]
    naming = {item.name for item in dataclasses.fields(checked) if affects_result(item)}  # pyright: ignore[reportArgumentType]
    return full, {key: value for key, value in full.items() if key in naming and value != usual[key]}


def evaluate(
    settings: "RunSettings",
    benchmark: "Benchmark",
    *,
    overwrite: bool,
    retry_failed: bool,
    stop_early: bool,
    report: bool,
    engine: "Engine | None" = None,
    text_only: bool = False,
    load: "Callable[[], Model] | None" = None,
) -> None:
    """Run, score, print and report; exit with 1 when too many samples failed. A part of a run is neither scored nor reported.

    With ``text_only`` the same questions are asked without their images too, in a run folder beside the run's. ``load`` gives the model
    where its name and settings do not.
    """
    from jfeval.baseline import without_images

    blind = without_images(settings) if text_only else None
    store = carry_out(settings, benchmark, overwrite=overwrite, retry_failed=retry_failed, stop_early=stop_early, engine=engine, load=load)
    if engine is not None and engine.part:
        counts = store.record().counts
        click.echo(
            f"{_part_words(engine)} is done; {store.path} holds {counts.finished} of {counts.asked} samples ({counts.failed} failed). "
            "The same command without --shard and --stage does what is missing, and scores."
        )
        return
    if blind is not None:
        from jfeval.registry import load_benchmark

        asked = load_benchmark(blind.benchmark, **blind.benchmark_settings)
        carry_out(blind, asked, overwrite=overwrite, retry_failed=retry_failed, stop_early=stop_early, engine=engine)
    show(store, report=report)
    if too_many_failed(store, settings):
        sys.exit(1)


def _part_words(engine: "Engine") -> str:
    shard = f"shard {engine.share.index}/{engine.share.of}" if engine.share else ""
    stage = f"stage {engine.stage}" if engine.stage != "all" else ""
    return " of ".join(word for word in (stage, shard) if word)


def carry_out(
    settings: "RunSettings",
    benchmark: "Benchmark",
    *,
    overwrite: bool,
    retry_failed: bool,
    stop_early: bool,
    engine: "Engine | None" = None,
    load: "Callable[[], Model] | None" = None,
) -> "Store":
    """Run and score, continuing where an earlier invocation stopped; say on standard error what failed.

    A part of a run (``engine.part``) is not scored; in the stage ``score`` nothing else is done.

    Raises:
        Failed: More samples failed than the settings allow, and the run was given up.
    """
    from jfeval.engine import ALONE
    from jfeval.plan import make_plan
    from jfeval.registry import load_model
    from jfeval.runner import TooManyFailures, run
    from jfeval.scoring import score
    from jfeval.secrecy import check_no_secrets
    from jfeval.staging import judge_beside
    from jfeval.store import Store
    from jfeval.tally import failure_summary

    check_no_secrets(settings.model_settings, "model_settings")
    check_no_secrets(settings.benchmark_settings, "benchmark_settings")
    engine = engine or ALONE
    plan = make_plan(settings, benchmark)
    load = load or partial(load_model, settings.model, **settings.model_settings)
    try:
        if engine.stage == "score":
            store = Store.open(settings.folder)
        elif engine.stage == "judge":
            store = judge_beside(plan, benchmark, engine=engine, retry_failed=retry_failed)
        else:
            store = run(plan, benchmark, load, overwrite=overwrite, retry_failed=retry_failed, stop_early=stop_early, engine=engine)
        if not engine.part:
            score(store, benchmark, protocol=plan.protocol)
    except TooManyFailures as error:
        raise Failed(
            f"{error}\nWhat succeeded is stored; mend the cause and add --retry-failed, or allow more with --max-failures."
        ) from error
    except KeyboardInterrupt:
        click.echo(f"\nStopped. What is finished is stored in {settings.folder}; the same command continues there.", err=True)
        sys.exit(130)
    if store.record().counts.failed:
        click.echo(failure_summary(store), err=True)
    return store


def too_many_failed(store: "Store", settings: "RunSettings") -> bool:
    """Tell whether a finished run lost more samples than its settings allow."""
    counts = store.record().counts
    return counts.failed > settings.max_failures * counts.asked


def show(store: "Store", *, report: bool) -> None:
    """Print a run's numbers and the report's tables, beside its text-only baseline if it has one; where wanted, write the report.

    The report's path is the last line.
    """
    from jfeval.baseline import text_only_of
    from jfeval.console import is_terminal
    from jfeval.reports.tables import leaderboard, task_table
    from jfeval.reports.terminal import print_tables
    from jfeval.summary import plain_lines

    terminal = is_terminal(sys.stdout)
    blind = text_only_of(store)
    stores = [store, *([blind] if blind else [])]
    beside = blind.metrics(store.record().protocol) if blind else []
    for line in plain_lines(store.record(), store.metrics(), beside, numbers=not terminal):
        click.echo(line)
    print_tables([*([task_table(store)] if terminal else []), *leaderboard(stores)])
    if report:
        from jfeval.reports.build import write_report

        click.echo(write_report(stores, store.path / "report.html"))
