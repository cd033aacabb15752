"""A sweep of trainings from end to end, at toy size, with a stub for the benchmarks."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from jfeval import cli_ablation, live, runner, scoring
from jfeval.ablation import AblationSpec, read_rows, read_spec
from jfeval.ablation_training import SHARED, Trainer, Training, _lost, _scores, train_each
from jfeval.cli_ablation import seeds_of
from jfeval.cli_sweep import sweep
from jfeval.errors import UserError
from jfeval.executors import processes
from jfeval.models.training.ablations import Variant, read_variant, varied
from jfeval.models.training.budget import budgets
from jfeval.models.training.recipe import CONFIGS, load_recipe
from jfeval.schema import Metric

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
        "machine": "two cores",
        "seconds": {"vae": 30.0, "lm": 15.0, "stage1": 5.0, "stage2": 25.0, "evaluation": 15.0},
    }
    file = tmp_path / "ablation.yaml"
    file.write_text(yaml.safe_dump(values))
    asked = []

    def evaluate(model, benchmarks, *, step=None, seed=0, **_):
        if asked and asked[-1] == "interrupt":
            asked.pop()
            raise KeyboardInterrupt
        asked.append((model.model.config.language.hidden_size, *benchmarks, step, seed))
        return {f"{name}.{'overall' if name == 'geneval' else 'pooled_f1'}": 0.5 for name in benchmarks}

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
    assert {(r["step"], r["metric"]) for r in rows if r["final"] == "False"} == {(step, "geneval.overall") for step in "12"}
    assert all(int(r["updates"]) == 4 and int(r["generation_samples"]) == 16 and float(r["operations"]) > 0 for r in rows)
    assert all(r["edition"] == "shapes" and r["version"].startswith("0.") for r in rows)
    assert {seed for *_, seed in asked} == {0}  # every training is asked the same prompts
    assert result.stdout.splitlines()[-1] == str(out / "ablation.html")
    assert "not resolved" in (out / "ablation.md").read_text()

    assert "4 trainings to come, about 4 minutes on two cores: 1 for what they share, 1 for each training" in result.stderr
    count = len(asked)
    asked.append("interrupt")  # in the middle of D's evaluation, when everything is trained
    assert invoke(file, "--variants", "D").exit_code == 1
    made = {p: p.stat().st_mtime_ns for p in out.rglob("done.json")}
    assert len(read(out / "results.csv")) == len(rows)
    again = invoke(file, "--variants", "A,F,D", "--seeds", "2")
    assert again.exit_code == 0
    assert len(asked) == count + 2  # D understands only, and is not asked to draw
    assert len(read(out / "results.csv")) == len(rows) + 2
    assert {p: p.stat().st_mtime_ns for p in made} == made  # what was finished is not trained again


def test_trainings_side_by_side_find_what_they_find_one_after_the_other(ablation, monkeypatch, capfd):
    file, _ = ablation
    monkeypatch.undo()  # the processes that train know no stub
    values = yaml.safe_load(file.read_text())
    values |= {"evaluate": [{"benchmark": "pope", "limit": 6, "needs": "understanding"}], "curve": []}
    file.write_text(yaml.safe_dump(values))
    found = {}
    for jobs in ("1", "2"):
        out = file.parent / jobs
        assert (
            CliRunner().invoke(sweep, [str(file), "--variants", "A,F", "--jobs", jobs, "--out", str(out)], catch_exceptions=False).exit_code
            == 0
        )
        capfd_lines = capfd.readouterr().err.splitlines()
        found[jobs] = {(r["variant"], r["metric"]): r["value"] for r in read(out / "results.csv")}
        weights = {v: (out / f"{v}-seed0" / "stage2" / "model.safetensors").read_bytes() for v in "AF"}
        found[jobs] |= weights
    assert any(line.startswith("A-seed0  ") for line in capfd_lines)
    assert any(line.startswith("F-seed0  ") for line in capfd_lines)
    assert found["1"] == found["2"]
    assert len(found["1"]) > 2


def test_results_from_elsewhere_need_no_training(ablation, tmp_path):
    file, asked = ablation
    invoke(file, "--variants", "F")
    (file.parent / "out" / "results.csv").rename(file.parent / "known.csv")
    file.write_text(file.read_text() + "results: known.csv\n")
    asked.clear()
    result = CliRunner().invoke(sweep, [str(file), "--variants", "F", "--out", str(tmp_path / "other")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert asked == []
    assert "trainings to come" not in result.stderr
    assert "1 of 1  F, seed 0: final: finished before, kept from known.csv; --anew trains it here" in result.stderr
    again = CliRunner().invoke(sweep, [str(file), "--variants", "F", "--out", str(tmp_path / "x"), "--anew", "--dry-run"])
    assert "1 of 1  F, seed 0: final: 4 updates" in again.stdout
    assert "0.500" in (tmp_path / "other" / "ablation.md").read_text()
    assert not (tmp_path / "other" / SHARED).exists()


def test_a_dry_run_states_the_cost_and_writes_nothing(ablation):
    file, asked = ablation
    result = invoke(file, "--dry-run", "--seeds", "2", "--variants", "all")
    assert "8 trainings to come" in result.stdout
    assert len(re.findall(r"[ABDF], seed [01]: .* updates, about", result.stdout)) == 8
    assert asked == []
    assert not (file.parent / "out").exists()


def test_overrides_enter_the_digest_as_any_setting(ablation, monkeypatch):
    file, _ = ablation
    planned = []

    def trained(trainer, trainings):
        planned.append((trainer, *trainings))
        return iter(())

    monkeypatch.setattr(cli_ablation, "train_each", trained)
    monkeypatch.setattr(Trainer, "prepare", lambda *_: None)
    for overrides in ([], ["stage2.loop.steps=3", "data.image_size=16"], ["stage2.loop.steps=2"]):
        with pytest.raises(UserError, match="no result of these settings"):
            invoke(file, *overrides, "--variants", "F", "--jobs", "2")
    (_, plain), (_, changed), (_, same) = planned
    assert [one.recipe.parts[-1].settings.loop.steps for one in (plain, changed, same)] == [2, 3, 2]
    assert changed.digest != plain.digest == same.digest
    with pytest.raises(UserError, match="unknown part 'stage3'"):
        invoke(file, "stage3.loop.steps=3", "--dry-run")
    with pytest.raises(UserError, match=r"must look like part\.key=value"):
        invoke(file, "guidance_scale=2,3", "--dry-run")
    assert {trainer.jobs for trainer, *_ in planned} == {2}  # the cores are divided as asked, however few trainings are left


def test_fewer_trainings_than_jobs_have_the_threads_that_more_would_have(monkeypatch):
    shares = []
    monkeypatch.setattr(processes.Processes, "each", lambda pool, work, items, lost: iter([(pool._of, len(items))]))
    for jobs, left in ((3, 2), (3, 1)):
        shares += train_each(Trainer(spec=None, out=Path(), jobs=jobs), [None] * left)
    assert shares == [(3, 2), (3, 1)]


def test_a_benchmark_s_settings_reach_it(monkeypatch, tmp_path):
    asked = []
    fid = Metric(name="fid_10k", protocol="gigagan", value=17.5, n=2, clusters=2)
    monkeypatch.setattr(runner, "run", lambda plan, benchmark, *_, **__: asked.append((plan.settings, benchmark.settings.images)))
    monkeypatch.setattr(scoring, "score", lambda *_: [fid, replace(fid, name="fid_1k", task="art")])
    evaluations = [{"benchmark": "mjhq", "limit": 2, "settings": {"images": 10000}}]
    spec = AblationSpec(recipe="r", variants={"F": "F.yaml"}, evaluate=evaluations, prompts_seed=3)
    model = SimpleNamespace(identity=dict)
    assert _scores(model, spec, spec.evaluate, Variant(title="t"), None, tmp_path / "F-seed0") == {"mjhq.fid_10k": 17.5}
    ((settings, images),) = asked
    assert (settings.benchmark_settings, images, settings.seed, settings.limit) == ({"images": 10000}, 10000, 3, 2)
    assert settings.out == tmp_path / "F-seed0" / "runs" / "mjhq"
    with pytest.raises(UserError, match="images must not be negative"):
        AblationSpec(recipe="r", variants={"F": "F.yaml"}, evaluate=[{"benchmark": "mjhq", "settings": {"images": -1}}])


def test_one_of_several_processes_is_refused(ablation, monkeypatch):
    file, asked = ablation
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert invoke(file, "--dry-run", "--variants", "F").exit_code == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process, and torchrun started 2"):
        invoke(file, "--dry-run", "--variants", "F")
    assert asked == []


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
    for name, claims in (("shapes", 3), ("paper", 4)):
        file = CONFIGS / "ablations" / f"{name}.yaml"
        spec = read_spec(file)
        base = load_recipe(file.parent / spec.recipe)
        assert len(spec.claims) == claims
        assert set(spec.seconds) <= {plan.name for plan in base.parts} | {"evaluation"}
        for path in spec.variants.values():
            assert any(plan.name == spec.final for plan in varied(base, read_variant(file.parent / path), 0).parts)


def test_the_paper_s_ablation_asks_for_its_fid_and_rests_no_claim_on_clip():
    spec = read_spec(CONFIGS / "ablations" / "paper.yaml")
    drawn = next(each for each in spec.evaluate if each.benchmark == "mjhq")
    assert drawn.settings == {"images": 10_000}
    assert (spec.sampler, spec.edition) == ({"num_steps": 30, "guidance_scale": 7.5}, "official")
    compared = {(each.metric, each.lower) for claim in spec.claims for each in claim.comparisons}
    assert compared == {("mjhq.fid_10k", True), ("gqa.accuracy", False)}


def test_the_committed_results_are_of_todays_settings_and_learned_something():
    """A changed default or rule makes them results of other settings, which no report shows any more."""
    file = CONFIGS / "ablations" / "shapes.yaml"
    spec = read_spec(file)
    base, rows, own = load_recipe(file.parent / spec.recipe), read_rows(file.parent / spec.results), {}
    for name in "ABF":
        recipe = varied(base, read_variant(file.parent / spec.variants[name]), 0)
        digest, spent = cli_ablation._digest(recipe, spec), sum(budget.operations for budget in budgets(recipe))
        own[name] = [row for row in rows if (row.variant, row.seed, row.digest) == (name, 0, digest)]
        assert own[name], f"no row of {name} under seed 0 has today's digest {digest}"
        assert all(row.operations == pytest.approx(spent, rel=1e-9) for row in own[name]), name
    final = {row.metric: row.value for row in own["F"] if row.final}
    assert final["geneval.overall"] >= 0.4
    assert final["pope.pooled_accuracy"] >= 0.7


SHORT = {
    "vae": {"batch_size": 2, "test_images": 4, "loop": {"steps": 2}},
    "tokenizer": {"scenes": 200},
    "contrastive": {"batch_size": 4, "gallery": 4, "loop": {"steps": 2}},
    "lm": {"batch_size": 2, "test_scenes": 4, "loop": {"steps": 2}},
    "stage1": {"compile_blocks": False, "mixture": {"generation": 2, "understanding": 1}, "loop": {"steps": 1}},
    "stage2": {"compile_blocks": False, "mixture": {"generation": 2, "understanding": 1}, "loop": {"steps": 2, "evaluate_every": 1}},
}


@pytest.fixture
def committed(tmp_path):
    """The committed sweep, its model and its world as they are, for a few updates and prompts."""
    from omegaconf import OmegaConf

    from jfeval.benchmarks.shapes.dataset import WorldSize, make
    from jfeval.benchmarks.shapes.world import SMALL

    make(tmp_path / "world", size=WorldSize(train=200, test=20, heldout=2, text=40), world=SMALL)
    folder = CONFIGS / "ablations"
    recipe = yaml.safe_load((folder / "shapes" / "recipe.yaml").read_text())
    for part in recipe["parts"]:
        given = part.get("settings", {})
        given = yaml.safe_load((folder / "shapes" / given).read_text()) if isinstance(given, str) else given
        changes = {"source": str(tmp_path / "world")} if part["name"] == "data" else SHORT.get(part["name"], {})
        part["settings"] = OmegaConf.to_container(OmegaConf.merge(given, changes))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "threads": 1}))
    values = yaml.safe_load((folder / "shapes.yaml").read_text())
    values |= {"recipe": "recipe.yaml", "results": "", "sampler": {"num_steps": 2}}
    values["variants"] = {name: str(folder / path) for name, path in values["variants"].items()}
    for each in (*values["evaluate"], *values["curve"]):
        each["limit"] = 6
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_the_committed_sweep_runs_through_in_its_own_world(committed):
    result = invoke(committed, "--variants", "B,F")
    assert result.exit_code == 0, result.output
    assert "2 trainings to come, about" in result.stderr
    rows = read(committed.parent / "out" / "results.csv")
    assert {r["edition"] for r in rows} == {"shapes-small"}
    final = {(r["variant"], r["metric"]): r for r in rows if r["final"] == "True"}
    for variant in "BF":
        for metric, each in (("geneval.overall", 4), ("gqa.accuracy", 1)):
            items = final[variant, metric]["items"]
            assert re.fullmatch(rf"{each}:\d{{6}}", items)
            assert sum(int(d) for d in items[2:]) / (6 * each) == pytest.approx(float(final[variant, metric]["value"]))
        assert 0 <= float(final[variant, "pope.pooled_accuracy"]["value"]) <= 1
    assert [r["step"] for r in rows if r["final"] == "False" and r["metric"] == "geneval.overall"] == ["1", "2"] * 2
    page = (committed.parent / "out" / "ablation.html").read_text()
    assert "Ablation, shapes-small edition" in page
    assert "geneval.overall (shapes-small)" in page
    assert "(shapes)" not in page


def test_a_training_whose_process_is_killed_says_how_to_go_on():
    one = Training(name="F", seed=1, variant=None, recipe=None, digest="")
    with pytest.raises(UserError, match=r"F-seed1: SIGKILL.*the same command goes on from its last checkpoint. Fewer --jobs"):
        _lost(one, "SIGKILL, which the system sends when memory runs out")


def test_a_grid_has_no_trainings_to_divide():
    result = CliRunner().invoke(sweep, ["--grid", "num_steps=1,2", "--jobs", "2"])
    assert result.exit_code == 2
    assert "--jobs belong to trainings" in result.output
