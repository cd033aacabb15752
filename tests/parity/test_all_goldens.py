"""Every recorded set that is at hand, alone and under another name: as it is, and with one expected value altered."""

import shutil
from pathlib import Path

import pytest

from jfeval.models.janusflow import goldens as janusflow
from jfeval.verify import exit_status, known_suites, verify

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")

EXPECTED = {
    "geneval/cases": ("expected.jsonl", 3, "correct"),
    "geneval/summary": ("summary.json", "parsed", "total_prompts"),
    "geneval/pairs": ("pairs.jsonl", 3, "iou"),
    "geneval/crops": ("crops.npz", "crop0"),
    "geneval/clip_head": ("clip_head.npz", "logits"),
    "geneval/mask2former_post": ("mask2former_post.npz", "scores1"),
    "mask2former": ("forward.npz", "class_logits"),
    "dpg": ("expected.json", "grid4_all", "overall"),
    "mplug": ("tiny.npz", "fused_text1"),
    "fid": ("expected.json", "fid_kid", "d2048_n500", "pytorch_fid"),
    "understanding/gqa": ("gqa.jsonl", 3, "expected", "official_raw"),
    "understanding/pope": ("pope.jsonl", 3, "expected", "llava"),
    "understanding/seed": ("seed.jsonl", 3, "expected", "lmms_eval_hit"),
    "understanding/mmbench_options": ("mmbench_options.jsonl", 3, "expected", "vlmevalkit_head", "infer"),
    "understanding/mmbench_circular": ("mmbench_circular.jsonl", 3, "expected", "vlmevalkit_head", "row_hit_vanilla"),
    "understanding/prompts": ("prompts.jsonl", 3, "prompts", "lmms_eval"),
    "janusflow/tensors": ("*state_dict_shapes.json", "beg_of_und_embed", 0),
    "janusflow/generation": ("generation.safetensors", "velocities"),
    "janusflow/understanding": ("understanding.safetensors", "logits"),
    "janusflow/preprocessing": ("preprocessing.safetensors", "pixel_values_0"),
    "janusflow/prompts": ("prompts.json", 3, "prompt"),
}
"""By suite: a file, and where in it one expected value stands."""


def sets():
    folders = [GOLDENS, *sorted(folder for folder in GOLDENS.rglob("*") if folder.is_dir())]
    return [
        pytest.param(suite, folder, id=f"{suite.name} in {folder.name}")
        for folder in folders
        for suite in known_suites()
        if suite.recognise(folder)
    ]


@pytest.fixture(scope="module", autouse=True)
def _weights_drawn_once():
    """Draw the weights of a set that stores only their recipe once for all checks: they are many."""
    drawn, draw = {}, janusflow.recipe_weights

    def once(shapes, salt):
        key = salt, *((name, *shape) for name, shape in shapes.items())
        if key not in drawn:
            drawn.clear()
            drawn[key] = draw(shapes, salt)
        return drawn[key]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(janusflow, "recipe_weights", once)
        yield


def test_every_kind_of_set_is_at_hand():
    assert {param.values[0].name for param in sets()} == {suite.name for suite in known_suites()} == set(EXPECTED)


@pytest.mark.parametrize(("suite", "folder"), sets() if GOLDENS.is_dir() else ())
def test_a_set_alone_is_ok_and_with_one_altered_value_it_is_not(suite, folder, tmp_path, alter):
    copy = tmp_path / "another name"
    copy.mkdir()
    for file in folder.iterdir():
        if file.is_file() and file.name != "README.md":
            shutil.copyfile(file, copy / file.name)
    (checked,) = verify(copy, [suite])
    assert checked.ok, checked.line()
    assert checked.result.cases > 0
    pattern, *path = EXPECTED[suite.name]
    (file,) = copy.glob(pattern)
    alter(file, *path)
    (checked,) = verify(copy, [suite])
    assert checked.result.status == "FAIL"
    assert exit_status([checked]) == 1
    assert checked.result.note
    assert checked.line().split("FAIL")[0].startswith(suite.name)
