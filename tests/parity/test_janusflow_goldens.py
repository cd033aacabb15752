import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from jfeval.models.janusflow.goldens import SUITES, read_recording
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.questions import ImageTable
from jfeval.verify import verify

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "janusflow"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no recorded goldens at {GOLDENS}")


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


@pytest.mark.parametrize(
    ("suite", "file", "field"),
    [
        ("generation", "generation.safetensors", "trajectory"),
        *(("understanding", "understanding.safetensors", f) for f in ("pixel_values", "und_features", "inputs_embeds", "greedy_tokens")),
        ("preprocessing", "preprocessing.safetensors", "pixel_values_2"),
        ("preprocessing", "preprocessing.safetensors", "image_2"),
    ],
)
def test_a_missing_field_and_an_unknown_one_fail(copied, suite, file, field):
    header, tensors = read_recording(copied / file)
    save_file({name: tensor for name, tensor in tensors.items() if name != field}, copied / file, metadata=header)
    (checked,) = verify(copied, [suite_named(suite)])
    assert checked.result.status == "FAIL"
    assert field in checked.result.note
    save_file({**tensors, f"{field}_of_later": tensors[field].clone()}, copied / file, metadata=header)
    (checked,) = verify(copied, [suite_named(suite)])
    assert checked.result.status == "FAIL"
    assert f"{field[-2:]}_of_later" in checked.result.note  # of a pair, the one that is missing may be named


def test_a_missing_and_an_unknown_field_of_a_prompt_fail(copied):
    rows = json.loads((copied / "prompts.json").read_text(encoding="utf-8"))
    (copied / "prompts.json").write_text(json.dumps([{**rows[0], "later": 1}, *rows[1:]]), encoding="utf-8")
    assert (suite_named("prompts").check(copied).status, suite_named("prompts").check(copied).mismatches) == ("FAIL", 1)
    del rows[1]["system"]
    (copied / "prompts.json").write_text(json.dumps(rows), encoding="utf-8")
    (checked,) = verify(copied, [suite_named("prompts")])
    assert not checked.ok


def test_images_are_read_as_runs_read_them_and_not_as_training_does(copied, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("training embeds conversations by this")

    monkeypatch.setattr(JanusFlow, "embed_conversation", refuse)
    assert suite_named("understanding").check(copied).status == "ok"
    table = ImageTable.table
    monkeypatch.setattr(ImageTable, "table", lambda self: table(self) * 1.01)
    assert suite_named("understanding").check(copied).status == "FAIL"


def test_guidance_one_is_recorded_and_checked_too(copied):
    header, tensors = read_recording(copied / "generation.safetensors")
    save_file(tensors, copied / "generation.safetensors", metadata={**header, "cfg_weight": "1.0"})
    result = suite_named("generation").check(copied)
    assert result.status == "FAIL"  # the recorded trajectory was guided
    assert result.worst is not None
    assert result.worst < 10
