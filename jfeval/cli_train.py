"""Scoring a training while it goes on, from inside or beside it, and turning its checkpoints into models. Part of `jfeval.cli`."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval.cli_options import FOLDER, data_option, edition_option, given, seed_option
from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.models.training.recipe import Recipe

_EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=_EXISTING)
@click.option("--benchmark", "benchmarks", multiple=True, default=("geneval",), show_default=True, help="Benchmark; may be repeated.")
@edition_option
@seed_option
@data_option
@click.option("--limit", type=click.IntRange(1), default=60, show_default=True, help="Samples per benchmark.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ..., or auto: a GPU where there is one.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the sampler.")
@click.option("--every", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Score what is there and stop.")
@click.option("--live", is_flag=True, help="Score the weights as they are, not their moving average.")
@click.option("--out", type=FOLDER, default=Path("runs/watch"), show_default=True, help="Folder of the runs.")
def watch(
    *,
    folder: Path,
    benchmarks: tuple[str, ...],
    device: str,
    overrides: tuple[str, ...],
    every: float,
    once: bool,
    live: bool,
    out: Path,
    **how: object,
) -> None:
    """Score the checkpoints of a training as they appear in FOLDER, the folder of its stage.

    Give the training `loop.keep_checkpoints=100`, or it deletes them before they are seen. Checkpoints that were scored are not scored
    again; `jfeval report OUT/*` draws the learning curve.

    \b
    jfeval watch train/stage2 --benchmark geneval --benchmark pope --limit 60
    """  # noqa: D301
    import dataclasses
    from functools import partial

    from jfeval.live import check_evaluation, evaluate
    from jfeval.models.janusflow.settings import SamplerSettings
    from jfeval.models.placing import check_device, choose_device
    from jfeval.models.training.snapshots import checkpoints, step_of
    from jfeval.settings import resolve

    asked = given(how)
    sampler = dataclasses.asdict(resolve(SamplerSettings, overrides=overrides))
    check_device(device)
    check_evaluation(benchmarks, **asked)
    score = partial(evaluate, benchmarks=benchmarks, sampler=sampler, name="watched", out=out, **asked)
    seen: set[int] = set()
    while True:
        for checkpoint in checkpoints(folder):
            if (step := step_of(checkpoint)) not in seen:
                seen.add(step)
                _score(checkpoint, step, score, averaged=not live, device=choose_device(device))
        if once:
            return
        time.sleep(every)


def _score(checkpoint: Path, step: int, score: Callable[..., Mapping[str, float]], *, averaged: bool, device: str) -> None:
    """Score one checkpoint; one that its training deletes meanwhile is passed over."""
    from jfeval.models.training.snapshots import load_checkpoint

    try:
        pipeline = load_checkpoint(checkpoint, averaged=averaged, device=device)
    except (OSError, UserError) as error:
        if checkpoint.is_dir():
            raise
        click.echo(f"step {step}: gone before it was read ({type(error).__name__}); let the training keep more", err=True)
        return
    scores = score(pipeline, step=step)
    click.echo(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def curve_of_stages(
    recipe: "Recipe", only: Sequence[str], benchmarks: Sequence[str], out: Path, how: Mapping[str, Any]
) -> Callable[[Any, str, int], Mapping[str, float]] | None:
    """Return what scores the live pipelines of a recipe's stages, with runs in OUT/STAGE/runs; None where none is to be scored.

    Args:
        recipe: The recipe.
        only: Names of the parts that are made; empty for all.
        benchmarks: What `jfeval train` was given.
        out: The training's folder.
        how: `jfeval.live.evaluate`'s ``limit`` and ``edition``, where they were given.

    Raises:
        UserError: A stage evaluates itself and nothing says on what, or the other way round; or a benchmark cannot be asked.
    """
    every = {p.name: p.settings.loop.evaluate_every for p in recipe.parts if p.kind == "stage" and (not only or p.name in only)}
    scored = [name for name, updates in every.items() if updates]
    if not benchmarks:
        if scored:
            key = f"{scored[0]}.loop.evaluate_every"
            raise UserError(f"{key} = {every[scored[0]]}, and nothing says on what: give --benchmark NAME, or {key}=0")
        if how:
            raise UserError(f"--{min(how)} says how a --benchmark is asked; give one")
        return None
    if not scored:
        example = f"for example {next(iter(every))}.loop.evaluate_every=500" if every else "none is to be made"
        raise UserError(f"--benchmark is for stages that evaluate themselves, and none does: {example}")
    from jfeval.live import check_evaluation, evaluate

    check_evaluation(benchmarks, **how)

    def score(pipeline: Any, stage: str, step: int) -> Mapping[str, float]:  # noqa: ANN401 - a JanusFlowPipeline
        import torch

        with torch.compiler.set_stance("force_eager"):  # prompts and answers have many lengths, each of which would be compiled
            return evaluate(pipeline, benchmarks, step=step, name=stage, out=out / stage / "runs", **how)

    return score


@click.command("export")
@click.argument("checkpoint", type=_EXISTING)
@click.option("--out", type=FOLDER, required=True, help="Folder to write; new or empty.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True, help="Of the weights."
)
@click.option("--live", is_flag=True, help="Write the weights as they are, not their moving average.")
def export(*, checkpoint: Path, out: Path, dtype: str, live: bool) -> None:
    """Write a CHECKPOINT of a stage (a folder step-...) as a model that anybody can load.

    The folder of a recipe's contrastive part is written as an encoder of pictures and prompts.

    \b
    jfeval export train/stage2/checkpoints/step-00001000 --out my-model
    jfeval run --model janusflow --set path=my-model
    jfeval export train/contrastive --dtype float16 --out my-encoder
    jfeval run --benchmark mjhq --set-benchmark contrastive=my-encoder
    """  # noqa: D301
    import torch

    from jfeval.models.training.contrastive import SIGLIP, export_encoder
    from jfeval.models.training.snapshots import export_checkpoint

    if (checkpoint / SIGLIP).is_dir():
        click.echo(export_encoder(checkpoint, out, dtype=getattr(torch, dtype)))
        return
    click.echo(export_checkpoint(checkpoint, out, averaged=not live, dtype=getattr(torch, dtype)))
