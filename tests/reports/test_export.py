import csv
import io

import pandas as pd
import pytest
import yaml

import jfeval
from jfeval.errors import UserError
from jfeval.reports.export import FORMATS, export, format_of, model_index
from jfeval.reports.tables import leaderboard
from jfeval.schema import Counts


@pytest.fixture
def runs(make_store):
    return [make_store(prompts=2), make_store(prompts=2, seed=1, model="=1+1 <b>")]


def headline(store):
    return next(m for m in store.metrics() if m.headline)


def test_models_of_one_name_are_quoted_by_their_titles(make_store):
    stores = [make_store(prompts=2, model="hf", title=title) for title in ("one (hf)", "two (hf)")]
    assert [model["name"] for model in model_index(stores)["model-index"]] == ["one (hf)", "two (hf)"]


def test_every_form_holds_the_same_numbers(runs, tmp_path):
    wanted = sorted(headline(run).value for run in runs)
    text = export(runs, tmp_path / "a.txt", "table").read_text()
    markdown = export(runs, tmp_path / "a.md", "markdown").read_text()
    for value in wanted:
        assert f"{value:.3f}" in text
        assert f"{value:.3f}" in markdown
    rows = list(csv.DictReader(io.StringIO(export(runs, tmp_path / "a.csv", "csv").read_text())))
    assert sorted(float(row["overall"]) for row in rows) == wanted
    frame = pd.read_parquet(export(runs, tmp_path / "a.parquet", "parquet"))
    assert sorted(frame["overall"]) == wanted
    index = yaml.safe_load(export(runs, tmp_path / "a.yaml", "model-index").read_text())
    quoted = [m["value"] for model in index["model-index"] for r in model["results"] for m in r["metrics"] if m["type"] == "overall"]
    assert sorted(quoted) == pytest.approx(wanted, abs=1e-6)


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    for form in FORMATS:
        first, second = export(runs, tmp_path / "a", form).read_bytes(), export(runs[::-1], tmp_path / "b", form).read_bytes()
        assert first == second, form


def test_a_frame_keeps_texts_and_types(runs):
    (table,) = leaderboard(runs)
    frame = table.to_frame()
    assert set(frame["model"]) == {"janusflow-shapes", "=1+1 <b>"}
    assert frame["overall"].dtype == float
    assert frame["overall_n"].tolist() == [headline(run).n for run in runs]


def test_a_model_card_never_quotes_a_limited_run(make_store):
    limited = make_store(prompts=2, limit=12, counts=Counts(available=384, asked=12, finished=12, failed=0))
    whole = make_store(prompts=2, seed=1)
    index = model_index([limited, whole])
    assert [r["dataset"]["args"]["seed"] for model in index["model-index"] for r in model["results"]] == [1]
    with pytest.raises(UserError, match="none of these runs is whole"):
        model_index([limited])


def test_tasks_and_intervals_are_quoted(runs):
    (result,) = model_index(runs[:1])["model-index"][0]["results"]
    assert result["task"]["type"] == "text-to-image"
    assert result["dataset"]["type"] == "geneval-shapes"
    overall = result["metrics"][0]
    assert overall["args"]["confidence_interval_95"][0] < overall["value"] < overall["args"]["confidence_interval_95"][1]
    assert "counting" in {metric["name"] for metric in result["metrics"]}


def test_the_form_is_read_off_the_name(tmp_path):
    assert format_of(tmp_path / "x.MD") == "markdown"
    with pytest.raises(UserError, match="--format"):
        format_of(tmp_path / "x.docx")


def test_a_file_that_cannot_be_written_is_said(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export(runs, tmp_path / "file" / "a.csv", "csv")


def test_load_runs_gives_frames(runs, tmp_path):
    folder = runs[0].path.parent
    loaded = jfeval.load_runs(folder / "*", runs[0].path)
    assert len(loaded) == len({run.path for run in runs})
    heads = loaded.metrics.query("headline")
    assert sorted(heads["value"]) == sorted(headline(run).value for run in runs)
    assert {"prompt", "correct", "reason"} <= set(loaded.samples.columns)
    assert loaded.report(tmp_path / "r.html").stat().st_size > 10_000
    with pytest.raises(UserError, match="no run folder matches"):
        jfeval.load_runs(folder / "nothing*")
