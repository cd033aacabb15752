import csv

import pytest
from click.testing import CliRunner

from jfeval.cli import main
from jfeval.cli_sweep import parse_axes, parse_seeds
from jfeval.errors import UserError


def invoke(*args):
    return CliRunner().invoke(main, ["sweep", *args], catch_exceptions=False)


@pytest.fixture
def common(registered, tmp_path):
    return ["--model", "painter", "--benchmark", "bright", "--limit", "6", "--out", str(tmp_path / "sweep")]


def test_a_grid_runs_every_combination_and_reports_it(common, tmp_path):
    result = invoke("--grid", "guidance_scale=1,2,5", "num_steps=10,20", "--seeds", "0,1", *common)
    assert result.exit_code == 0, result.output
    folders = sorted(p.name for p in (tmp_path / "sweep").iterdir() if p.is_dir())
    assert len(folders) == 12
    assert "guidance_scale=2,num_steps=20,seed=1" in folders
    lines = result.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "sweep" / "report.html")
    assert sum("=" in line and " " in line for line in lines) == 12
    with (tmp_path / "sweep" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["fingerprint"] for row in rows}) == 12


def test_a_longer_grid_keeps_finished_runs(common, tmp_path):
    invoke("--grid", "guidance_scale=1", *common)
    store = tmp_path / "sweep" / "guidance_scale=1,seed=0"
    before = {p: p.stat().st_mtime_ns for p in (store / "images").rglob("*")}
    assert before
    result = invoke("--grid", "guidance_scale=1,3", *common)
    assert result.exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_dry_run_prints_the_runs_and_writes_nothing(common, tmp_path):
    result = invoke("--grid", "num_steps=10,20", "--dry-run", *common)
    assert result.exit_code == 0
    assert "num_steps=20,seed=0" in result.stdout
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--grid", "guidence_scale=1,2"], "guidance_scale"),
        (["--grid", "num_steps=10,many"], "num_steps"),
        (["--grid", "num_steps"], "KEY=VALUE"),
        (["--grid"], "no setting to vary"),
        (["num_steps=10"], "Say what to vary"),
        (["--grid", "num_steps=10", "--seeds", "0,x"], "seeds must be"),
    ],
)
def test_a_wrong_grid_is_refused_before_any_run(common, tmp_path, args, words):
    result = CliRunner().invoke(main, ["sweep", *args, *common])
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "sweep").exists()


def test_values_stay_as_they_were_written():
    assert parse_axes(["a=1,2.50", "b=x"]) == {"a": ["1", "2.50"], "b": ["x"]}
    assert parse_seeds("3, 1") == [3, 1]


@pytest.mark.parametrize("axes", [["a=1", "a=2"], ["a=1,1"], ["a=1,,2"], ["=1"]])
def test_an_axis_must_be_clear(axes):
    with pytest.raises(UserError):
        parse_axes(axes)
