import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from jfeval.models.janusflow.goldens import SUITES, read_recording

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "janusflow"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no recorded goldens at {GOLDENS}")


def sets():
    folders = [GOLDENS, *sorted(p for p in GOLDENS.rglob("*") if p.is_dir())] if GOLDENS.is_dir() else []
    return [(folder, suite) for folder in folders for suite in SUITES if suite.recognise(folder)]


def test_sets_are_found():
    assert {suite.name for _, suite in sets()} == {suite.name for suite in SUITES}


@pytest.mark.parametrize(("folder", "suite"), sets(), ids=lambda value: getattr(value, "name", str(value)))
def test_recorded_set(folder, suite):
    result = suite.check(folder)
    assert result.status == "ok", result


def suite_named(name):
    return next(suite for suite in SUITES if suite.name == f"janusflow/{name}")


def change_tensor(path, field, change):
    header, tensors = read_recording(path)
    change(tensors[field])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=header)


def bump(tensor):
    """Change one value by a little more than any tolerance."""
    flat = tensor.view(-1)
    flat[flat.numel() // 2] += 1 if not tensor.is_floating_point() else 1e-3


def not_a_number(tensor):
    tensor.view(-1)[0] = float("nan")


@pytest.fixture
def copied(tmp_path):
    """One set under another name, away from its README and its siblings."""
    folder = tmp_path / "renamed"
    folder.mkdir()
    for file in (GOLDENS / "tiny").iterdir():
        if file.suffix in {".json", ".safetensors"}:
            shutil.copyfile(file, folder / file.name)
    return folder


def test_every_suite_passes_on_a_renamed_copy(copied):
    assert {suite.name: suite.check(copied).status for suite in SUITES if suite.recognise(copied)} == {suite.name: "ok" for suite in SUITES}


@pytest.mark.parametrize("change", [bump, not_a_number])
@pytest.mark.parametrize(
    ("suite", "file", "field"),
    [
        ("generation", "generation.safetensors", "velocities"),
        ("generation", "generation.safetensors", "trajectory"),
        ("understanding", "understanding.safetensors", "und_features"),
        ("understanding", "understanding.safetensors", "inputs_embeds"),
        ("understanding", "understanding.safetensors", "logits"),
        ("preprocessing", "preprocessing.safetensors", "pixel_values_2"),
    ],
)
def test_one_altered_number_fails(copied, suite, file, field, change):
    change_tensor(copied / file, field, change)
    assert suite_named(suite).check(copied).status == "FAIL"


def test_one_altered_token_fails(copied):
    change_tensor(copied / "understanding.safetensors", "greedy_tokens", bump)
    result = suite_named("understanding").check(copied)
    assert (result.status, result.mismatches) == ("FAIL", 1)


def test_one_altered_prompt_fails(copied):
    rows = json.loads((copied / "prompts.json").read_text(encoding="utf-8"))
    rows[1]["prompt"] += " "
    (copied / "prompts.json").write_text(json.dumps(rows), encoding="utf-8")
    result = suite_named("prompts").check(copied)
    assert (result.status, result.mismatches, result.cases) == ("FAIL", 1, len(rows))


def test_one_altered_shape_and_one_missing_name_fail(copied):
    shapes = json.loads((copied / "state_dict_shapes.json").read_text(encoding="utf-8"))
    shapes["beg_of_und_embed"][1] += 1
    del shapes["language_model.lm_head.weight"]
    (copied / "state_dict_shapes.json").write_text(json.dumps(shapes), encoding="utf-8")
    result = suite_named("tensors").check(copied)
    assert (result.status, result.mismatches) == ("FAIL", 2)


def test_guidance_one_is_recorded_and_checked_too(copied):
    header, tensors = read_recording(copied / "generation.safetensors")
    save_file(tensors, copied / "generation.safetensors", metadata={**header, "cfg_weight": "1.0"})
    result = suite_named("generation").check(copied)
    assert result.status == "FAIL"  # the recorded trajectory was guided
    assert result.worst is not None
    assert result.worst < 10
