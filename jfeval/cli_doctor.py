"""`jfeval doctor`: what is here, what a missing thing costs, and what can run now. Part of `jfeval.cli`."""

from typing import TYPE_CHECKING

import click

from jfeval.console import clean

if TYPE_CHECKING:
    from jfeval.benchmarks.needs import Need


@click.command()
def doctor() -> None:
    """Say which data, judges and packages are here, what each missing one costs, and which evaluations can run now.

    Looks in data/official below the current folder, where `jfeval data fetch` stores things, and loads nothing. What you name by
    --data or --set-benchmark instead is not known to it.

    \b
    jfeval doctor
    """  # noqa: D301
    from jfeval.benchmarks.needs import official_needs, optional_packages
    from jfeval.registry import list_benchmarks, load_benchmark

    ready: list[str] = []
    waiting: list[tuple[str, list[Need]]] = []
    shown: set[tuple[str, str]] = set()
    for line in _machine():
        click.echo(line)
    for name in list_benchmarks():
        editions = load_benchmark(name).editions
        needs = official_needs(name)
        ready += [f"jfeval run --benchmark {name} --edition shapes"] if "shapes" in editions else []
        if "official" not in editions or not needs:
            continue
        missing = [need for need in needs if not need.here and not need.optional]
        if missing:
            waiting.append((name, missing))
        else:
            ready.append(f"jfeval run --benchmark {name} --edition official --model MODEL")
        fresh = [need for need in needs if (need.kind, need.what) not in shown]
        shown |= {(need.kind, need.what) for need in fresh}
        _list(f"{name}, official edition", fresh)
    _list("optional packages", optional_packages())
    click.echo("\ncan run now")
    for command in ready:
        click.echo(f"  {command}")
    if waiting:
        click.echo("\ncannot run yet")
    for name, missing in waiting:
        click.echo(f"  {name}, official edition: " + "; ".join(clean(f"`{need.command}` ({need.size})") for need in missing))


def _list(title: str, needs: "list[Need]") -> None:
    if needs:
        click.echo(f"\n{title}")
    for need in needs:
        state = f"here: {need.place}" if need.here else f"missing: {need.size}, `{need.command}`"
        only = " (for a part of the numbers)" if need.optional and need.kind != "package" else ""
        click.echo(clean(f"  {need.kind:<8} {need.what}{only}\n           {state}"))


def _machine() -> list[str]:
    """Describe what evaluations would run on."""
    import shutil
    from pathlib import Path

    import torch

    from jfeval import __version__
    from jfeval.models.shapes import NAME, WEIGHTS

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no accelerator: everything runs on the processor"
    free = shutil.disk_usage(Path()).free / 1e9
    embedded = "here" if (WEIGHTS / "config.json").is_file() else f"missing from {WEIGHTS}: `jfeval train --recipe shapes`"
    return [f"jfeval {__version__}, torch {torch.__version__}; {device}; {free:.0f} GB free here", f"embedded model {NAME}: {embedded}"]
