"""Scoring what is there already: a stored run, ready images, ready answers. Part of `jfeval.cli`; imports inside the command."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.cli_evaluate import evaluate, run_settings, show, with_own
from jfeval.cli_options import FILE, FOLDER, benchmark_options, given
from jfeval.cli_ready import ready_loader
from jfeval.errors import unknown

if TYPE_CHECKING:
    from jfeval.store import Store


@click.command()
@click.argument("run_folder", metavar="[RUN]", type=FOLDER, required=False)
@click.option(
    "--images",
    type=FOLDER,
    help="Score ready images instead: FOLDER/00000/samples/0000.png, as GenEval's own script writes them, or the benchmark's own layout.",
)
@click.option("--answers", type=FILE, help='Score ready answers instead: one {"id": ..., "prediction": ...} a line.')
@benchmark_options
def score(
    *, run_folder: Path | None, images: Path | None, answers: Path | None, overwrite: bool, no_report: bool, **options: object
) -> None:
    """Score a stored run again, or your own images or answers.

    A stored run is judged only where that is missing, and needs neither the model nor the benchmark's data. --protocol all scores it
    under every protocol that its benchmark has and prints them side by side; --title says what tables call its model from now on.

    \b
    jfeval score runs/seed3 --protocol official
    jfeval score runs/pope --protocol all
    jfeval score runs/seed3 --title "ours, 5k updates"
    jfeval score --answers mine.jsonl --benchmark pope --edition shapes --out runs/mine
    jfeval score --images my-images --benchmark geneval --edition shapes --seed 3 --out runs/mine
    jfeval score --images grids --benchmark dpg --edition official --data DPG_BENCH --out runs/mine-dpg
    """  # noqa: D301
    from jfeval.settings import resolve

    values = given(options)
    if sum(one is not None for one in (run_folder, images, answers)) != 1:
        raise click.UsageError("Give one of a stored RUN, --images FOLDER and --answers FILE.")
    if run_folder is not None:
        extra = sorted(set(values) - {"protocol", "title"})
        if extra or overwrite:
            raise click.UsageError(
                f"A stored run keeps its own settings: only --protocol and --title can be given, not {', '.join(extra) or 'overwrite'}."
            )
        title = resolve(run_settings(), values={"title": values.get("title", "")}).title
        _score_again(run_folder, str(values.get("protocol", "")), title, report=not no_report)
        return
    from jfeval.registry import load_benchmark

    benchmark_overrides = list(values.pop("set_benchmark", ()))
    settings = resolve(run_settings(), values={**values, "model": "folder" if answers is None else "answers"})
    settings = with_own(settings, {"path": images or answers}, [], benchmark_overrides)
    benchmark = load_benchmark(settings.benchmark, **settings.benchmark_settings)
    load = ready_loader(settings, benchmark)
    evaluate(settings, benchmark, overwrite=overwrite, retry_failed=True, stop_early=False, report=not no_report, load=load)


def _score_again(folder: Path, protocol: str, title: str, *, report: bool) -> None:
    from dataclasses import replace

    from jfeval.baseline import text_only_of
    from jfeval.judging import judge_again
    from jfeval.locks import record_held, single_writer
    from jfeval.plan import protocols_of
    from jfeval.registry import load_benchmark
    from jfeval.scoring import score
    from jfeval.store import Store

    store = Store.open(folder)
    record = store.record()
    benchmark = load_benchmark(record.benchmark, **record.benchmark_settings)
    protocols = protocols_of(benchmark, record.edition)
    if hasattr(benchmark, "locate"):
        benchmark.locate(_data_of(store))  # pyright: ignore[reportAttributeAccessIssue]

    def judge(under: str) -> None:
        with single_writer(folder):
            damaged = judge_again(store, benchmark, under)
        if damaged:
            names = ", ".join(damaged[:5])
            click.echo(f"{len(damaged)} samples have missing or damaged images ({names}); `jfeval run` draws them again", err=True)

    stores = [store, *([blind] if (blind := text_only_of(store)) else [])]
    for one in stores if title else ():
        with record_held(one.path):
            one.write_record(replace(one.record(), title=title))
    if protocol == "all":
        from jfeval.summary import print_protocols, verdict_lines

        first, *_ = order = sorted(protocols, key=lambda name: name == record.protocol)  # the run's own last: it stays the run's own
        for name in order:
            if name == first or hasattr(benchmark, "judge_under"):
                judge(name)
            for one in stores:
                score(one, benchmark, protocol=name)
        print_protocols({name: store.metrics(name) for name in protocols})
        answers = {key: output.text for key, output in store.outputs().items()}
        for line in verdict_lines({name: store.scores(name) for name in protocols}, answers):
            click.echo(line)
    else:
        if protocol and protocol not in protocols:
            raise unknown(f"protocol of {record.benchmark}", protocol, protocols)
        judge(protocol or record.protocol)
        for one in stores:
            score(one, benchmark, protocol=protocol)
    show(store, report=report)


def _data_of(store: "Store") -> Path | None:
    """Return the data folder that a run was given, where it is on this machine."""
    from omegaconf import DictConfig, OmegaConf

    path = store.path / "settings.yaml"
    settings = OmegaConf.load(path) if path.is_file() else None
    data = settings.get("data") if isinstance(settings, DictConfig) else None
    return Path(str(data)) if data and Path(str(data)).is_dir() else None
