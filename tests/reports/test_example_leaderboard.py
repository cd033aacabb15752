"""Runs the script that writes the example leaderboard: on small runs it is given, and on baselines that it runs itself."""

import csv
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from jfeval.benchmarks.shapes.dataset import WorldSize, make

_SPEC = importlib.util.spec_from_file_location("jfeval_test_browser_of_leaderboard", Path(__file__).with_name("browser.py"))
chromium = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(chromium)

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "example_leaderboard.py"
pytestmark = pytest.mark.skipif(chromium.find() is None, reason="no Chromium: none on PATH, and JFEVAL_CHROMIUM is not set")


def script(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=900)


def write_part(folder, steps=None, **results):
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps({} if steps is None else {"loop.steps": steps}))
    (folder / "done.json").write_text(json.dumps({"results": results}))


@pytest.fixture
def training(tmp_path):
    """What a training without REPA leaves of its parts."""
    folder = tmp_path / "no-repa"
    write_part(folder / "vae", content="5f", **{"from": "the embedded model"})
    write_part(folder / "lm", 220, seconds=60.0, parameters=7.0)
    write_part(folder / "stage1", 20, seconds=30.0, parameters=1234567.0, generation_samples=640.0, text_samples=0.0)
    write_part(folder / "stage2", 340, seconds=150.0, parameters=1234567.0, generation_samples=10880.0, text_samples=170.0)
    write_part(folder / "diffusion", 520, seconds=999.0, parameters=1.0, generation_samples=5.0)
    return folder


def test_runs_that_are_given_become_the_board(make_store, training, tmp_path):
    without = {"model": "janusflow", "title": "JanusFlow without REPA, short training"}
    one, two, other, embedded = (
        make_store(prompts=2, **without),
        make_store(prompts=2, seed=1, title="Picture of the nearest training caption", model_identity={"recipe": {}}),
        make_store(prompts=2, **without, benchmark="geneval-heldout"),
        make_store(prompts=2, title="The embedded JanusFlow"),
    )
    out = tmp_path / "docs"
    done = script(one.path, two.path, other.path, embedded.path, "--out", out, "--without-repa", training)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.splitlines()] == ["leaderboard.csv", "leaderboard.md", "leaderboard.png"]
    with Image.open(out / "leaderboard.png") as image:
        assert image.width == 1280
        assert image.height > 150
        assert len(image.convert("RGB").getcolors(1 << 24)) > 20, "an empty page"
    rows = list(csv.DictReader(io.StringIO((out / "leaderboard.csv").read_text())))
    first = next(row for row in rows if row["title"] == without["title"] and row["headline"] == "True")
    headline = next(metric for metric in one.metrics() if metric.headline)
    assert (float(first["value"]), float(first["ci_low"])) == (headline.value, headline.ci_low)
    assert float(first["drawings"]) == 11520
    assert "num_steps 30" in first["recipe"]
    page = (out / "leaderboard.md").read_text()
    assert f"{headline.value:.3f} \\[{headline.ci_low:.3f}, {headline.ci_high:.3f}\\]" in page
    assert (
        "| 1,234,567 | 11,520 | 4 | vae: from the embedded model; lm: 220 updates, 1.0 min; stage1: 20 updates (640 generation), 0.5 min"
        in page
    )
    assert "stage2: 340 updates (10,880 generation, 170 text), 2.5 min" in page
    assert "nothing is trained" in page
    assert page.index("All benchmarks, shapes edition") < page.index("GenEval, shapes edition, protocol official")
    assert "diffusion" not in page.lower()
    assert "jfeval run" not in page


def test_the_embedded_model_is_told_from_its_recipe(make_store, tmp_path):
    store = make_store(prompts=1, title="The embedded JanusFlow")
    done = script(store.path, "--out", tmp_path / "docs")
    assert done.returncode == 0, done.stderr
    row = next(line for line in (tmp_path / "docs" / "leaderboard.md").read_text().splitlines() if "for how long: models/shapes" in line)
    card = (SCRIPT.parents[2] / "models" / "shapes" / "README.md").read_text()
    drawings, conversations = "467,200 drawings", "106,200 conversations"
    assert f"{drawings} and {conversations}" in card
    assert f"| {drawings.split()[0]} | – | vae: 2,200 updates; " in row
    shown = [int(word.replace(",", "")) for word in re.findall(r"([\d,]+) understanding", row)]
    assert f"{sum(shown):,} conversations" == conversations


def test_a_run_of_another_edition_is_refused(make_store, tmp_path):
    done = script(make_store(prompts=1, edition="shapes-small").path, "--out", tmp_path / "docs")
    assert done.returncode == 1
    assert "the board is of the edition shapes, and there are runs of shapes-small" in done.stderr


def test_it_runs_the_systems_that_are_there(tmp_path):
    make(tmp_path / "world", size=WorldSize(train=40, test=1, heldout=1, text=1))
    options = ("--data", tmp_path / "world", "--runs-in", tmp_path / "runs", "--without-repa", tmp_path / "none", "--limit", 6)
    systems = ("nearest-caption", "majority-answer", "no-repa")
    done = script("--out", tmp_path / "docs", *options, "--systems", *systems, "--benchmarks", "geneval", "pope")
    assert done.returncode == 0, done.stderr
    assert "left out: JanusFlow without REPA, short training: no" in done.stderr
    made = sorted(folder.name for folder in (tmp_path / "runs").iterdir())
    assert made == ["majority-answer-pope", "nearest-caption-geneval"]
    page = (tmp_path / "docs" / "leaderboard.md").read_text()
    assert "Left out, because its weights are not there: JanusFlow without REPA, short training." in page
    assert f"--set data={tmp_path / 'world'} --edition shapes --seed 0" in page
    assert "**Trainings**" in page
    assert "limited" in page
