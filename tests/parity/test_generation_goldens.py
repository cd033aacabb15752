"""DPG-Bench, mPLUG and FID against the recordings of the original code, where those are at hand."""

import json
import shutil
from pathlib import Path

import pytest

from jfeval.benchmarks import dpg_goldens, dpg_mplug_goldens, fid_goldens, mask2former_goldens
from jfeval.verify import verify

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDENS, PROMPTS = SHARED / "goldens" / "generation", SHARED / "data" / "dpg" / "prompts"
SUITES = {suite.name: suite for suite in (*dpg_goldens.SUITES, *dpg_mplug_goldens.SUITES, *fid_goldens.SUITES, *mask2former_goldens.SUITES)}
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")


@pytest.mark.parametrize("name", SUITES)
def test_every_recorded_case_is_reproduced(name):
    (checked,) = verify(GOLDENS / name, [SUITES[name]])
    assert checked.ok, checked.line()
    assert checked.result.cases > 0


def spoil(source, folder, file, *path, change):
    """Copy a set and change one recorded value."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    record = json.loads((folder / file).read_text())
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = change(inner[path[-1]])
    (folder / file).write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("grid4_all", "overall"), lambda value: value + 1e-6),
        (("grid4_all", "L1", "global"), lambda value: value + 1e-6),
        (("single_image", "L2", "other - text"), lambda value: value + 1e-6),
        (("grid2_subset", "per_prompt", "96", "average"), lambda value: value + 1e-6),
        (("grid4_all", "failed"), lambda value: {**value, "96": "x"}),
        (("grid2_subset", "images"), lambda value: value[1:]),
    ],
)
def test_one_changed_number_of_dpg_fails(tmp_path, path, change):
    spoil(GOLDENS / "dpg", tmp_path, "expected.json", *path, change=change)
    (checked,) = verify(tmp_path, dpg_goldens.SUITES)
    assert not checked.ok
    assert path[0] in checked.result.note


@pytest.mark.parametrize(
    "path",
    [
        ("fid_kid", "d64_relu_n1000_n700", "pytorch_fid"),
        ("fid_kid", "d8_n50", "kid", "clean_fid_npseed123_subsets20_max100_float64_in"),
        ("inception_score", "n57_c20", "splits1_shuffle1", "inception_score_mean"),
    ],
)
def test_one_changed_number_of_fid_fails(tmp_path, path):
    spoil(GOLDENS / "fid", tmp_path, "expected.json", *path, change=lambda value: value + 3e-6 * max(1.0, abs(value)))
    (checked,) = verify(tmp_path, fid_goldens.SUITES)
    assert (checked.ok, checked.result.mismatches) == (False, 1)
    assert path[1] in checked.result.note


@pytest.mark.parametrize("change", [("weight_seed", lambda seed: seed + 1), ("questions", lambda texts: ["yes", *texts[1:]])])
def test_other_weights_or_questions_fail_for_mplug(tmp_path, change):
    spoil(GOLDENS / "mplug", tmp_path, "tiny.json", change[0], change=change[1])
    (checked,) = verify(tmp_path, dpg_mplug_goldens.SUITES)
    assert not checked.ok


def test_other_weights_fail_for_mask2former(tmp_path):
    spoil(GOLDENS / "mask2former", tmp_path, "meta.json", "weights_salt", change=lambda salt: salt + "x")
    (checked,) = verify(tmp_path, mask2former_goldens.SUITES)
    assert not checked.ok
    assert "backbone_last" in checked.result.note


@pytest.mark.skipif(not PROMPTS.is_dir(), reason="the official prompts are not beside this checkout (../shared/data/dpg)")
def test_the_official_prompt_files_are_read():
    from jfeval.benchmarks.dpg_rows import Item, read_prompts

    items = [Item(id=path.stem, prompt="", questions=()) for path in sorted(PROMPTS.glob("*.txt"))]
    prompts = [item.prompt for item in read_prompts(PROMPTS, items)]
    assert len(prompts) == 1065
    assert all(len(prompt) > 20 for prompt in prompts)
