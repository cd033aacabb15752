"""The commands that make something: pictures, and models. Part of `jfeval.cli`; imports what it needs inside the commands."""

import hashlib
import re
from pathlib import Path
from typing import Any

import click

from jfeval.cli_data import WORLD_MAKERS
from jfeval.cli_options import FOLDER, edition_option, given, load_model, model_options
from jfeval.cli_train import curve_of_stages
from jfeval.errors import UserError


@click.command()
@click.argument("prompt")
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--num-images", type=click.IntRange(1, 1000), default=4, show_default=True, help="How many pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise.")
@click.option("--out", type=FOLDER, default=Path("generated"), show_default=True, help="Folder for the PNG files.")
@model_options
def generate(*, prompt: str, model: str, num_images: int, seed: int, out: Path, **options: object) -> None:
    """Draw pictures of a prompt and print their paths.

    Files are named for prompt and seed, so that another prompt's pictures of the same seed stay beside them.

    \b
    jfeval generate "a red circle left of a blue square" --num-images 1 --seed 7
    """  # noqa: D301
    from jfeval.batching import USUAL
    from jfeval.console import Progress
    from jfeval.folder import make_writable
    from jfeval.models.memory import in_batches
    from jfeval.plan import image_seed
    from jfeval.schema import ImageJob

    make_writable(out)
    drawer = load_model(model, options)
    if not hasattr(drawer, "generate"):
        raise UserError(f"model {model!r} does not draw images")
    jobs = [ImageJob(prompt=prompt, seed=image_seed(seed, prompt, index), index=index) for index in range(num_images)]
    paths = [out / f"{_named_for(prompt)}-seed{seed}-{index:04d}.png" for index in range(num_images)]
    with Progress("draw", total=num_images) as progress:

        def draw(batch: slice) -> None:
            for path, picture in zip(paths[batch], drawer.generate(jobs[batch]), strict=True):
                picture.save(path)
            progress.advance(len(jobs[batch]))

        in_batches(num_images, USUAL, draw)
    for path in paths:
        click.echo(path)


def _named_for(prompt: str) -> str:
    """Return a file name's beginning: the prompt's first letters and digits, and a hash, so that two prompts do not share one."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:32].strip("-")
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return f"{words}-{digest}" if words else digest


@click.command()
@click.option("--recipe", default="shapes", show_default=True, help="Name of a recipe, or a YAML file.")
@click.option("--out", type=FOLDER, default=Path("train"), show_default=True, help="Folder for data, checkpoints and the result.")
@click.option("--only", multiple=True, metavar="PART", help="Make this part only; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, trained and spent; make nothing.")
@click.option("--force", is_flag=True, help="Go on from the last checkpoint of parts whose settings changed; without one, as --anew.")
@click.option("--anew", is_flag=True, help="Make parts anew whose settings changed; their old folders are renamed to PART.before-1 ...")
@click.option(
    "--benchmark", "benchmarks", multiple=True, metavar="NAME", help="What stages score every loop.evaluate_every; may be repeated."
)
@click.option("--limit", type=click.IntRange(1), help="Samples per benchmark.  [default: all]")
@edition_option
@click.argument("overrides", nargs=-1, metavar="[PART.KEY=VALUE]...")
def train(
    *,
    recipe: str,
    out: Path,
    only: tuple[str, ...],
    dry_run: bool,
    force: bool,
    anew: bool,
    benchmarks: tuple[str, ...],
    overrides: tuple[str, ...],
    **asked: object,
) -> None:
    """Train every part of a model from random weights.

    Stopped, the same command continues, on any number of processes. With --benchmark, stages score themselves every loop.evaluate_every
    updates; `jfeval report OUT/STAGE/runs/*` draws the learning curve. threads=N takes so many cores, so that trainings run side by side.

    \b
    jfeval train --recipe shapes
    jfeval train --recipe shapes --only vae vae.loop.steps=500
    jfeval train --recipe shapes --benchmark geneval --limit 60 stage2.loop.evaluate_every=500
    jfeval train --recipe shapes-diffusion threads=1
    jfeval train --recipe paper --dry-run
    torchrun --nproc-per-node 8 -m jfeval train --recipe paper
    """  # noqa: D301
    from jfeval.models.training.making import train as make_parts
    from jfeval.models.training.ranks import joined
    from jfeval.models.training.recipe import load_recipe

    if force and anew:
        raise click.UsageError("--force goes on where --anew begins again; give one of them.")
    checked = load_recipe(recipe, overrides)
    evaluate = curve_of_stages(checked, only, benchmarks, out, given(asked))
    with joined() as ranks:
        if dry_run and ranks.first:
            from jfeval.models.training.budget import describe

            for line in describe(checked):
                click.echo(line)
        how: dict[str, Any] = {"prepare": WORLD_MAKERS, "evaluate": evaluate, "dry_run": dry_run, "force": force, "anew": anew}
        made = make_parts(recipe, out, only=only, overrides=overrides, ranks=ranks, **how)
        if ranks.first:
            click.echo(made)
