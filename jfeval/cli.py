"""The command line. The only module that reaches all four packages, and only inside its commands, so that ``--help`` answers at once."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval import __version__
from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.settings import RunSettings
    from jfeval.store import Store

_FOLDER = click.Path(file_okay=False, path_type=Path)
_MAX_PIXELS = 64_000_000
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Commands(click.Group):
    """Turns bad input into a message and exit status 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Refused(str(error)) from error


class _Refused(click.ClickException):
    exit_code = 2

    def format_message(self) -> str:
        from jfeval.console import clean

        return clean(self.message)


class _Failed(_Refused):
    exit_code = 1


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


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Apply several click options, the first one shown first."""

    def decorate(function: Callable[..., object]) -> Callable[..., object]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_model_options = _options(
    click.option("--guidance-scale", type=float, help="Weight of the prompt against no prompt."),
    click.option("--num-steps", type=int, help="Steps of the sampler."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model; see `jfeval describe MODEL`."),
)
_benchmark_options = _options(
    click.option("--benchmark", metavar="NAME", help="Benchmark.  [default: geneval]"),
    click.option("--edition", metavar="NAME", help="official data, or shapes, the embedded world.  [default: shapes]"),
    click.option("--protocol", metavar="NAME", help="Way of scoring.  [default: the benchmark's first]"),
    click.option("--seed", type=int, help="Changes the noise and, in shapes, the prompts.  [default: 0]"),
    click.option("--data", type=_FOLDER, help="Local folder of official data."),
    click.option("--out", type=_FOLDER, help="Run folder.  [default: one under runs/, named for the settings]"),
    click.option("--max-failures", type=float, help="Share of samples that may fail.  [default: 0.01]"),
    click.option("--overwrite", is_flag=True, help="Delete what the run folder holds and start anew."),
    click.option("--no-report", is_flag=True, help="Write no report."),
)


@main.command()
@_options(
    click.option("--config", type=_FILE, help="YAML file of run settings; options win over it."),
    click.option("--model", metavar="NAME", help="Model.  [default: janusflow-shapes]"),
)
@_benchmark_options
@_model_options
@_options(
    click.option("--limit", type=int, help="Take N prompts, spread evenly over tasks and within each; not the first N."),
    click.option("--batch-size", type=int, help="Images per batch.  [default: 64]"),
    click.option("--retry-failed", is_flag=True, help="Try samples again that failed before."),
    click.option("--dry-run", is_flag=True, help="Print the plan; load no model and write nothing."),
)
def run(*, config: Path | None, overwrite: bool, retry_failed: bool, dry_run: bool, no_report: bool, **options: object) -> None:
    """Evaluate a model: generate, judge, score, report.

    The same command continues a run that was stopped, at whatever moment. The report's path is the last line printed.

    \b
    jfeval run
    jfeval run --seed 3 --out runs/seed3 --guidance-scale 5
    jfeval run --benchmark geneval --edition official --model janusflow --set path=JanusFlow-1.3B
    jfeval run --limit 20 --dry-run
    """  # noqa: D301
    from jfeval.registry import check_name, load_benchmark
    from jfeval.settings import resolve

    values = _given(options)
    model_values = {key: values.pop(key) for key in ("guidance_scale", "num_steps") if key in values}
    overrides = list(values.pop("overrides", ()))  # pyright: ignore[reportArgumentType, reportCallIssue]
    settings = resolve(_run_settings(), file=config, values=values)
    check_name("benchmark", settings.benchmark)
    settings = _with_model(settings, model_values, overrides)
    benchmark = load_benchmark(settings.benchmark)
    if dry_run:
        _print_plan(settings, benchmark)
        return
    _evaluate(settings, benchmark, overwrite=overwrite, retry_failed=retry_failed, stop_early=True, report=not no_report)


@main.command()
@click.argument("run_folder", metavar="[RUN]", type=_FOLDER, required=False)
@click.option(
    "--images", type=_FOLDER, help="Score ready images instead: FOLDER/00000/samples/0000.png, as GenEval's own script writes them."
)
@_benchmark_options
def score(*, run_folder: Path | None, images: Path | None, overwrite: bool, no_report: bool, **options: object) -> None:
    """Score a stored run again, or a folder of your own images.

    A stored run is judged only where that is missing, and needs neither the model nor the benchmark's data.

    \b
    jfeval score runs/seed3 --protocol official
    jfeval score --images my-images --benchmark geneval --edition shapes --seed 3 --out runs/mine
    """  # noqa: D301
    values = _given(options)
    if (run_folder is None) == (images is None):
        raise click.UsageError("Give either a stored RUN or --images FOLDER.")
    if run_folder is not None:
        extra = sorted(set(values) - {"protocol"})
        if extra or overwrite:
            raise click.UsageError(
                f"A stored run keeps its own settings: only --protocol can be given, not {', '.join(extra) or 'overwrite'}."
            )
        _score_again(run_folder, str(values.get("protocol", "")), report=not no_report)
        return
    from jfeval.registry import load_benchmark
    from jfeval.settings import resolve

    settings = _with_model(resolve(_run_settings(), values={**values, "model": "folder"}), {"path": images}, [])
    _evaluate(settings, load_benchmark(settings.benchmark), overwrite=overwrite, retry_failed=True, stop_early=False, report=not no_report)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=_FOLDER)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"), show_default=True, help="The file to write."
)
def report(*, runs: tuple[Path, ...], out: Path) -> None:
    """Write one HTML report of any number of runs.

    \b
    jfeval report runs/* --out report.html
    """  # noqa: D301
    from jfeval.reports.build import write_report
    from jfeval.store import Store

    click.echo(write_report([Store.open(path) for path in runs], out))


@main.command()
@click.argument("prompt")
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--num-images", type=click.IntRange(1, 1000), default=4, show_default=True, help="How many pictures.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the noise.")
@click.option("--out", type=_FOLDER, default=Path("generated"), show_default=True, help="Folder for the PNG files.")
@_model_options
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


@main.command()
@click.argument("image", type=_FILE)
@click.argument("question")
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=32, show_default=True, help="Longest answer.")
def chat(*, image: Path, question: str, model: str, max_new_tokens: int, **options: object) -> None:
    """Ask a question about a picture and print the answer.

    \b
    jfeval chat generated/seed7-0000.png "What color is the circle?"
    """  # noqa: D301
    from jfeval.console import clean
    from jfeval.schema import TextRequest

    answerer = _load(model, options)
    if not hasattr(answerer, "answer"):
        raise UserError(f"model {model!r} does not answer questions")
    request = TextRequest(question=question, images=(_checked_image(image),), max_new_tokens=max_new_tokens)
    click.echo(clean(answerer.answer([request])[0]))


@main.command()
@click.option("--recipe", default="shapes", show_default=True, help="Name of a recipe, or a YAML file.")
@click.option("--out", type=_FOLDER, default=Path("train"), show_default=True, help="Folder for data, checkpoints and the result.")
@click.option("--only", multiple=True, metavar="PART", help="Make this part only; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be made.")
@click.option("--force", is_flag=True, help="Make parts anew whose settings changed.")
@click.argument("overrides", nargs=-1, metavar="[PART.KEY=VALUE]...")
def train(*, recipe: str, out: Path, only: tuple[str, ...], dry_run: bool, force: bool, overrides: tuple[str, ...]) -> None:
    """Train a model from random weights, every part of it; stopped, the same command continues.

    \b
    jfeval train --recipe shapes
    jfeval train --recipe shapes --only vae vae.steps=500
    """  # noqa: D301
    from jfeval.models.training.recipe import train as make_parts

    click.echo(make_parts(recipe, out, only=only, overrides=overrides, prepare={"shapes": _make_shapes}, dry_run=dry_run, force=force))


@main.group()
def data() -> None:
    """Make and check data."""


@data.command("make")
@click.argument("world", type=click.Choice(["shapes"]))
@click.option("--out", type=_FOLDER, required=True, help="Folder to write.")
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
    _make_shapes(out, seed=seed, workers=workers, rows=_given(rows))
    click.echo(out)


@data.command("prompts")
@click.option("--benchmark", default="geneval", show_default=True, help="Benchmark.")
@click.option("--edition", default="shapes", show_default=True, help="official or shapes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the prompts of shapes.")
@click.option("--data", "folder", type=_FOLDER, help="Local folder of official data.")
@click.option("--out", type=_FOLDER, required=True, help="Folder to write.")
def data_prompts(*, benchmark: str, edition: str, seed: int, folder: Path | None, out: Path) -> None:
    """Write a benchmark's prompts for your own generator: OUT/prompts.txt, and OUT/00000/metadata.jsonl for each.

    Put your images beside the metadata, as OUT/00000/samples/0000.png, and `jfeval score --images OUT` evaluates them.

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
    prompts = []
    for row, sample in plan.rows:
        if not isinstance(sample.request, ImageRequest):
            raise UserError(f"{benchmark} asks questions about images; it has no prompts to draw")
        prompts.append(sample.request.prompt)
        write_atomically(
            out / f"{row:05d}" / "metadata.jsonl", (json.dumps({**sample.reference, "prompt": sample.request.prompt}) + "\n").encode()
        )
    write_atomically(out / "prompts.txt", "".join(" ".join(prompt.split()) + "\n" for prompt in prompts).encode())
    click.echo(out)


@data.command("verify")
@click.argument("folder", type=_FOLDER)
def data_verify(*, folder: Path) -> None:
    """Check a folder that `data make` wrote: hashes, splits, and that no held-out pair is in training.

    \b
    jfeval data verify data/shapes
    """  # noqa: D301
    from jfeval.benchmarks.shapes.dataset import verify as check

    for name, count in check(folder).items():
        click.echo(f"{name} {count}")


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
@click.option("--goldens", type=_FOLDER, required=True, help="A golden set, a family of them, or the root.")
@click.pass_context
def verify(ctx: click.Context, *, goldens: Path) -> None:
    """Compare this installation with recorded outputs of the official code; exit status 1 if anything differs.

    \b
    jfeval verify --goldens ../shared/goldens
    """  # noqa: D301
    from jfeval.verify import main as compare

    ctx.exit(compare(goldens))


# parts of commands


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


def _make_shapes(out: Path, *, seed: int = 0, workers: int = 1, rows: Mapping[str, int] | None = None) -> None:
    from jfeval.benchmarks.shapes.dataset import WorldSize, make
    from jfeval.console import Progress

    with Progress("data", total=0) as shown:
        make(out, seed=seed, size=WorldSize(**rows or {}), workers=workers, progress=shown.set)


def _given(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options that were given."""
    return {key: value for key, value in options.items() if value is not None and value != ()}


def _run_settings() -> "type[RunSettings]":
    from jfeval.settings import RunSettings

    return RunSettings


def _with_model(settings: "RunSettings", values: Mapping[str, object], overrides: list[str]) -> "RunSettings":
    """Check the model's own settings and write them out in full."""
    import dataclasses

    from jfeval.registry import model_settings

    checked = model_settings(settings.model, {**settings.model_settings, **values}, overrides)
    if checked is None:
        return dataclasses.replace(settings, out=settings.folder)
    full, defaults = dataclasses.asdict(checked), dataclasses.asdict(model_settings(settings.model))  # pyright: ignore[reportArgumentType]
    changed = {key: value for key, value in full.items() if value != defaults[key]}
    out = dataclasses.replace(settings, model_settings=changed).folder
    return dataclasses.replace(settings, model_settings=full, out=out)


def _load(model: str, options: Mapping[str, object]) -> Any:  # noqa: ANN401  what it can do is asked of it
    from jfeval.registry import build_model, model_settings

    values = _given(options)
    overrides = list(values.pop("overrides", ()))
    return build_model(model, model_settings(model, values, overrides))


def _evaluate(
    settings: "RunSettings", benchmark: "Benchmark", *, overwrite: bool, retry_failed: bool, stop_early: bool, report: bool
) -> None:
    """Run, score, print and report; exit with 1 when more samples failed than allowed."""
    from jfeval.plan import make_plan
    from jfeval.registry import load_model
    from jfeval.runner import TooManyFailures, run
    from jfeval.scoring import score
    from jfeval.tally import failure_summary

    plan = make_plan(settings, benchmark)
    load = partial(load_model, settings.model, **settings.model_settings)
    try:
        store = run(plan, benchmark, load, overwrite=overwrite, retry_failed=retry_failed, stop_early=stop_early)
        score(store, benchmark, protocol=plan.protocol)
    except TooManyFailures as error:
        raise _Failed(
            f"{error}\nWhat succeeded is stored; mend the cause and add --retry-failed, or allow more with --max-failures."
        ) from error
    except KeyboardInterrupt:
        click.echo(f"\nStopped. What is finished is stored in {settings.folder}; the same command continues there.", err=True)
        sys.exit(130)
    counts = store.record().counts
    if counts.failed:
        click.echo(failure_summary(store), err=True)
    _show(store, report=report)
    if counts.failed > settings.max_failures * counts.asked:
        sys.exit(1)


def _score_again(folder: Path, protocol: str, *, report: bool) -> None:
    from jfeval.registry import load_benchmark
    from jfeval.runner import judge_stored
    from jfeval.scoring import score
    from jfeval.shards import single_writer
    from jfeval.store import Store

    store = Store.open(folder)
    benchmark = load_benchmark(store.record().benchmark)
    with single_writer(folder):
        damaged = judge_stored(store, benchmark)
    if damaged:
        click.echo(
            f"{len(damaged)} samples have missing or damaged images ({', '.join(damaged[:5])}); `jfeval run` draws them again", err=True
        )
    score(store, benchmark, protocol=protocol)
    _show(store, report=report)


def _show(store: "Store", *, report: bool) -> None:
    from jfeval.summary import print_result

    print_result(store.record(), store.metrics(), terminal=sys.stdout.isatty())
    if report:
        from jfeval.reports.build import write_report

        click.echo(write_report([store], store.path / "report.html"))


def _print_plan(settings: "RunSettings", benchmark: "Benchmark") -> None:
    from collections import Counter

    from jfeval.plan import make_plan
    from jfeval.settings import to_yaml
    from jfeval.store import Store

    plan = make_plan(settings, benchmark)
    click.echo(to_yaml(settings).rstrip())
    click.echo(
        f"protocol {plan.protocol}; {len(plan.rows)} of {plan.available} prompts, {plan.images} images in {len(plan.batches)} batches"
    )
    for task, count in Counter(sample.task for _, sample in plan.rows).items():
        click.echo(f"  {task} {count}")
    store = Store(settings.folder)
    held = f"holds {len(store.outputs())} samples of an earlier invocation" if store.exists() else "is new"
    click.echo(f"{settings.folder} {held}")
