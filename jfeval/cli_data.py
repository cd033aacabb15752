"""The commands about data: the synthetic world, prompts for other programs, official data sets. Part of `jfeval.cli`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_options import FILE, FOLDER, given
from jfeval.console import clean
from jfeval.schema import EDITIONS

if TYPE_CHECKING:
    from jfeval.schema import Sample


WORLDS = tuple(name for name in EDITIONS if name != "official")
"""Every edition but the official one is made of a world of its name."""


@click.group()
def data() -> None:
    """Make, fetch and check data."""


@data.command("make")
@click.argument("world", type=click.Choice(WORLDS))
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the world.")
@click.option("--train", type=click.IntRange(1), help="Training scenes.")
@click.option("--test", type=click.IntRange(0), help="Scenes that share nothing with training.")
@click.option("--heldout", type=click.IntRange(0), help="Scenes of color-shape pairs that training never shows.")
@click.option("--text", type=click.IntRange(0), help="Lines of text alone.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def data_make(*, world: str, out: Path, seed: int, workers: int, **rows: int | None) -> None:
    """Write a synthetic world to disk; stopped, the same command continues.

    shapes is the embedded world, shapes-small an easier one for sweeps of trainings.

    \b
    jfeval data make shapes --out data/shapes --seed 0
    """  # noqa: D301
    make_shapes(out, seed=seed, workers=workers, rows=given(rows), world=world)
    click.echo(out)


@data.command("prompts")
@click.option("--benchmark", default="geneval", show_default=True, help="Benchmark.")
@click.option("--edition", default="shapes", show_default=True, help="official or shapes.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the prompts of shapes.")
@click.option("--data", "folder", type=FOLDER, help="Local folder of official data.")
@click.option("--set-benchmark", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the benchmark, such as prompts_file.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write.")
def data_prompts(*, benchmark: str, edition: str, seed: int, folder: Path | None, overrides: tuple[str, ...], out: Path) -> None:
    """Write a benchmark's prompts for your own generator: OUT/prompts.txt, and OUT/00000/metadata.jsonl for each.

    Put your images beside the metadata, as OUT/00000/samples/0000.png, and `jfeval score --images OUT` evaluates them. A benchmark that
    asks questions gives OUT/questions.jsonl and the images in OUT/images; `jfeval score --answers FILE` evaluates the answers.

    \b
    jfeval data prompts --benchmark geneval --edition shapes --seed 3 --out my-images
    """  # noqa: D301
    import json

    from jfeval.files import write_atomically
    from jfeval.plan import make_plan
    from jfeval.registry import benchmark_settings, load_benchmark
    from jfeval.schema import ImageRequest
    from jfeval.settings import RunSettings

    own = benchmark_settings(benchmark, {}, list(overrides))
    loaded = load_benchmark(benchmark, **({} if own is None else vars(own)))
    plan = make_plan(RunSettings(benchmark=benchmark, edition=edition, seed=seed, data=folder), loaded)
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


@data.command("list")
def data_list() -> None:
    """List the official data sets: licence, size where it is known, and whether they are here."""
    from jfeval.benchmarks.data_sets import data_sets
    from jfeval.fetching.fetch import size_words
    from jfeval.fetching.lock import fetched_folder, read_lock

    for name, one in data_sets().items():
        held = read_lock(fetched_folder(name))
        known = held or one
        state = f"in {fetched_folder(name)}" if held else "not fetched"
        click.echo(f"{name}: {one.about}")
        click.echo(f"    {state}; {size_words(known.size)}; {'pinned' if known.pinned else 'unpinned'}, revision {known.revision}")
        click.echo(f"    licence: {one.licence}; {one.page}")
        if one.by_hand:
            click.echo(f"    by hand: {one.by_hand}")


_LOCK = click.option("--lock", type=FILE, help="Lock file of an earlier fetch: get or check the same bytes.  [default: what jfeval knows]")


@data.command("fetch")
@click.argument("name")
@click.option("--out", type=FOLDER, help="Folder to write.  [default: data/official/NAME, where runs look for it]")
@_LOCK
def data_fetch(*, name: str, out: Path | None, lock: Path | None) -> None:
    """Get an official data set, and record its revision and hashes beside it. `jfeval data list` shows the names.

    Stopped, the same command goes on. What is there already, also what was placed by hand, is checked and kept; a data set that is all
    there needs no network.

    \b
    jfeval data fetch pope
    jfeval data fetch gqa --lock gqa.lock.json
    """  # noqa: D301
    from jfeval.benchmarks.data_sets import data_set
    from jfeval.fetching.fetch import fetch
    from jfeval.fetching.lock import fetched_folder, load_lock

    folder = out or fetched_folder(name)
    fetch(load_lock(lock) if lock else data_set(name), folder, say=lambda line: click.echo(clean(line), err=True))
    click.echo(folder)


@data.command("verify")
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--data", "folder", type=FOLDER, help="Where the data set is.  [default: data/official/NAME]")
@_LOCK
@click.pass_context
def data_verify(ctx: click.Context, *, name: str, folder: Path | None, lock: Path | None) -> None:
    """Check an official data set against its recorded hashes, or a folder that `data make` wrote.

    A fetched data set has every file compared with its lock; exit status 1 if one is missing or differs. A world on disk has hashes and
    splits checked, and that no held-out pair is in training.

    \b
    jfeval data verify pope
    jfeval data verify data/shapes
    """  # noqa: D301
    from jfeval.benchmarks.data_sets import data_set, data_sets
    from jfeval.fetching.fetch import verify
    from jfeval.fetching.lock import fetched_folder, load_lock, read_lock

    if name not in data_sets() and Path(name).is_dir() and read_lock(Path(name)) is None:
        from jfeval.benchmarks.shapes.dataset import verify as check

        for part, count in check(Path(name)).items():
            click.echo(f"{part} {count}")
        return
    place = folder or (Path(name) if name not in data_sets() and Path(name).is_dir() else fetched_folder(name))
    known = load_lock(lock) if lock else read_lock(place) or data_set(name)
    states = verify(known, place)
    for path, state in states.items():
        click.echo(clean(f"{state:<9} {place / path}"))
    wrong = sum(state in ("missing", "differs") for state in states.values())
    loose = sum(state == "unpinned" for state in states.values())
    click.echo(f"{known.name}: {len(states) - wrong - loose} of {len(states)} files are as recorded, {wrong} are not, {loose} are unpinned")
    ctx.exit(1 if wrong else 0)


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


def make_shapes(out: Path, *, seed: int = 0, workers: int = 1, rows: Mapping[str, int] | None = None, world: str = "shapes") -> None:
    """Write a world, saying how far it is."""
    from dataclasses import replace

    from jfeval.benchmarks.shapes.dataset import DEFAULT_SIZES, make
    from jfeval.benchmarks.shapes.world import world_named
    from jfeval.console import Progress

    with Progress("data", total=0) as shown:
        make(
            out,
            seed=seed,
            size=replace(DEFAULT_SIZES[world], **rows or {}),
            workers=workers,
            progress=shown.set,
            world=world_named(world),
        )


WORLD_MAKERS: Mapping[str, Callable[[Path], None]] = {name: partial(make_shapes, world=name) for name in WORLDS}
"""World name to what writes its data into a folder, for recipes."""
