"""`jfeval bundle` and `jfeval unbundle`: one run as one file, and back."""

from pathlib import Path

import click

from jfeval.cli_options import FILE, FOLDER


@click.command()
@click.argument("run_folder", metavar="RUN", type=FOLDER)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: RUN.zip]")
def bundle(*, run_folder: Path, out: Path | None) -> None:
    """Pack a run into one file: samples, images or answers, observations, verdicts, numbers and recipe.

    Whoever has the file can score it again, without the model, the judge and the data: what the judge saw is in it, and the features of
    reference images where scoring reads those. Under a protocol whose judge sees something else, it is judged again first.

    \b
    jfeval bundle runs/geneval-shapes --out mine.zip
    """  # noqa: D301
    from jfeval.bundle import pack, scoring_files
    from jfeval.store import Store

    out = out or run_folder.with_name(run_folder.name + ".zip")
    store = Store.open(run_folder)
    files, missing = scoring_files(store)
    images = pack(store, out, files)
    if missing:
        names = ", ".join(str(file) for file in missing)
        click.echo(f"the bundle lacks what scoring reads beside the run, because it is not here: {names}", err=True)
    click.echo(f"{images} images, {out.stat().st_size / 1e6:.1f} MB")
    click.echo(out)


@click.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FOLDER, help="The run folder to make.  [default: runs/FILE]")
def unbundle(*, file: Path, out: Path | None) -> None:
    """Make a run folder of a bundle and print the numbers it states; `jfeval score` then finds your own.

    \b
    jfeval unbundle theirs.zip --out runs/theirs
    jfeval score runs/theirs --protocol all
    """  # noqa: D301
    from jfeval.bundle import unpack
    from jfeval.console import clean

    out = out or Path("runs") / file.stem
    for protocol, metrics in unpack(file, out).items():
        for metric in metrics:
            if metric.headline:
                click.echo(clean(f"stated: {metric.name} {metric.value:.3f} ({protocol})"))
    click.echo(out)
