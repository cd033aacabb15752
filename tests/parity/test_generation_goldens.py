"""DPG-Bench, mPLUG and FID against the recordings of the original code, where those are at hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jfeval.benchmarks import dpg_goldens, dpg_mplug_goldens, fid_goldens, mask2former_goldens
from jfeval.verify import verify

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDENS, PROMPTS = SHARED / "goldens" / "generation", SHARED / "data" / "dpg" / "prompts"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")


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


@pytest.fixture
def few(tmp_path):
    """A set of FID of three small recorded cases, one of them where the widest stands."""
    recorded = json.loads((GOLDENS / "fid" / "expected.json").read_text())
    with np.load(GOLDENS / "fid" / "features_small.npz") as small, np.load(GOLDENS / "fid" / "logits.npz") as logits:
        np.savez(tmp_path / "features_small.npz", d8_n50__a=small["d8_n50__a"], d8_n50__b=small["d8_n50__b"])
        np.savez(tmp_path / "features_2048.npz", a=small["d64_shift__a"], b=small["d64_shift__b"])
        np.savez(tmp_path / "logits.npz", n57_c20=logits["n57_c20"])
    recorded["fid_kid"] = {name: recorded["fid_kid"][name] for name in ("d8_n50", "d64_shift")}
    recorded["inception_score"] = {"n57_c20": recorded["inception_score"]["n57_c20"]}
    (tmp_path / "expected.json").write_text(json.dumps(recorded))
    return tmp_path


def rename(folder, old, new):
    """Give a recorded field another name, wherever it stands, in the case of 50 features alone."""
    recorded = json.loads((folder / "expected.json").read_text())
    kid = recorded["fid_kid"]["d8_n50"]["kid"]
    kid[new] = kid.pop(old)
    (folder / "expected.json").write_text(json.dumps(recorded))


def test_fid_reads_its_parameters_from_the_names_of_fields(few):
    (checked,) = verify(few, fid_goldens.SUITES)
    assert checked.ok, checked.line()
    old = "clean_fid_npseed123_subsets20_max100_float64_in"
    for new, ok in (
        ("clean_fid_npseed123_subsets20_max70_float64_in", True),  # there are fewer features than either
        ("clean_fid_npseed123_subsets20_max40_float64_in", False),
        ("clean_fid_npseed123_subsets19_max100_float64_in", False),
        ("clean_fid_npseed124_subsets20_max100_float64_in", False),
        ("clean_fid_of_later", False),
    ):
        rename(few, old, new)
        (checked,) = verify(few, fid_goldens.SUITES)
        assert checked.ok is ok, checked.line()
        rename(few, new, old)


def test_features_of_no_recorded_name_fail_for_fid(few):
    recorded = json.loads((few / "expected.json").read_text())
    recorded["fid_kid"]["d65_shift"] = recorded["fid_kid"].pop("d64_shift")
    (few / "expected.json").write_text(json.dumps(recorded))
    (checked,) = verify(few, fid_goldens.SUITES)
    assert not checked.ok
    assert "feature sets" in checked.result.note


@pytest.mark.parametrize(
    ("new", "words", "ok"), [("101_140", 2, True), ("101_140_139", 3, False), ("102_140_138", 3, False), ("", 0, False)]
)
def test_mplug_reads_the_words_before_the_logits_from_the_name(tmp_path, new, words, ok):
    shutil.copyfile(GOLDENS / "mplug" / "tiny.json", tmp_path / "tiny.json")
    with np.load(GOLDENS / "mplug" / "tiny.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    logits = arrays.pop("decoder_logits_101_140_138_1")
    np.savez(tmp_path / "tiny.npz", **arrays, **({f"decoder_logits_{new}_1": logits[:, :words]} if new else {}))
    (checked,) = verify(tmp_path, dpg_mplug_goldens.SUITES)
    assert checked.ok is ok, checked.line()
    assert ok or "decoder" in checked.result.note


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
