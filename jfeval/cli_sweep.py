"""One model under many settings, or many variants of a training: `jfeval sweep`. Part of `jfeval.cli`."""

import itertools
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_evaluate import carry_out, run_settings, too_many_failed, with_own
from jfeval.cli_options import FOLDER, given
from jfeval.errors import UserError
from jfeval.last_model import LastModel

if TYPE_CHECKING:
    from jfeval.settings import RunSettings
    from jfeval.store import Store

MOST_RUNS = 1000
"""A grid with more combinations is taken for a mistake."""


@click.command()
@click.option("--grid", is_flag=True, help="Try every combination of the values given as KEY=VALUE,VALUE...")
@click.argument("axes", nargs=-1, metavar="KEY=VALUE,VALUE... | ABLATION.yaml [PART.KEY=VALUE]...")
@click.option("--variants", default="", metavar="A,B...|all", help="Variants to train and evaluate.  [default: all of ABLATION.yaml]")
@click.option(
    "--results", type=click.Path(dir_okay=False, path_type=Path), help="CSV that trainings append to.  [default: results.csv in --out]"
)
@click.option("--model", metavar="NAME", help="Model.  [default: janusflow-shapes]")
@click.option("--benchmark", metavar="NAME", help="Benchmark.  [default: geneval]")
@click.option("--edition", metavar="NAME", help="official data, or shapes, the embedded world.  [default: shapes]")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model that stays the same.")
@click.option(
    "--seeds", default="0", show_default=True, metavar="N,N...", help="Seeds, each with everything. Of trainings, N alone means 0 to N-1."
)
@click.option("--data", type=FOLDER, help="Local folder of official data.")
@click.option("--limit", type=int, help="Take N prompts, spread evenly over tasks.")
@click.option("--batch-size", type=int, help="Images per batch.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trainings at a time, each with its share of cores and accelerators: faster than one after the other where models are small.",
)
@click.option("--anew", is_flag=True, help="Train also what the results that are committed beside ABLATION.yaml hold.")
@click.option("--out", type=FOLDER, default=Path("runs/sweep"), show_default=True, help="Folder of the runs and of the report.")
@click.option("--dry-run", is_flag=True, help="Print the runs; load no model, train nothing and write nothing.")
def sweep(
    *,
    grid: bool,
    axes: tuple[str, ...],
    variants: str,
    results: Path | None,
    overrides: tuple[str, ...],
    seeds: str,
    out: Path,
    dry_run: bool,
    anew: bool,
    jobs: int,
    **options: object,
) -> None:
    """Evaluate one model under every combination of settings, or train and evaluate variants of a recipe; report the comparison.

    Finished runs are kept: the same command continues a sweep that was stopped, and a longer grid adds to it. Every run sees the same
    prompts and noise under a seed. The report's path is the last line printed.

    \b
    jfeval sweep --grid guidance_scale=1,2,3,5,7.5 num_steps=10,20,30,50
    jfeval sweep --grid guidance_scale=1,3,5 --seeds 0,1,2 --limit 60 --out runs/guidance
    jfeval sweep models/configs/ablations/shapes.yaml --variants A,B,F --seeds 3 --jobs 3 --out runs/ablation
    jfeval sweep models/configs/ablations/shapes.yaml --variants all --seeds 6 --dry-run
    jfeval sweep models/configs/ablations/paper.yaml lm.path=DIR contrastive.path=DIR vae.path=DIR tokenizer.path=DIR
    jfeval sweep models/configs/ablations/shapes.yaml --variants A,F --seeds 3,4,5 --results models/configs/ablations/shapes-results.csv
    """  # noqa: D301
    from jfeval.registry import load_benchmark

    check_alone()
    if not grid and axes and axes[0].endswith((".yaml", ".yml")):
        from jfeval.cli_ablation import seeds_of, train_variants

        file, chosen = Path(axes[0]), seeds_of(seeds)
        train_variants(file, axes[1:], variants=variants, seeds=chosen, out=out, results=results, dry_run=dry_run, anew=anew, jobs=jobs)
        return
    if not grid:
        raise click.UsageError(
            "Say what to vary: jfeval sweep --grid KEY=VALUE,VALUE..., or jfeval sweep ABLATION.yaml [PART.KEY=VALUE]..."
        )
    if variants or results or anew or jobs > 1:
        raise click.UsageError("--variants, --results, --anew and --jobs belong to trainings: jfeval sweep ABLATION.yaml --variants A,B")
    planned = plan_sweep(parse_axes(axes), parse_seeds(seeds), given(options), list(overrides), out)
    for number, settings in enumerate(planned, 1):
        click.echo(f"{number:3d} of {len(planned)}  {settings.folder.name}" + ("" if dry_run else " ..."), err=not dry_run)
    if dry_run:
        return
    stores: list[Store] = []
    failed, models = False, LastModel()
    for settings in planned:
        benchmark = load_benchmark(settings.benchmark, **settings.benchmark_settings)
        load = partial(models.load, settings.model, **settings.model_settings)
        store = carry_out(settings, benchmark, overwrite=False, retry_failed=False, stop_early=True, load=load)
        failed |= too_many_failed(store, settings)
        stores.append(store)
        click.echo(f"{settings.folder.name}  {_headline(store)}")
    _write_tables(stores, out)
    if failed:
        raise click.exceptions.Exit(1)


def check_alone() -> None:
    """Refuse to be one of several processes, which would all train the same and write into the same folders.

    Raises:
        UserError: ``torchrun`` started more than one.
    """
    processes = os.environ.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" in os.environ and processes != "1":
        raise UserError(
            f"jfeval sweep runs in one process, and torchrun started {processes}; leave torchrun out, and give each machine variants or "
            "seeds of its own: their results go into one CSV. `jfeval train` takes several processes."
        )


def parse_axes(axes: Sequence[str]) -> dict[str, list[str]]:
    """Read ``key=value,value`` texts.

    Raises:
        UserError: One is not of this form, or names a key or a value twice.
    """
    found: dict[str, list[str]] = {}
    for axis in axes:
        key, equals, text = axis.partition("=")
        values = [value.strip() for value in text.split(",")]
        if not equals or not key or not all(values):
            raise UserError(f"expected KEY=VALUE,VALUE..., got {axis!r}")
        if key in found or len(set(values)) < len(values):
            raise UserError(f"{key} is given twice, or has a value twice: {axis!r}")
        found[key] = values
    if not found:
        raise UserError("no setting to vary; give at least one KEY=VALUE,VALUE...")
    return found


def parse_seeds(text: str) -> list[int]:
    """Read ``0,1,2``.

    Raises:
        UserError: Something is no seed, or is there twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UserError(f"seeds must be different whole numbers with commas between, got {text!r}")
    return [int(word) for word in words]


def plan_sweep(
    axes: Mapping[str, Sequence[str]], seeds: Sequence[int], values: Mapping[str, object], overrides: Sequence[str], out: Path
) -> "list[RunSettings]":
    """Check every combination before the first one runs; each gets a folder of its own under ``out``, named for its values.

    Raises:
        UserError: A setting is unknown or a value does not fit; or the grid is larger than `MOST_RUNS`.
    """
    from jfeval.registry import check_name
    from jfeval.settings import resolve

    combinations = list(itertools.product(*axes.values()))
    if len(combinations) * len(seeds) > MOST_RUNS:
        raise UserError(f"the grid has {len(combinations) * len(seeds)} runs, more than {MOST_RUNS}; narrow it")
    planned = []
    for combination in combinations:
        texts = [f"{key}={value}" for key, value in zip(axes, combination, strict=True)]
        for seed in seeds:
            settings = resolve(run_settings(), values={**values, "seed": seed, "out": out / ",".join([*texts, f"seed={seed}"])})
            check_name("benchmark", settings.benchmark)
            planned.append(with_own(settings, {}, [*overrides, *texts], []))
    return planned


def _headline(store: "Store") -> str:
    """Return a run's headline number with its interval."""
    metric = next((m for m in store.metrics() if m.headline), None)
    if metric is None:
        return "no headline number"
    interval = "" if metric.ci_low is None else f" [{metric.ci_low:.2f}, {metric.ci_high:.2f}]"
    return f"{metric.name} {metric.value:.3f}{interval}"


def _write_tables(stores: "Sequence[Store]", out: Path) -> None:
    """Write the report and the numbers behind it, and print where."""
    from jfeval.files import write_atomically
    from jfeval.reports.build import write_report
    from jfeval.reports.frames import metrics_frame
    from jfeval.reports.table import csv_text

    frame = metrics_frame(stores).map(lambda cell: csv_text(cell) if isinstance(cell, str) else cell)
    write_atomically(out / "sweep.csv", frame.to_csv(index=False).encode())
    click.echo(out / "sweep.csv")
    click.echo(write_report(stores, out / "report.html"))
