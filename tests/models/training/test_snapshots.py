"""Checkpoints in the middle of a training: scored by another process, exported, and scored live."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import jfeval
from jfeval.cli_train import export, watch
from jfeval.errors import UserError
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.sampling import SamplerSettings
from jfeval.models.training.loop import PausedError
from jfeval.models.training.making import train
from jfeval.models.training.snapshots import checkpoints, load_checkpoint

SAMPLER = {"num_steps": 2, "guidance_scale": 1.0}


@pytest.fixture(scope="module")
def paused(made, tmp_path_factory):
    """A stage that was stopped after two of its three updates, with a checkpoint of each."""
    out = tmp_path_factory.mktemp("paused") / "out"
    shutil.copytree(made, out)
    shutil.rmtree(out / "stage2")
    keys = ["loop.checkpoint_minutes=0", "loop.keep_checkpoints=9"]
    recipe = made.parent / "recipe.yaml"
    for _ in range(2):
        with pytest.raises(PausedError):
            train(recipe, out, only=["stage2"], overrides=[f"stage2.{k}" for k in (*keys, "loop.time_limit_minutes=1e-9")])
    return out / "stage2"


def test_checkpoints_are_kept_as_many_as_asked(paused):
    assert [p.name for p in checkpoints(paused)] == ["step-00000001", "step-00000002"]


def test_a_checkpoint_is_the_averaged_model_or_the_live_one(paused):
    newest = checkpoints(paused)[-1]
    averaged, live = (load_checkpoint(newest, averaged=flag).model.state_dict() for flag in (True, False))
    from safetensors.torch import load_file

    stored, average = load_file(newest / "model.safetensors"), load_file(newest / "ema.safetensors")
    name = "language_model.lm_head.weight"
    assert torch.equal(averaged[name], average[f"model.{name}"])
    assert torch.equal(live[name], stored[f"model.{name}"])
    assert not torch.equal(averaged[name], live[name])


def test_an_exported_checkpoint_draws_what_the_checkpoint_draws(paused, tmp_path):
    newest = checkpoints(paused)[-1]
    result = CliRunner().invoke(export, [str(newest), "--out", str(tmp_path / "model")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    loaded, direct = JanusFlowPipeline.from_pretrained(tmp_path / "model"), load_checkpoint(newest)
    settings = SamplerSettings(num_steps=2)
    one, two = (p.draw_latents(["a red square"], [3], settings) for p in (loaded, direct))
    assert torch.equal(one, two)
    with pytest.raises(UserError, match="is not empty"):
        CliRunner().invoke(export, [str(newest), "--out", str(tmp_path / "model")], catch_exceptions=False)
    with pytest.raises(UserError, match=r"no pipeline\.json"):
        load_checkpoint(paused)


def test_watching_scores_every_checkpoint_once(paused, tmp_path):
    args = [str(paused), "--once", "--benchmark", "gqa", "--limit", "3", "--out", str(tmp_path), "--set", "num_steps=2"]
    result = CliRunner().invoke(watch, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines() if line.startswith("step")] == ["step 1", "step 2"]
    runs = jfeval.load_runs(str(tmp_path / "*"))
    assert len(runs.metrics.query("headline")) == 2
    record = json.loads((tmp_path / "gqa-step00000002" / "run.json").read_text())
    assert record["model_identity"]["step"] == 2


def test_watching_another_edition_and_seed(paused, tmp_path):
    args = [str(paused), "--once", "--benchmark", "pope", "--limit", "6", "--edition", "shapes-small", "--seed", "3", "--device", "cpu"]
    result = CliRunner().invoke(watch, [*args, "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "pope-step00000001" / "run.json").read_text())
    assert (record["edition"], record["seed"]) == ("shapes-small", 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--edition", "shpes"], "did you mean 'shapes'"),
        (["--edition", "official", "--data", "nowhere"], "nowhere"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--benchmark", "gpa"], "did you mean 'gqa'"),
    ],
)
def test_what_cannot_be_watched_is_found_before_a_checkpoint_is_loaded(paused, tmp_path, monkeypatch, wrong, message):
    monkeypatch.setattr("jfeval.models.training.snapshots.load_checkpoint", lambda *_, **__: pytest.fail("loaded"))
    args = [str(paused), "--once", "--benchmark", "gqa", "--limit", "3", "--out", str(tmp_path), *wrong]
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(watch, args, catch_exceptions=False)


def test_a_checkpoint_is_loaded_onto_the_device(paused):
    pipeline = load_checkpoint(checkpoints(paused)[0], device="meta")
    assert {pipeline.model.device.type, pipeline.vae.device.type} == {"meta"}


def test_a_step_with_other_weights_is_scored_anew_and_anything_else_is_refused(paused, tmp_path, caplog):
    pipeline = load_checkpoint(checkpoints(paused)[-1])

    def score(**changes):
        jfeval.evaluate(pipeline, ["gqa"], **{"limit": 3, "step": 5, "sampler": SAMPLER, "out": tmp_path, **changes})
        return json.loads((tmp_path / "gqa-step00000005" / "run.json").read_text())["model_identity"]["weights"]

    first = score()
    assert score() == first
    assert not caplog.records
    with torch.no_grad():
        next(pipeline.model.parameters()).add_(0.01)
    assert score() != first
    assert "gqa-step00000005 was drawn with other weights" in caplog.text
    for change in ({"seed": 1}, {"sampler": {"num_steps": 3}}, {"name": "other"}):
        with pytest.raises(UserError, match=r"Move that folder away, or keep the runs elsewhere \(`out` of jfeval.evaluate"):
            score(**change)
    jfeval.evaluate(pipeline, ["gqa"], limit=3, out=tmp_path)
    with torch.no_grad():
        next(pipeline.model.parameters()).add_(0.01)
    with pytest.raises(UserError, match="Move that folder away"):  # outside a training nothing says that the old one is outdated
        jfeval.evaluate(pipeline, ["gqa"], limit=3, out=tmp_path)


@pytest.fixture
def begun(made, paused, tmp_path):
    """The recipe, and a copy of the training that `paused` stopped."""
    return made.parent / "recipe.yaml", shutil.copytree(paused.parent, tmp_path / "out")


def test_a_begun_stage_goes_on_under_changed_settings(begun, caplog):
    recipe, out = begun
    change = {"only": ["stage2"], "overrides": ["stage2.loop.steps=4", "stage2.loop.learning_rate=5e-4"]}
    with pytest.raises(UserError, match=r"stage2\.loop\.steps: 3 -> 4\); --force goes on from its last checkpoint"):
        train(recipe, out, **change)
    before = (out / "stage2" / "log.jsonl").read_text().splitlines()[:2]
    caplog.set_level("INFO")
    train(recipe, out, **change, force=True)
    assert "stage2.loop.learning_rate: 0.001 -> 0.0005" in caplog.text
    after = (out / "stage2" / "log.jsonl").read_text().splitlines()
    assert after[:2] == before
    assert [json.loads(line)["step"] for line in after] == [1, 2, 3, 4]
    assert json.loads(after[2])["rate"] < 5e-4
    noted = json.loads((out / "stage2" / "accepted.json").read_text())
    assert [each["checkpoint"] for each in noted] == ["step-00000002"]
    assert not (out / "stage2" / "checkpoints").exists()
    assert not list(out.glob("*.before-*"))
    caplog.clear()
    train(recipe, out, **change)
    assert "stage2: finished before, kept" in caplog.text


def test_a_finished_stage_goes_on_from_a_checkpoint_that_is_still_there_or_is_made_anew_beside_the_old(begun, tmp_path):
    recipe, out = begun
    kept = shutil.copytree(out / "stage2" / "checkpoints", tmp_path / "kept")
    train(recipe, out, only=["stage2"])
    shutil.copytree(kept, out / "stage2" / "checkpoints")
    train(recipe, out, only=["stage2"], overrides=["stage2.loop.steps=4"], force=True)
    assert len(json.loads((out / "stage2" / "accepted.json").read_text())) == 1
    for number in (1, 2):
        old = (out / "stage2" / "model.safetensors").read_bytes()
        train(recipe, out, only=["stage2"], overrides=[f"stage2.loop.steps={number}"], force=number == 1, anew=number == 2)
        assert (out / f"stage2.before-{number}" / "model.safetensors").read_bytes() == old
        assert not (out / "stage2" / "accepted.json").exists()
        assert json.loads((out / "stage2" / "done.json").read_text())["results"]["text_samples"] == 2 * number


def invoke_train(recipe, out, *args):
    from jfeval.cli_make import train as command

    return CliRunner().invoke(command, ["--recipe", str(recipe), "--out", str(out), "--only", "stage2", *args], catch_exceptions=False)


def test_a_stage_draws_its_learning_curve(begun):
    recipe, out = begun
    every, asked = "stage2.loop.evaluate_every=1", ["--benchmark", "pope", "--limit", "6", "--edition", "shapes-small"]
    with pytest.raises(UserError, match=r"stage2\.loop\.evaluate_every = 1, and nothing says on what: give --benchmark NAME"):
        invoke_train(recipe, out, every)
    with pytest.raises(UserError, match=r"none does: for example stage2\.loop\.evaluate_every=500"):
        invoke_train(recipe, out, *asked)
    with pytest.raises(UserError, match="--limit says how a --benchmark is asked"):
        invoke_train(recipe, out, "--limit", "3")
    with pytest.raises(UserError, match="did you mean 'shapes-small'"):
        invoke_train(recipe, out, *asked[:-1], "shapes-smal", every)
    assert "give one of them" in invoke_train(recipe, out, "--force", "--anew").output
    result = invoke_train(recipe, out, "--anew", *asked, every)
    assert result.exit_code == 0, result.output
    assert [run.name for run in sorted((out / "stage2" / "runs").iterdir())] == [f"pope-step0000000{step}" for step in (1, 2, 3)]
    record = json.loads((out / "stage2" / "runs" / "pope-step00000003" / "run.json").read_text())
    assert (record["edition"], record["limit"], record["model"]) == ("shapes-small", 6, "stage2")
    assert all("pope.pooled_f1" in json.loads(line) for line in (out / "stage2" / "log.jsonl").read_text().splitlines())
    assert (out / "stage2.before-1" / "checkpoints").is_dir()


def test_a_live_model_is_scored_in_anybodys_loop(paused, tmp_path, monkeypatch):
    pipeline = load_checkpoint(checkpoints(paused)[-1])
    draw = pipeline.draw
    pipeline.draw = lambda *args: [image.resize((64, 64)) for image in draw(*args)]  # the world's judge reads no smaller ones
    monkeypatch.setattr(JanusFlowPipeline, "image_size", 64)
    pipeline.model.train()
    parameter = next(pipeline.model.parameters())
    before = parameter.data_ptr()
    scores = []
    for step in (10, 20, 30):
        with torch.no_grad():
            parameter.add_(0.01)
        scores.append(jfeval.evaluate(pipeline, ["geneval"], limit=3, step=step, sampler=SAMPLER, out=tmp_path))
    assert all(0 <= s["geneval.overall"] <= 1 for s in scores)
    assert pipeline.model.training
    assert parameter.data_ptr() == before
    page = tmp_path / "report.html"
    from jfeval.reports.build import write_report
    from jfeval.store import Store

    write_report([Store(p) for p in sorted(tmp_path.glob("geneval-*"))], page)
    assert "against step" in page.read_text()  # one learning curve
    with pytest.raises(UserError, match="cannot evaluate a Linear"):
        jfeval.evaluate(torch.nn.Linear(1, 1), ["geneval"])


def test_the_console_line_and_tensorboard(monkeypatch, tmp_path):
    import sys
    from types import SimpleNamespace

    from jfeval.models.training import progress
    from jfeval.models.training.loop import LoopSettings
    from jfeval.models.training.progress import Size, display

    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append(("opened", folder, purge_step))

        def add_scalar(self, key, value, step):
            written.append((key, value, step))

        def add_image(self, key, pixels, step, dataformats):
            written.append((key, pixels.shape, step, dataformats))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    lines = []
    monkeypatch.setattr(progress.log, "info", lambda text, *args: lines.append(text % args))
    settings = LoopSettings(steps=4, learning_rate=1.0, log_seconds=0.0, tensorboard=True)
    with display("toy", settings, tmp_path / "log.jsonl", 2) as shown:
        shown.update(3, {"loss": 0.5, "rate": 0.1}, Size(8, 1000))
        shown.update(4, {"loss": 0.25, "rate": 0.1}, Size(8, 1000))
        Image.new("RGB", (6, 4)).save(tmp_path / "samples-00000004.png")
        shown.picture(4, tmp_path / "samples-00000004.png")
    assert ("samples", (4, 6, 3), 4, "HWC") in written
    assert lines[-1].startswith("toy 4/4  loss 0.25  samples/s ")
    assert all(word in lines[-1] for word in ("tokens/s", "memory GiB", "steps/s", "s left"))
    assert "MFU" not in "".join(lines)  # nothing was counted
    assert written[0] == ("opened", str(tmp_path / "tensorboard"), 3)
    assert ("loss", 0.25, 4) in written
    assert written[-1] == "closed"
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records[-1] == {"step": 4, "loss": 0.25, "rate": 0.1}  # no rate of time, so that resumed logs are the same bytes
    lines.clear()
    for peak in (0.0, 1e-3):
        counted = LoopSettings(steps=2, learning_rate=1.0, log_seconds=0.0, peak_tflops=peak)
        with display("toy", counted, tmp_path / "counted.jsonl", 0) as shown:
            shown.update(1, {"loss": 0.5}, Size(8, 1000, 1e6))
            shown.update(2, {"loss": 0.5}, Size(8, 1000, 1e6))
    unknown, _, _, *shares = lines
    assert unknown == "toy: MFU is not shown: the peak of a CPU is not known; give it as loop.peak_tflops"
    assert all("  MFU " in line and float(line.split("  MFU ")[1].split()[0]) > 0 for line in shares)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"jfeval\[tracking"), display("toy", settings, tmp_path / "log.jsonl", 4):
        pass
