"""The commands that make something: pictures, answers, models, data. Part of `jfeval.cli`; imports what it needs inside the commands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval.cli_options import FILE, FOLDER, given, model_options
from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.schema import Sample

_MAX_PIXELS = 64_000_000


@click.command()
@click.argument("prompt")
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--num-images", type=click.IntRange(1, 1000), default=4, show_default=True, help="How many pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise.")
@click.option("--out", type=FOLDER, default=Path("generated"), show_default=True, help="Folder for the PNG files.")
@model_options
def generate(*, prompt: str, model: str, num_images: int, seed: int, out: Path, **options: object) -> None:
    """Draw pictures of a prompt and print their paths.

    \b
    jfeval generate "a red circle left of a blue square" --num-images 1 --seed 7
    """  # noqa: D301
    from jfeval.plan import image_seed
    from jfeval.schema import ImageJob

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the folder {out}: {error.strerror}; give another --out") from error
    drawer = _load(model, options)
    if not hasattr(drawer, "generate"):
        raise UserError(f"model {model!r} does not draw images")
    jobs = [ImageJob(prompt=prompt, seed=image_seed(seed, prompt, index), index=index) for index in range(num_images)]
    for index, picture in enumerate(drawer.generate(jobs)):
        path = out / f"seed{seed}-{index:04d}.png"
        picture.save(path)
        click.echo(path)


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=FILE)
@click.argument("question")
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=32, show_default=True, help="Longest answer.")
def chat(*, images: tuple[Path, ...], question: str, model: str, max_new_tokens: int, **options: object) -> None:
    """Ask a question about pictures and print the answer, word by word where the model can.

    \b
    jfeval chat generated/seed7-0000.png "What color is the circle?"
    jfeval chat before.png after.png "What has changed?"
    """  # noqa: D301
    from jfeval.console import clean
    from jfeval.schema import TextRequest

    if not images and Path(question).is_file():
        raise click.UsageError(f"{question} is a file; put the question after it.")
    request = TextRequest(question=question, images=tuple(_checked_image(image) for image in images), max_new_tokens=max_new_tokens)
    answerer = _load(model, options)
    if not hasattr(answerer, "answer"):
        raise UserError(f"model {model!r} does not answer questions")
    for piece in answerer.stream(request) if hasattr(answerer, "stream") else answerer.answer([request]):
        click.echo(clean(piece), nl=False)
    click.echo()


@click.command()
@click.option("--recipe", default="shapes", show_default=True, help="Name of a recipe, or a YAML file.")
@click.option("--out", type=FOLDER, default=Path("train"), show_default=True, help="Folder for data, checkpoints and the result.")
@click.option("--only", multiple=True, metavar="PART", help="Make this part only; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be made.")
@click.option("--force", is_flag=True, help="Make parts anew whose settings changed.")
@click.argument("overrides", nargs=-1, metavar="[PART.KEY=VALUE]...")
def train(*, recipe: str, out: Path, only: tuple[str, ...], dry_run: bool, force: bool, overrides: tuple[str, ...]) -> None:
    """Train every part of a model from random weights.

    Stopped, the same command continues.

    \b
    jfeval train --recipe shapes
    jfeval train --recipe shapes --only vae vae.steps=500
    """  # noqa: D301
    from jfeval.models.training.recipe import train as make_parts

    click.echo(make_parts(recipe, out, only=only, overrides=overrides, prepare={"shapes": _make_shapes}, dry_run=dry_run, force=force))


@click.group()
def data() -> None:
    """Make and check data."""


@data.command("make")
@click.argument("world", type=click.Choice(["shapes"]))
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the world.")
@click.option("--train", type=click.IntRange(1), help="Training scenes.")
@click.option("--test", type=click.IntRange(0), help="Scenes that share nothing with training.")
@click.option("--heldout", type=click.IntRange(0), help="Scenes of color-shape pairs that training never shows.")
@click.option("--text", type=click.IntRange(0), help="Lines of text alone.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def data_make(*, world: str, out: Path, seed: int, workers: int, **rows: int | None) -> None:  # noqa: ARG001  one world so far
    """Write a synthetic world to disk; stopped, the same command continues.

    \b
    jfeval data make shapes --out data/shapes --seed 0
    """  # noqa: D301
    _make_shapes(out, seed=seed, workers=workers, rows=given(rows))
    click.echo(out)


@data.command("prompts")
@click.option("--benchmark", default="geneval", show_default=True, help="Benchmark.")
@click.option("--edition", default="shapes", show_default=True, help="official or shapes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the prompts of shapes.")
@click.option("--data", "folder", type=FOLDER, help="Local folder of official data.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
def data_prompts(*, benchmark: str, edition: str, seed: int, folder: Path | None, out: Path) -> None:
    """Write a benchmark's prompts for your own generator: OUT/prompts.txt, and OUT/00000/metadata.jsonl for each.

    Put your images beside the metadata, as OUT/00000/samples/0000.png, and `jfeval score --images OUT` evaluates them. A benchmark that
    asks questions gives OUT/questions.jsonl and the images in OUT/images; `jfeval score --answers FILE` evaluates the answers.

    \b
    jfeval data prompts --benchmark geneval --edition shapes --seed 3 --out my-images
    """  # noqa: D301
    import json

    from jfeval.files import write_atomically
    from jfeval.plan import make_plan
    from jfeval.registry import load_benchmark
    from jfeval.schema import ImageRequest
    from jfeval.settings import RunSettings

    plan = make_plan(RunSettings(benchmark=benchmark, edition=edition, seed=seed, data=folder), load_benchmark(benchmark))
    if not all(isinstance(sample.request, ImageRequest) for _, sample in plan.rows):
        _write_questions(out, [sample for _, sample in plan.rows])
        click.echo(out)
        return
    prompts = []
    for row, sample in plan.rows:
        if not isinstance(sample.request, ImageRequest):
            continue
        prompts.append(sample.request.prompt)
        write_atomically(
            out / f"{row:05d}" / "metadata.jsonl", (json.dumps({**sample.reference, "prompt": sample.request.prompt}) + "\n").encode()
        )
    write_atomically(out / "prompts.txt", "".join(" ".join(prompt.split()) + "\n" for prompt in prompts).encode())
    click.echo(out)


@data.command("verify")
@click.argument("folder", type=FOLDER)
def data_verify(*, folder: Path) -> None:
    """Check a folder that `data make` wrote: hashes, splits, and that no held-out pair is in training.

    \b
    jfeval data verify data/shapes
    """  # noqa: D301
    from jfeval.benchmarks.shapes.dataset import verify as check

    for name, count in check(folder).items():
        click.echo(f"{name} {count}")


def _write_questions(out: Path, samples: "Sequence[Sample]") -> None:
    """Write questions with their ids and the names of their image files, each image once."""
    import hashlib
    import json

    from jfeval.files import write_atomically
    from jfeval.schema import TextRequest

    lines, written = [], set()
    for sample in samples:
        names = []
        for data in sample.request.images if isinstance(sample.request, TextRequest) else ():
            ending = ".png" if data.startswith(b"\x89PNG") else ".jpg"
            name = hashlib.sha256(data).hexdigest()[:16] + ending
            if name not in written:
                write_atomically(out / "images" / name, data, flush=False)
                written.add(name)
            names.append(name)
        if isinstance(sample.request, TextRequest):
            lines.append(json.dumps({"id": sample.id, "question": sample.request.question, "images": names}))
    write_atomically(out / "questions.jsonl", "".join(f"{line}\n" for line in lines).encode())


def _make_shapes(out: Path, *, seed: int = 0, workers: int = 1, rows: Mapping[str, int] | None = None) -> None:
    from jfeval.benchmarks.shapes.dataset import WorldSize, make
    from jfeval.console import Progress

    with Progress("data", total=0) as shown:
        make(out, seed=seed, size=WorldSize(**rows or {}), workers=workers, progress=shown.set)


def _checked_image(path: Path) -> bytes:
    """Return an image file's bytes once they are known to be an image of bearable size."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise UserError(f"{path} has {image.width}x{image.height} pixels; at most {_MAX_PIXELS} are taken")
            image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not an image that can be read: {error}") from error
    return path.read_bytes()


def _load(model: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401  what it can do is asked of it
    from jfeval.registry import build_model, model_settings, split_place

    name, place = split_place(model)
    values = {**place, **given(options)}
    overrides = list(values.pop("overrides", ()))
    return build_model(name, model_settings(name, values, overrides))
