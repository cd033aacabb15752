"""Writes the example leaderboard (CSV, page and picture) from runs: python docs/scripts/example_leaderboard.py [RUN ...] [--out docs]

Without a RUN it makes the runs first, in runs/leaderboard: every system below on every benchmark of its edition that it can do. A run that
is there is gone on with. A system whose weights are not there is left out, and the page says so. What was trained, and for how long, is
read from the folders of the trainings; no figure stands in this file. Chromium is found on PATH, or named by JFEVAL_CHROMIUM.
"""

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from readme_pictures import LOADED, driver

from jfeval.files import write_atomically
from jfeval.models.janusflow.adapter import Settings as Loaded
from jfeval.models.shapes import WEIGHTS, Settings
from jfeval.models.training.recipe import CONFIGS
from jfeval.reports.overview import overview
from jfeval.reports.runs import Runs, load_runs
from jfeval.reports.table import Cell, Column, Table, csv_text
from jfeval.reports.text import flatten
from jfeval.schema import RunRecord

DRAWING, READING = ("geneval", "geneval-heldout", "dpg"), ("pope", "gqa")
FULL, SMALL = "shapes", "shapes-small"
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
    edition: str = FULL
    model: str
    """As ``--model`` takes it."""
    settings: tuple[str, ...] = ()
    benchmarks: tuple[str, ...]
    weights: str
    """What must be there."""
    stage: bool = False
    """Whether the weights are a trained stage, which is exported to ``model`` first."""
    training: tuple[str, ...] = ()
    """Folders of its training; empty where nothing is trained."""
    card: str = ""
    """Where it is told how it was trained, where these folders are not here."""
    kinds: tuple[str, ...] = ()
    """Kinds of the parts that made it, of all those in these folders."""


def baselines(data: str, *, drawing: tuple[str, ...], edition: str = FULL, prefix: str = "") -> tuple[System, System]:
    """Return what looks the training data up: pictures by caption, answers by question."""
    alike = {"edition": edition, "settings": (f"data={data}",), "weights": f"{data}/scenes"}
    pictures, answers = "Picture of the nearest training caption", "Most frequent answer to the nearest training question"
    return (
        System(name=f"{prefix}nearest-caption", title=pictures, model="nearest-caption", benchmarks=drawing, **alike),
        System(name=f"{prefix}majority-answer", title=answers, model="majority-answer", benchmarks=READING, **alike),
    )


JANUSFLOW = ("vae", "contrastive", "lm", "stage")
AS_EMBEDDED = tuple(f"{key}={value}" for key, value in asdict(Settings()).items() if value != getattr(Loaded(), key))
"""What the embedded model sets for itself and a loaded checkpoint must be told."""
SAMPLER = yaml.safe_load((CONFIGS / "ablations" / "shapes.yaml").read_text("utf-8"))["sampler"]
AS_SWEPT = ("vae={sweep}/shared/vae/vae", *(f"{key}={value}" for key, value in SAMPLER.items()))
"""How a sweep evaluates its variants."""
SWEPT = (("JanusFlow (ablations, F: final)", "F"), ("JanusFlow without REPA (ablations, A)", "A"))
SYSTEMS = (
    System(
        name="embedded",
        title="The embedded JanusFlow",
        model="janusflow-shapes",
        benchmarks=(*DRAWING, *READING),
        weights=str(WEIGHTS),
        training=("{train}",),
        card="models/shapes/README.md",
        kinds=JANUSFLOW,
    ),
    System(
        name="no-repa",
        title="The same without REPA",
        model="janusflow:{without_repa}/export/model",
        settings=AS_EMBEDDED,
        benchmarks=(*DRAWING, *READING),
        weights="{without_repa}/export/model",
        training=("{without_repa}",),
        kinds=JANUSFLOW,
    ),
    System(
        name="diffusion",
        title="Diffusion model (PixArt-alpha form)",
        model="diffusers:{train}/diffusion/pipeline",
        settings=("device=cpu",),
        benchmarks=DRAWING,
        weights="{train}/diffusion/pipeline",
        training=("{train}",),
        kinds=("vae", "diffusion"),
    ),
    *baselines("{data}", drawing=DRAWING),
    *(
        System(
            name=f"small-{variant}",
            title=title,
            edition=SMALL,
            model=f"janusflow:{{runs}}/models/{variant}-seed{{training_seed}}",
            settings=AS_SWEPT,
            benchmarks=("geneval", *READING),
            weights=f"{{sweep}}/{variant}-seed{{training_seed}}/stage2",
            stage=True,
            training=("{sweep}/shared", f"{{sweep}}/{variant}-seed{{training_seed}}"),
            kinds=JANUSFLOW,
        )
        for title, variant in SWEPT
    ),
    System(
        name="small-diffusion",
        title="Diffusion model (PixArt-alpha form)",
        edition=SMALL,
        model="diffusers:{sweep}/shared/diffusion/pipeline",
        settings=("device=cpu",),
        benchmarks=("geneval",),
        weights="{sweep}/shared/diffusion/pipeline",
        training=("{sweep}/shared",),
        kinds=("vae", "diffusion"),
    ),
    *baselines("{small_data}", drawing=("geneval",), edition=SMALL, prefix="small-"),
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One part of a training, as its folder tells."""

    name: str
    updates: int
    seconds: float
    samples: dict[str, int]
    parameters: int

    def words(self) -> str:
        """Say how long it was trained, and on what."""
        seen = ", ".join(f"{count:,} {kind}" for kind, count in self.samples.items() if count)
        return f"{self.name}: {self.updates:,} updates{f' ({seen})' if seen else ''}, {self.seconds / 60:.1f} min"


Facts = dict[tuple[str, str], list[Trained]]
"""What was trained, by edition and title."""


def main() -> None:
    options = parsed()
    places = {
        "train": options.train,
        "without_repa": options.without_repa,
        "data": options.data,
        "sweep": options.sweep,
        "small_data": options.small_data,
        "runs": options.runs_in,
        "training_seed": options.training_seed,
    }
    chromium = driver()
    if chromium.find() is None:
        sys.exit("no Chromium: install one, or name it by JFEVAL_CHROMIUM")
    chosen = [system for system in SYSTEMS if not options.systems or system.name in options.systems]
    missing = [] if options.runs else [s for s in chosen if not Path(s.weights.format(**places)).exists()]
    for system in missing:
        print(f"left out: {system.title} ({system.edition}): no {system.weights.format(**places)}", file=sys.stderr)
    folders = options.runs or [folder for s in chosen if s not in missing for folder in run_all(s, places, options)]
    if not folders:
        sys.exit("no system is there to be evaluated")
    runs = load_runs(*folders)
    ran = {row_of(store.record()) for store in runs}
    facts = {(s.edition, s.title): trained(s, places) for s in SYSTEMS if (s.edition, s.title) in ran}
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
    parser.add_argument("--train", type=Path, default=Path("train/shapes"), help="folder of the recipes shapes and shapes-diffusion")
    parser.add_argument("--without-repa", type=Path, default=Path("train/no-repa"), help="folder of the recipe shapes without REPA")
    parser.add_argument("--data", type=Path, default=Path("data/shapes"), help="folder of the world that they learned from")
    parser.add_argument(
        "--sweep", type=Path, default=Path("runs/ablation"), help="folder of a sweep, with the recipe shapes-small-diffusion in shared/"
    )
    parser.add_argument("--training-seed", type=int, default=0, help="which of the sweep's trainings")
    parser.add_argument("--small-data", type=Path, default=Path("data/shapes-small"), help="folder of the sweep's world")
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
    if system.stage:
        model = system.model.partition(":")[2].format(**places)
        texts = str(options.sweep / "shared" / "tokenizer" / "tokenizer")
        if not Path(model).exists():
            call("checkpoint", "export", system.weights.format(**places), "--tokenizer", texts, "--out", model)
    folders = []
    for benchmark in (name for name in system.benchmarks if name in options.benchmarks):
        folder = options.runs_in / f"{system.name}-{benchmark}"
        command = ["run", *arguments(system, places), "--benchmark", benchmark, "--edition", system.edition, "--seed", str(options.seed)]
        call(*command, *(["--limit", str(options.limit)] if options.limit else []), "--no-report", "--out", str(folder))
        folders.append(folder)
    return folders


def call(*command: str) -> None:
    """Run one of our own commands and show it."""
    print("jfeval", shlex.join(command), file=sys.stderr)
    subprocess.run([sys.executable, "-m", "jfeval", *command], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def trained(system: System, places: dict[str, Any]) -> list[Trained]:
    """Read what made a system from the folders of its training; nothing where one is not there, or did not make the embedded model."""
    folders = [Path(folder.format(**places)) for folder in system.training]
    if not all(folder.is_dir() for folder in folders):
        return []
    exported = folders[0] / "export" / "model" if folders else Path()
    if system.weights == str(WEIGHTS) and tensors(exported) != tensors(WEIGHTS):
        print(f"{exported} is not the embedded model; what that learned from is left open", file=sys.stderr)
        return []
    parts = []
    for done in (done for folder in folders for done in folder.glob("*/done.json")):
        identity = read(done.parent / "identity.json")
        if identity["kind"] in system.kinds:
            parts.append(part_of(identity, read(done), done.parent.name))
    return sorted(parts, key=lambda part: (not part.name.startswith("vae"), bool(part.samples), part.name))


def tensors(folder: Path) -> dict[str, str]:
    """Return the hash of every file of weights in a folder."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))}


def part_of(identity: dict[str, Any], done: dict[str, Any], name: str) -> Trained:
    """Read one part's facts."""
    results = done["results"]
    samples = {key.removesuffix("_samples"): int(value) for key, value in results.items() if key.endswith("_samples")}
    parameters = int(results.get("parameters", results.get("vision_parameters", 0)))
    return Trained(name=name, updates=identity["loop.steps"], seconds=results["seconds"], samples=samples, parameters=parameters)


def read(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return json.loads(file.read_text("utf-8"))


def drawings(parts: list[Trained]) -> int | None:
    """Return how many pictures to draw a system was shown."""
    return sum(part.samples.get("generation", 0) for part in parts) or None


def row_of(record: RunRecord) -> tuple[str, str]:
    """Return the edition and the title that a run stands under."""
    return record.edition, record.shown


def table(runs: Runs, facts: Facts) -> str:
    """Return every metric of every run as CSV, with the training and the recipe behind it."""
    frame = runs.metrics.drop(columns=["fingerprint", "detail"])
    recipes = {row_of(store.record()): recipe(store.record()) for store in runs}
    rows = list(zip(frame["edition"], frame["title"], strict=True))
    frame["drawings"] = [drawings(facts.get(row, [])) for row in rows]
    frame["training"] = ["; ".join(part.words() for part in facts.get(row, [])) for row in rows]
    frame["recipe"] = [recipes[row] for row in rows]
    return frame.map(lambda cell: csv_text(cell) if isinstance(cell, str) else cell).to_csv(index=False)


def recipe(record: RunRecord) -> str:
    """Say the settings behind a run's outputs."""
    return ", ".join(f"{key.removeprefix('recipe.')} {value}" for key, value in flatten(record.model_identity).items() if value)


def page(runs: Runs, facts: Facts, missing: list[System], places: dict[str, Any], *, made: bool) -> str:
    """Return the page: the boards, what each row is, what it learned from and for how long, and the recipe behind it.

    The command of a row is told where its runs were ``made`` here.
    """
    text = [
        "# Example leaderboard",
        "Written by `docs/scripts/example_leaderboard.py` from the runs themselves.",
        f"![All benchmarks, one row per system]({NAMES[2]})",
    ]
    text += [board.to_markdown().strip() for board in overview(runs)]
    text += ["## What was trained, and for how long", "Wall times, with whatever else the machine did meanwhile."]
    if made and any(s.stage and (s.edition, s.title) in facts for s in SYSTEMS):
        text += [f"Of the sweep's trainings these are the ones under seed {places['training_seed']}."]
    text += [training_table(edition, facts) for edition in dict.fromkeys(edition for edition, _ in facts)]
    text += ["## Benchmark by benchmark", *(board.to_markdown().strip() for board in runs.leaderboard), "## How each row was made"]
    for system in (s for s in SYSTEMS if (s.edition, s.title) in facts):
        record = next(store.record() for store in runs if row_of(store.record()) == (system.edition, system.title))
        words = shlex.join([*arguments(system, places), "--edition", system.edition, "--seed", str(record.seed)])
        text += [
            f"**{system.title}**, {system.edition}",
            *([f"`jfeval run {words} --benchmark ...`"] if made else []),
            recipe(record) + ".",
        ]
    text += [f"Left out, because its weights are not there: {system.title} ({system.edition})." for system in missing]
    return "\n\n".join(text) + "\n"


def training_table(edition: str, facts: Facts) -> str:
    """Return one row per system of an edition: its size, the pictures that it was shown to draw, the parts that were trained."""
    kinds = {"system": "text", "parameters": "count", "pictures to draw": "count", "minutes": "count", "parts": "text"}
    columns = tuple(Column(key=key, label=key, kind=kind) for key, kind in kinds.items())  # pyright: ignore[reportArgumentType]
    rows = []
    for system in (s for s in SYSTEMS if s.edition == edition and (s.edition, s.title) in facts):
        parts = facts[system.edition, system.title]
        own = [part.parameters for part in parts if part.samples]
        minutes = round(sum(part.seconds for part in parts) / 60) if parts else None
        untold = (f"see {system.card}" if system.card else "its folder is not here") if system.training else "nothing is trained"
        words = "; ".join(part.words() for part in parts) or untold
        values = (system.title, max(own, default=None), drawings(parts), minutes, words)
        rows.append(tuple(Cell(value=f"{value:,}" if isinstance(value, int) else value) for value in values))
    notes = ("Parameters are those of the model that is evaluated, without the autoencoder's.",)
    return Table(title=f"Trainings, {edition} edition", columns=columns, rows=tuple(rows), notes=notes).to_markdown().strip()


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
