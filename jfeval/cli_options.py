"""Options and checks that several commands share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from jfeval.engine import Engine

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply several click options, the first one shown first."""

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


model_options = together(
    click.option("--guidance-scale", type=float, help="Weight of the prompt against no prompt."),
    click.option("--num-steps", type=int, help="Steps of the sampler."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model; see `jfeval describe MODEL`."),
)


class BatchSize(click.ParamType):
    """A number of at least 1, or ``auto``, which settings write as 0."""

    name = "batch size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the option's text."""
        if value == "auto":
            return 0
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a whole number of at least 1 nor 'auto'", param, ctx)
        return int(value)


set_benchmark_option = click.option(
    "--set-benchmark", multiple=True, metavar="KEY=VALUE", help="A setting of the benchmark; see `jfeval describe BENCHMARK`."
)
edition_option = click.option("--edition", metavar="NAME", help="official data, or shapes, the embedded world.  [default: shapes]")
seed_option = click.option("--seed", type=int, help="Changes the noise and, in shapes, the prompts.  [default: 0]")
data_option = click.option("--data", type=FOLDER, help="Local folder of official data.")

title_option = click.option("--title", metavar="TEXT", help="What tables call the model.  [default: its name and what it loads]")
max_failures_option = click.option("--max-failures", type=float, help="Share of samples that may fail.  [default: 0.01]")
retry_failed_option = click.option("--retry-failed", is_flag=True, help="Try samples again that failed before.")
batch_size_option = click.option("--batch-size", type=BatchSize(), metavar="N|auto", help="Images or questions per batch.  [default: 16]")
workers_option = click.option(
    "--workers", type=int, help="Processes that each load the model; a run may go on with another number.  [default: 1]"
)

benchmark_options = together(
    click.option("--benchmark", metavar="NAME", help="Benchmark.  [default: geneval]"),
    set_benchmark_option,
    edition_option,
    click.option("--protocol", metavar="NAME", help="Way of scoring.  [default: the benchmark's first]"),
    seed_option,
    data_option,
    title_option,
    click.option("--out", type=FOLDER, help="Run folder.  [default: one under runs/, named for the settings]"),
    max_failures_option,
    click.option("--overwrite", is_flag=True, help="Start anew: delete what the run folder holds, once the model is loaded."),
    click.option("--no-report", is_flag=True, help="Write no report."),
)

engine_options = together(
    workers_option,
    click.option("--shard", metavar="I/N", help="Do only the I-th of N parts of the batches; `jfeval run` without it merges and scores."),
    click.option(
        "--stage",
        type=click.Choice(["all", "generate", "judge", "score"]),
        help="Do one stage; judge goes on beside a generate in another process.  [default: all]",
    ),
    click.option("--judge-beside", is_flag=True, default=None, help="Judge in one more worker while pictures are drawn."),
    click.option(
        "--executor", type=click.Choice(["local", "ray"]), help="Where workers run; ray needs the extra 'cluster'.  [default: local]"
    ),
    click.option("--address", metavar="ADDRESS", help="Ray cluster to join, or auto.  [default: start one on this machine]"),
    click.option("--gpus", type=float, help="Share of an accelerator per Ray worker.  [default: 0]"),
    click.option("--item-timeout", type=float, metavar="SECONDS", help="Replace a worker that is silent for so long.  [default: 3600]"),
)
_ENGINE = ("workers", "stage", "judge_beside", "executor", "address", "gpus", "item_timeout")


def take_engine(values: dict[str, Any]) -> "Engine":
    """Take the options about workers out of those that were given.

    Raises:
        UserError: One is out of range, or asks for what another excludes.
    """
    from jfeval.engine import Engine
    from jfeval.locks import Share

    shard = values.pop("shard", None)
    chosen = {name: values.pop(name) for name in _ENGINE if name in values}
    cluster = sorted(set(chosen) - {"workers", "stage", "judge_beside", "executor", "item_timeout"})
    if cluster and chosen.get("executor") != "ray":
        raise click.UsageError(f"--{cluster[0].replace('_', '-')} is for --executor ray.")
    engine = Engine(**chosen, share=Share.parse(shard) if shard else None)
    if engine.alone and not engine.judge_beside and "item_timeout" in chosen:
        raise click.UsageError("--item-timeout watches over workers, and one process has none beside it; give --workers 2 or more.")
    return engine


def given(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None and value != ()}


def load_model(model: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401  what it can do is asked of it
    """Load a model with the options of `model_options`."""
    from jfeval.registry import build_model, model_settings

    values = given(options)
    overrides = list(values.pop("overrides", ()))
    return build_model(model, model_settings(model, values, overrides))
