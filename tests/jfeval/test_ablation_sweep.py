"""A sweep of trainings from end to end, at toy size, with a stub for the benchmarks."""

import csv
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from jfeval import live
from jfeval.cli_ablation import SHARED, seeds_of
from jfeval.cli_sweep import sweep
from jfeval.errors import UserError
from jfeval.models.training.recipe import CONFIGS

TRAINING = Path(__file__).resolve().parent.parent / "models" / "training" / "conftest.py"


@pytest.fixture(scope="module")
def toy():
    """The tiny world and recipe of the trainer's tests."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("toy_training", TRAINING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ablation(toy, tmp_path, monkeypatch):
    recipe = toy.write_recipe(tmp_path)
    parts = [p for p in yaml.safe_load(recipe.read_text())["parts"] if p["kind"] != "export"]
    for part in parts:
        if part["kind"] == "stage":
            part["settings"]["loop"] = {"steps": 2, "learning_rate": 1e-3, "warmup": 1, "dtype": "float32", "evaluate_every": 1}
    recipe.write_text(yaml.safe_dump({"threads": 1, "parts": parts}))
    variants = {name: str(CONFIGS / "ablations" / "variants" / f"{name}.yaml") for name in ("A", "B", "D", "F")}
    claim = {"name": "c", "text": "t", "kind": "superiority", "margin": 0.0}
    claim["comparisons"] = [{"metric": "geneval.overall", "better": "F", "than": "A"}]
    values = {
        "recipe": "recipe.yaml",
        "variants": variants,
        "evaluate": [{"benchmark": "geneval"}, {"benchmark": "pope", "needs": "understanding"}],
        "curve": [{"benchmark": "geneval"}],
        "claims": [claim],
    }
    file = tmp_path / "ablation.yaml"
    file.write_text(yaml.safe_dump(values))
    asked = []

    def evaluate(model, benchmarks, *, step=None, seed=0, **_):
        asked.append((model.model.config.language.hidden_size, *benchmarks, step, seed))
        return {f"{name}.{'overall' if name == 'geneval' else 'pooled_f1'}": 0.5 + 0.1 * seed for name in benchmarks}

    monkeypatch.setattr(live, "evaluate", evaluate)
    return file, asked


def invoke(file, *args):
    return CliRunner().invoke(sweep, [str(file), "--out", str(file.parent / "out"), *args], catch_exceptions=False)


def read(file):
    with file.open() as handle:
        return list(csv.DictReader(handle))


def test_variants_are_trained_once_from_shared_parts_and_compared(ablation):
    file, asked = ablation
    result = invoke(file, "--variants", "A,F", "--seeds", "2")
    assert result.exit_code == 0, result.output
    out = file.parent / "out"
    assert {p.name for p in out.iterdir() if p.is_dir()} == {SHARED, "A-seed0", "F-seed0", "A-seed1", "F-seed1"}
    assert {p.name for p in (out / SHARED).iterdir()} == {"data", "vae", "tokenizer", "contrastive", "lm", "latents"}
    assert {p.name for p in (out / "A-seed1").iterdir()} == {"stage1", "stage2"}
    rows = read(out / "results.csv")
    final = [r for r in rows if r["final"] == "True"]
    assert {(r["variant"], r["seed"], r["metric"]) for r in final} == {
        (v, s, m) for v in "AF" for s in "01" for m in ("geneval.overall", "pope.pooled_f1")
    }
    assert {(r["step"], r["metric"]) for r in rows if r["final"] == "False"} == {("1", "geneval.overall")}
    assert all(int(r["updates"]) == 4 and int(r["generation_samples"]) == 16 and float(r["operations"]) > 0 for r in rows)
    assert result.stdout.splitlines()[-1] == str(out / "ablation.html")
    assert "not resolved" in (out / "ablation.md").read_text()

    count = len(asked)
    again = invoke(file, "--variants", "A,F,D", "--seeds", "2")
    assert again.exit_code == 0
    assert len(asked) == count + 2  # D understands only, and is not asked to draw
    assert len(read(out / "results.csv")) == len(rows) + 2


def test_results_from_elsewhere_need_no_training(ablation, tmp_path):
    file, asked = ablation
    invoke(file, "--variants", "F")
    (file.parent / "out" / "results.csv").rename(file.parent / "known.csv")
    file.write_text(file.read_text() + "results: known.csv\n")
    asked.clear()
    result = CliRunner().invoke(sweep, [str(file), "--variants", "F", "--out", str(tmp_path / "other")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert asked == []
    assert "0.500" in (tmp_path / "other" / "ablation.md").read_text()
    assert not (tmp_path / "other" / SHARED).exists()


def test_a_dry_run_states_the_cost_and_writes_nothing(ablation):
    file, asked = ablation
    result = invoke(file, "--dry-run", "--seeds", "2")
    assert len(re.findall(r"[ABDF], seed [01]: .* updates, about", result.stdout)) == 8
    assert asked == []
    assert not (file.parent / "out").exists()


def test_mistakes_are_found_before_any_training(ablation, tmp_path):
    file, _ = ablation
    with pytest.raises(UserError, match="unknown variant 'G'"):
        invoke(file, "--variants", "A,G")
    with pytest.raises(UserError, match="does not exist"):
        invoke(tmp_path / "nowhere.yaml")
    assert CliRunner().invoke(sweep, ["--grid", "a=1", "--variants", "A"]).exit_code == 2


def test_one_number_counts_seeds_and_a_list_names_them():
    assert seeds_of("3") == [0, 1, 2]
    assert seeds_of("0") == [0]
    assert seeds_of("1") == [0]
    assert seeds_of("2,5") == [2, 5]


def test_the_committed_ablations_are_well_formed():
    from jfeval.ablation import read_spec
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.recipe import load_recipe

    for name in ("shapes", "paper"):
        file = CONFIGS / "ablations" / f"{name}.yaml"
        spec = read_spec(file)
        base = load_recipe(file.parent / spec.recipe)
        assert len(spec.claims) == 3
        for path in spec.variants.values():
            assert any(plan.name == spec.final for plan in varied(base, read_variant(file.parent / path), 0).parts)
