"""One stage trained by two processes, really started by torchrun, is the stage trained by one."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.training.loop import LoopSettings, PausedError
from jfeval.models.training.making import train
from jfeval.models.training.ranks import Ranks
from jfeval.models.training.snapshots import checkpoints, export_checkpoint

BATCHES = ["stage2.loop.accumulate=2", "stage2.mixture.generation=2", "stage2.mixture.understanding=1", "stage2.mixture.text=1"]
KEEP = ["stage2.loop.keep_checkpoints=9", "stage2.loop.checkpoint_minutes=0"]
PAUSE = "stage2.loop.time_limit_minutes=1e-9"


def torchrun(recipe, out, *overrides, only="stage2", earlier=(), processes=2):
    """Train with processes of torchrun, parts ``earlier`` too; return their exit status and what they wrote on both streams."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "jfeval", "train"]
    command += ["--recipe", str(recipe), "--out", str(out)]
    command += [word for part in (*earlier, only) for word in ("--only", part)] + list(overrides)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300", "HF_DATASETS_CACHE": str(out.parent / "datasets")}
    done = subprocess.run(command, cwd=out.parent, env=environment, capture_output=True, text=True, timeout=540)
    return done.returncode, done.stdout + done.stderr


def curve(out, stage="stage2"):
    return [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]


def assert_same_curve(one, other):
    assert [record.keys() for record in one] == [record.keys() for record in other]
    for a, b in zip(one, other, strict=True):
        assert b == pytest.approx(a, rel=2e-4, abs=1e-6)


def assert_close(one, other):
    """Two trainings differ by little of what they learned; muon orthogonalises in bfloat16, so by its rounding."""
    start, a, b = (weights(folder) for folder in (one.parent / "stage1", one, other))
    assert (a - b).norm() < 0.02 * (a - start).norm()


def weights(folder):
    model = JanusFlow.from_pretrained(folder)
    return torch.cat([value.flatten() for _, value in sorted(model.state_dict().items())])


@pytest.fixture(scope="module")
def recipe(made):
    return made.parent / "recipe.yaml"


@pytest.fixture(scope="module")
def begun(made, tmp_path_factory):
    """Make a folder with every part before the second stage."""

    def begin():
        out = tmp_path_factory.mktemp("begun") / "out"
        shutil.copytree(made, out, ignore=shutil.ignore_patterns("stage2", "export"))
        return out

    return begin


@pytest.fixture(scope="module")
def alone(recipe, begun):
    out = begun()
    train(recipe, out, only=["stage2"], overrides=BATCHES)
    return out


@pytest.fixture(scope="module")
def two(recipe, begun):
    out = begun()
    code, said = torchrun(recipe, out, *BATCHES, *KEEP)
    assert code == 0, said
    return out, said


def test_two_processes_learn_what_one_learns(alone, two):
    out, said = two
    assert_same_curve(curve(alone), curve(out))
    assert_close(alone / "stage2", out / "stage2")
    one, other = (load_file(folder / "stage2" / "alignment_head.safetensors") for folder in (alone, out))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=2e-4)
    results = [json.loads((folder / "stage2" / "done.json").read_text())["results"] for folder in (alone, out)]
    assert {k: v for k, v in results[1].items() if k.endswith("samples") or k == "parameters"} == {
        k: v for k, v in results[0].items() if k.endswith("samples") or k == "parameters"
    }
    assert said.count("stage2 finished") == 1  # one process speaks
    assert said.splitlines().count(str(out)) == 1
    assert (out / "stage2" / "samples.png").is_file()


def test_a_checkpoint_goes_on_with_another_number_of_processes(recipe, begun, alone, tmp_path):
    out = begun()
    with pytest.raises(PausedError):
        train(recipe, out, only=["stage2"], overrides=[*BATCHES, *KEEP, PAUSE])
    code, said = torchrun(recipe, out, *BATCHES, *KEEP, PAUSE)
    assert code != 0
    assert "stopped after 2 of 3 steps" in said
    found = checkpoints(out / "stage2")
    assert [folder.name for folder in found] == ["step-00000001", "step-00000002"]
    shapes = [{n: (t.shape, t.dtype) for n, t in load_file(folder / "model.safetensors").items()} for folder in found]
    assert shapes[0] == shapes[1]  # whoever wrote it
    drawing = JanusFlowPipeline.from_pretrained(export_checkpoint(found[-1], tmp_path / "model"))
    assert drawing.model.config == JanusFlow.from_pretrained(alone / "stage2").config
    train(recipe, out, only=["stage2"], overrides=[*BATCHES, *KEEP])
    assert_same_curve(curve(alone), curve(out))
    assert_close(alone / "stage2", out / "stage2")


def test_processes_whose_batches_hold_different_kinds_learn_what_one_learns(made, tiny, tmp_path):
    """Every second batch has pictures to draw only, and one process gets all of these: it uses no vocabulary and reads no image."""
    phases = [{"understanding": 0.125, "generation": 0.75, "text": 0.125}]
    recipe = tiny.write_sources_recipe(tmp_path, made, {"batch_size": 4, "phases": phases}, {"steps": 2, "accumulate": 4})
    train(recipe, tmp_path / "one")
    code, said = torchrun(recipe, tmp_path / "two", only="stage1", earlier=("data", "vae", "tokenizer", "lm", "contrastive"))
    assert code == 0, said
    assert_same_curve(curve(tmp_path / "one", "stage1"), curve(tmp_path / "two", "stage1"))
    train(recipe, tmp_path / "large", overrides=["stage1.mixture.batch_size=16", "stage1.loop.accumulate=1"])  # all of an update at once
    assert_same_curve(curve(tmp_path / "one", "stage1"), curve(tmp_path / "large", "stage1"))
    a, b, c = (weights(tmp_path / each / "stage1") for each in ("one", "two", "large"))
    assert (a - b).norm() < 4e-4 * a.norm()
    assert (a - c).norm() < 4e-4 * a.norm()


def test_batches_that_cannot_be_dealt_out_are_refused(recipe, begun):
    code, said = torchrun(recipe, begun())
    assert code != 0
    assert "stage2: 1 batches per update cannot be dealt out to 2 processes" in said


def test_devices_of_processes():
    assert Ranks().device("cpu") == "cpu"
    assert Ranks(rank=1, size=2, local_rank=1, local_size=2).device("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert Ranks().device("auto") == "cpu"
        with pytest.raises(UserError, match="torch sees none here"):
            Ranks().device("cuda")
    with pytest.raises(UserError, match="peak_tflops"):
        LoopSettings(steps=1, learning_rate=1.0, peak_tflops=-1.0)
