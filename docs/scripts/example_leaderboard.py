"""Writes the example leaderboard (CSV, page and picture) from runs: python docs/scripts/example_leaderboard.py [RUN ...] [--out docs]

Without a RUN it makes the runs first, in runs/leaderboard: every system below on every benchmark that it can do. A run that is there is
gone on with. A system whose weights are not there is left out, and the page says so. What was trained, and for how long, is read from the
folders of the trainings, and of the embedded model from its recipe; no figure stands in this file. Chromium is found on PATH, or named by
JFEVAL_CHROMIUM.
"""

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from readme_pictures import LOADED, driver

from jfeval.files import write_atomically
from jfeval.models.janusflow.adapter import Settings as Loaded
from jfeval.models.janusflow.checkpoint import tensor_table
from jfeval.models.shapes import WEIGHTS, Settings
from jfeval.models.training.recipe import PartPlan, load_recipe
from jfeval.reports.overview import overview
from jfeval.reports.runs import Runs, load_runs
from jfeval.reports.table import Cell, Column, Table, csv_text
from jfeval.reports.text import flatten
from jfeval.schema import RunRecord
from jfeval.store import Store

DRAWING, READING = ("geneval", "geneval-heldout", "dpg"), ("pope", "gqa")
EDITION = "shapes"
NAMES = ("leaderboard.csv", "leaderboard.md", "leaderboard.png")
WIDTH, TALLEST, MARGIN = 1280, 1600, 16
BOARD = "document.querySelector('#leaderboard')"


@dataclass(frozen=True, kw_only=True)
class System:
    """One row of the board. Texts in braces stand for the folders that the options name."""

    name: str
    """Begins the names of its run folders."""
    title: str
    """What tables call it."""
    model: str
    """As ``--model`` takes it."""
    settings: tuple[str, ...] = ()
    benchmarks: tuple[str, ...]
    weights: str
    """What must be there."""
    training: str = ""
    """Folder of its training; empty where nothing is trained, or what is known of it is a recipe."""
    recipe: str = ""
    """The recipe that made it, where its training is not kept."""
    card: str = ""
    """Where it is told for how long that ran."""
    parts: tuple[str, ...] = ()
    """Names of the parts that made it, of all those in that folder or recipe."""


JANUSFLOW = ("vae", "contrastive", "lm", "stage1", "stage2", "stage3")
AS_EMBEDDED = tuple(f"{key}={value}" for key, value in asdict(Settings()).items() if value != getattr(Loaded(), key))
"""What the embedded model sets for itself and a loaded checkpoint must be told."""


def short(name: str, title: str, folder: str) -> System:
    """Return a JanusFlow that the recipe shapes-short trained in a folder."""
    model = f"{folder}/export/model"
    return System(
        name=name,
        title=title,
        model=f"janusflow:{model}",
        settings=AS_EMBEDDED,
        benchmarks=(*DRAWING, *READING),
        weights=model,
        training=folder,
        parts=JANUSFLOW,
    )


def baseline(name: str, title: str, benchmarks: tuple[str, ...]) -> System:
    """Return what looks its outputs up in the training data."""
    return System(name=name, title=title, model=name, settings=("data={data}",), benchmarks=benchmarks, weights="{data}/scenes")


SYSTEMS = (
    System(
        name="embedded",
        title="The embedded JanusFlow",
        model="janusflow-shapes",
        benchmarks=(*DRAWING, *READING),
        weights=str(WEIGHTS),
        recipe="shapes",
        card="models/shapes/README.md",
        parts=JANUSFLOW,
    ),
    short("short", "JanusFlow, short training", "{train}"),
    short("no-repa", "JanusFlow without REPA, short training", "{without_repa}"),
    System(
        name="diffusion",
        title="Diffusion model (PixArt-alpha form), short training",
        model="diffusers:{train}/diffusion/pipeline",
        settings=("device=cpu",),
        benchmarks=DRAWING,
        weights="{train}/diffusion/pipeline",
        training="{train}",
        parts=("vae", "diffusion"),
    ),
    baseline("nearest-caption", "Picture of the nearest training caption", DRAWING),
    baseline("majority-answer", "Most frequent answer to the nearest training question", READING),
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One part of a training."""

    name: str
    updates: int = 0
    seconds: float | None = None
    """None where it is not known, or nothing ran."""
    samples: dict[str, int] = field(default_factory=dict)
    parameters: int = 0
    given: str = ""
    """Where it was taken from, if it was not trained."""

    def words(self) -> str:
        """Say how long it was trained, and on what."""
        if self.given:
            return f"{self.name}: from {self.given}"
        seen = ", ".join(f"{count:,} {kind}" for kind, count in self.samples.items() if count)
        minutes = "" if self.seconds is None else f", {self.seconds / 60:.1f} min"
        return f"{self.name}: {self.updates:,} updates{f' ({seen})' if seen else ''}{minutes}"


Facts = dict[str, list[Trained]]
"""What was trained, by title."""


def main() -> None:
    options = parsed()
    places = {"train": options.train, "without_repa": options.without_repa, "data": options.data}
    chromium = driver()
    if chromium.find() is None:
        sys.exit("no Chromium: install one, or name it by JFEVAL_CHROMIUM")
    chosen = [system for system in SYSTEMS if not options.systems or system.name in options.systems]
    missing = [] if options.runs else [s for s in chosen if not Path(s.weights.format(**places)).exists()]
    for system in missing:
        print(f"left out: {system.title}: no {system.weights.format(**places)}", file=sys.stderr)
    folders = options.runs or [folder for s in chosen if s not in missing for folder in run_all(s, places, options)]
    if not folders:
        sys.exit("no system is there to be evaluated")
    runs = load_runs(*folders)
    if others := sorted({record.edition for record in map(Store.record, runs)} - {EDITION}):
        sys.exit(f"the board is of the edition {EDITION}, and there are runs of {', '.join(others)}")
    ran = {store.record().shown for store in runs}
    facts = {system.title: trained(system, places) for system in SYSTEMS if system.title in ran}
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / NAMES[0], table(runs, facts).encode())
    write_atomically(options.out / NAMES[1], page(runs, facts, missing, places, made=not options.runs).encode())
    take_picture(chromium, runs, options.out / NAMES[2])
    for name in NAMES:
        print(options.out / name)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders; none: they are made")
    parser.add_argument("--train", type=Path, default=Path("train/short"), help="folder of the recipe shapes-short")
    parser.add_argument("--without-repa", type=Path, default=Path("train/no-repa"), help="folder of the same recipe without REPA")
    parser.add_argument("--data", type=Path, default=Path("data/shapes"), help="folder of the world that they learned from")
    parser.add_argument("--runs-in", type=Path, default=Path("runs/leaderboard"), help="where runs are made")
    parser.add_argument("--systems", nargs="+", choices=[system.name for system in SYSTEMS], help="only these")
    parser.add_argument("--benchmarks", nargs="+", default=[*DRAWING, *READING], help="only these")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and the noise")
    parser.add_argument("--limit", type=int, help="samples per benchmark; such runs are marked as limited")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    return parser.parse_args()


def arguments(system: System, places: dict[str, Any]) -> list[str]:
    """Return what names a system on the command line."""
    settings = [word for text in system.settings for word in ("--set", text.format(**places))]
    return ["--model", system.model.format(**places), "--title", system.title, *settings]


def run_all(system: System, places: dict[str, Any], options: argparse.Namespace) -> list[Path]:
    """Evaluate a system on its benchmarks; return the run folders."""
    folders = []
    for benchmark in (name for name in system.benchmarks if name in options.benchmarks):
        folder = options.runs_in / f"{system.name}-{benchmark}"
        command = ["run", *arguments(system, places), "--benchmark", benchmark, "--edition", EDITION, "--seed", str(options.seed)]
        call(*command, *(["--limit", str(options.limit)] if options.limit else []), "--no-report", "--out", str(folder))
        folders.append(folder)
    return folders


def call(*command: str) -> None:
    """Run one of our own commands and show it."""
    print("jfeval", shlex.join(command), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "jfeval", *command], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def trained(system: System, places: dict[str, Any]) -> list[Trained]:
    """Say what made a system, from the folder of its training or from its recipe; nothing where neither is there."""
    if system.recipe:
        parameters = sum(math.prod(info.shape) for info in tensor_table(WEIGHTS).values())
        return [planned(plan, parameters) for plan in load_recipe(system.recipe).parts if plan.name in system.parts]
    folder = Path(system.training.format(**places))
    return [done(folder / name) for name in system.parts if (folder / name / "done.json").is_file()]


def planned(plan: PartPlan, parameters: int) -> Trained:
    """Read one part's facts from the recipe of a model of so many parameters."""
    loop = plan.settings.loop
    if plan.kind != "stage":
        return Trained(name=plan.name, updates=loop.steps)
    samples = plan.settings.mixture.samples(loop.steps, loop.accumulate)
    return Trained(name=plan.name, updates=loop.steps, samples=samples._asdict(), parameters=parameters)


def done(folder: Path) -> Trained:
    """Read one part's facts from what it left."""
    results = read(folder / "done.json")["results"]
    if "from" in results:
        return Trained(name=folder.name, given=results["from"])
    return Trained(
        name=folder.name,
        updates=read(folder / "identity.json")["loop.steps"],
        seconds=results["seconds"],
        samples={key.removesuffix("_samples"): int(value) for key, value in results.items() if key.endswith("_samples")},
        parameters=int(results.get("parameters", 0)),
    )


def read(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return json.loads(file.read_text("utf-8"))


def drawings(parts: list[Trained]) -> int | None:
    """Return how many pictures to draw a system was shown."""
    return sum(part.samples.get("generation", 0) for part in parts) or None


def table(runs: Runs, facts: Facts) -> str:
    """Return every metric of every run as CSV, with the training and the recipe behind it."""
    frame = runs.metrics.drop(columns=["fingerprint", "detail"])
    recipes = {store.record().shown: recipe(store.record()) for store in runs}
    frame["drawings"] = [drawings(facts.get(title, [])) for title in frame["title"]]
    frame["training"] = ["; ".join(part.words() for part in facts.get(title, [])) for title in frame["title"]]
    frame["recipe"] = [recipes[title] for title in frame["title"]]
    return frame.map(lambda cell: csv_text(cell) if isinstance(cell, str) else cell).to_csv(index=False)


def recipe(record: RunRecord) -> str:
    """Say the settings behind a run's outputs."""
    return ", ".join(f"{key.removeprefix('recipe.')} {value}" for key, value in flatten(record.model_identity).items() if value)


def page(runs: Runs, facts: Facts, missing: list[System], places: dict[str, Any], *, made: bool) -> str:
    """Return the page: the board, what each row is, what it learned from and for how long, and the recipe behind it.

    The command of a row is told where its runs were ``made`` here.
    """
    text = [
        "# Example leaderboard",
        "Written by `docs/scripts/example_leaderboard.py` from the runs themselves.",
        f"![All benchmarks, one row per system]({NAMES[2]})",
    ]
    text += [board.to_markdown().strip() for board in overview(runs)]
    text += ["## What was trained, and for how long", training_table(facts)]
    text += ["## Benchmark by benchmark", *(board.to_markdown().strip() for board in runs.leaderboard), "## How each row was made"]
    for system in (s for s in SYSTEMS if s.title in facts):
        record = next(store.record() for store in runs if store.record().shown == system.title)
        words = shlex.join([*arguments(system, places), "--edition", EDITION, "--seed", str(record.seed)])
        text += [f"**{system.title}**", *([f"`jfeval run {words} --benchmark ...`"] if made else []), recipe(record) + "."]
    text += [f"Left out, because its weights are not there: {system.title}." for system in missing]
    return "\n\n".join(text) + "\n"


def training_table(facts: Facts) -> str:
    """Return one row per system: its size, the pictures that it was shown to draw, the parts that were trained."""
    kinds = {"system": "text", "parameters": "count", "pictures to draw": "count", "minutes": "count", "parts": "text"}
    columns = tuple(Column(key=key, label=key, kind=kind) for key, kind in kinds.items())  # pyright: ignore[reportArgumentType]
    rows = []
    for system in (s for s in SYSTEMS if s.title in facts):
        parts = facts[system.title]
        own = [part.parameters for part in parts if part.samples]
        seconds = [part.seconds for part in parts if part.seconds is not None]
        words = [part.words() for part in parts] or ["its folder is not here" if system.training else "nothing is trained"]
        words += [f"for how long: {system.card}"] if system.card else []
        values = (system.title, max(own, default=None), drawings(parts), round(sum(seconds) / 60) if seconds else None, "; ".join(words))
        rows.append(tuple(Cell(value=f"{value:,}" if isinstance(value, int) else value) for value in values))
    notes = (
        "Parameters are those of the model that is evaluated, without the autoencoder's.",
        "Minutes are wall time, with whatever else the machine did meanwhile.",
    )
    return Table(title="Trainings", columns=columns, rows=tuple(rows), notes=notes).to_markdown().strip()


def take_picture(chromium: Any, runs: Runs, out: Path) -> None:
    """Save the head of the report's leaderboard: the table over all benchmarks where there is one, else all of its tables."""
    end = (
        "board.querySelector('h3.kind').getBoundingClientRect().top"
        if overview(runs)
        else f"board.getBoundingClientRect().bottom + {MARGIN}"
    )
    height = f"(() => {{ const board = {BOARD}; return Math.ceil({end} - board.getBoundingClientRect().top) }})()"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        file = runs.report(Path(scratch) / "report.html")
        browser = chromium.Browser(chromium.find(), Path(scratch) / "profile")
        browser.open(file.as_uri(), (WIDTH, TALLEST))
        browser.wait(LOADED)
        browser.open(file.as_uri(), (WIDTH, min(int(browser.run(height)), TALLEST)))
        browser.wait(LOADED)
        browser.run(f"{BOARD}.scrollIntoView({{behavior: 'instant', block: 'start'}})")
        browser.wait(f"Math.abs({BOARD}.getBoundingClientRect().top) <= {MARGIN}")
        browser.picture(out)
        browser.close()


if __name__ == "__main__":
    main()
