import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from jfeval.benchmarks.geneval_goldens import SUITES as GENEVAL
from jfeval.benchmarks.goldens import SUITES as BENCHMARKS
from jfeval.cli import main
from jfeval.golden import GoldenResult, GoldenSuite, has_any
from jfeval.verify import HEADER, CheckedSet, exit_status, known_suites, verify

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens"
SOURCE = GOLDENS / "generation" / "geneval"
needs_goldens = pytest.mark.skipif(not SOURCE.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")

FILES = {
    "geneval/cases": ("cases.jsonl", "expected.jsonl"),
    "geneval/summary": ("cases.jsonl", "summary.json"),
    "geneval/pairs": ("pairs.jsonl",),
    "geneval/crops": ("crops.json", "crops.npz"),
    "geneval/clip_head": ("clip_head.npz",),
    "geneval/mask2former_post": ("mask2former_post.npz",),
}
PAIR = {"a": [0, 0, 10, 10], "b": [30, 0, 40, 10], "relations": ["left of"], "iou": 0.0}


def suite_named(name):
    return next(suite for suite in GENEVAL if suite.name == name)


def one(folder, name):
    (checked,) = verify(folder, [suite_named(name)])
    return checked


def copy_set(name, folder):
    folder.mkdir()
    for file in FILES[name]:
        shutil.copyfile(SOURCE / file, folder / file)
    return folder


def jsonl(path, change):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def npz(path, change):
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)


def set_record(index, field, value):
    """Change one field of one line; a function is given the old value."""

    def change(folder):
        name = "expected.jsonl" if (folder / "expected.jsonl").exists() else "pairs.jsonl"

        def put(rows):
            row = next(row for row in rows if row["kept"]) if index == "kept" else rows[index]
            row[field] = value(row[field]) if callable(value) else value

        jsonl(folder / name, put)

    return change


def set_summary(*path, value):
    def change(folder):
        data = json.loads((folder / "summary.json").read_text())
        node = data
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value(node[path[-1]])
        (folder / "summary.json").write_text(json.dumps(data))

    return change


def set_array(file, name, value):
    """Change the first element of an array."""

    def change(folder):
        def put(arrays):
            first = (0,) * arrays[name].ndim
            arrays[name] = arrays[name].copy()
            arrays[name][first] = value(arrays[name][first])

        npz(folder / file, put)

    return change


def set_crop_size(folder):
    data = json.loads((folder / "crops.json").read_text())
    data[-1]["crop_size"][0] += 1
    (folder / "crops.json").write_text(json.dumps(data))


def worse_score(kept):
    name = next(iter(kept))
    return {**kept, name: [[*kept[name][0][:4], kept[name][0][4] + 1e-6], *kept[name][1:]]}


def not_a_number(_):
    return float("nan")


ALTERED = {
    "correct": ("geneval/cases", set_record(5, "correct", lambda v: not v)),
    "reason": ("geneval/cases", set_record(5, "reason", lambda v: v + " of them")),
    "reason_canonical": ("geneval/cases", set_record(5, "reason_canonical", lambda v: v + " of them")),
    "tie_sensitive": ("geneval/cases", set_record(5, "tie_sensitive", lambda v: not v)),
    "kept score": ("geneval/cases", set_record("kept", "kept", worse_score)),
    "kept class": ("geneval/cases", set_record(5, "kept", lambda v: {**v, "unicorn": [[0, 0, 1, 1, 0.9]]})),
    "id": ("geneval/cases", set_record(5, "id", "99999/99999")),
    "unknown field": ("geneval/cases", lambda folder: jsonl(folder / "expected.jsonl", lambda rows: rows[0].update(extra=1))),
    "lost line": ("geneval/cases", lambda folder: jsonl(folder / "expected.jsonl", lambda rows: rows.pop())),
    "summary stdout": ("geneval/summary", set_summary("stdout", value=lambda v: v.replace("Total images: ", "Total images: 1"))),
    "summary total": ("geneval/summary", set_summary("parsed", "total_prompts", value=lambda v: v + 1)),
    "summary prompts": ("geneval/summary", set_summary("parsed", "correct_prompts", value=lambda v: v + 1e-6)),
    "summary task": ("geneval/summary", set_summary("parsed", "tasks", "counting", "n", value=lambda v: v + 1)),
    "summary overall": ("geneval/summary", set_summary("parsed", "overall", value=not_a_number)),
    "relations": ("geneval/pairs", set_record(0, "relations", lambda v: ["above"] if v != ["above"] else [])),
    "iou": ("geneval/pairs", set_record(0, "iou", lambda v: v + 1e-4)),
    "iou nan": ("geneval/pairs", set_record(0, "iou", not_a_number)),
    "crop pixel": ("geneval/crops", set_array("crops.npz", "crop0", lambda v: v ^ 1)),
    "crop size": ("geneval/crops", set_crop_size),
    "classifier": ("geneval/clip_head", set_array("clip_head.npz", "classifier", lambda v: v + 1e-3)),
    "logits": ("geneval/clip_head", set_array("clip_head.npz", "logits", lambda v: v + 1e-2)),
    "logits nan": ("geneval/clip_head", set_array("clip_head.npz", "logits", not_a_number)),
    "pred": ("geneval/clip_head", set_array("clip_head.npz", "pred", lambda v: "red" if v != "red" else "pink")),
    "scores": ("geneval/mask2former_post", set_array("mask2former_post.npz", "scores1", lambda v: v + 1e-3)),
    "scores nan": ("geneval/mask2former_post", set_array("mask2former_post.npz", "scores0", not_a_number)),
    "labels": ("geneval/mask2former_post", set_array("mask2former_post.npz", "labels2", lambda v: (v + 1) % 80)),
    "boxes": ("geneval/mask2former_post", set_array("mask2former_post.npz", "boxes0", lambda v: v + 1)),
    "boxes nan": ("geneval/mask2former_post", set_array("mask2former_post.npz", "boxes0", not_a_number)),
    "masks": ("geneval/mask2former_post", set_array("mask2former_post.npz", "masks0", lambda v: not v)),
}


@needs_goldens
@pytest.mark.parametrize("name", FILES)
def test_each_set_alone_is_ok_and_fails_without_each_of_its_files(name, tmp_path):
    folder = copy_set(name, tmp_path / "renamed")
    assert one(folder, name).ok
    if name == "geneval/summary":  # its cases serve two sets; without them, and without the summary, nothing is left to compare
        (folder / "cases.jsonl").unlink()
        assert not one(folder, name).ok
        return
    for file in FILES[name] if len(FILES[name]) > 1 else ():
        (folder / file).rename(tmp_path / file)
        checked = one(folder, name)
        assert not checked.ok
        assert f"{file} is missing" in checked.line()
        (tmp_path / file).rename(folder / file)


@needs_goldens
@pytest.mark.parametrize("what", ALTERED)
def test_one_altered_value_fails(what, tmp_path):
    name, change = ALTERED[what]
    folder = copy_set(name, tmp_path / "set")
    change(folder)
    checked = one(folder, name)
    assert checked.result.status == "FAIL"
    assert checked.result.mismatches > 0
    assert checked.result.note


@needs_goldens
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "empty", "noise"])
def test_a_damaged_file_fails_in_one_line(name, damage, tmp_path):
    folder = copy_set(name, tmp_path / "set")
    for file in folder.iterdir():
        data = file.read_bytes()
        file.write_bytes({"truncated": data[: len(data) * 2 // 3], "empty": b"", "noise": bytes(range(256)) * 20}[damage])
        checked = one(folder, name)
        assert checked.result.status == "FAIL"
        assert checked.result.note
        assert "\n" not in checked.line()
        file.write_bytes(data)


@needs_goldens
def test_a_copied_and_renamed_tree_gives_the_same(tmp_path):
    original = [(c.suite, c.result) for c in verify(SOURCE, BENCHMARKS)]
    (tmp_path / "some").mkdir()
    shutil.copytree(SOURCE, tmp_path / "some" / "thing else", ignore=shutil.ignore_patterns("README.md"))
    assert [(c.suite, c.result) for c in verify(tmp_path, BENCHMARKS)] == original
    assert exit_status(verify(tmp_path, BENCHMARKS)) == 0


@needs_goldens
def test_every_recorded_family_is_recognised():
    recognised = {
        folder for suite in known_suites() for folder in [GOLDENS, *GOLDENS.rglob("*")] if folder.is_dir() and suite.recognise(folder)
    }
    with_data = {file.parent for file in GOLDENS.rglob("*") if file.is_file() and file.name != "README.md"}
    assert recognised == with_data


@pytest.fixture
def pairs(tmp_path):
    folder = tmp_path / "any name"
    folder.mkdir()
    (folder / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    return folder


def test_the_command_prints_one_line_per_set_and_exits_0(pairs):
    result = CliRunner().invoke(main, ["verify", "--goldens", str(pairs)])
    assert result.exit_code == 0, result.output
    header, line = result.output.splitlines()
    assert header == HEADER
    assert line.split() == ["geneval/pairs", "1", "0.00e+00", "ok"]


def test_the_command_exits_1_when_one_set_fails(pairs):
    (pairs / "pairs.jsonl").write_text(json.dumps({**PAIR, "relations": []}) + "\n")
    result = CliRunner().invoke(main, ["verify", "--goldens", str(pairs)])
    assert result.exit_code == 1
    line = result.output.splitlines()[1]
    assert line.split()[:6] == ["geneval/pairs", "1", "0.00e+00,", "1", "mismatch", "FAIL"]
    assert "pair 1, relations: expected [], found ['left of']" in line


def test_a_folder_without_any_set_fails(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    result = CliRunner().invoke(main, ["verify", "--goldens", str(tmp_path)])
    assert result.exit_code == 1
    assert "FAIL" in result.output
    assert "no golden set here or below" in result.output


def test_no_cases_fail(pairs):
    (pairs / "pairs.jsonl").write_text("")
    assert one(pairs, "geneval/pairs").result.status == "FAIL"
    (pairs / "pairs.jsonl").unlink()
    np.savez(pairs / "mask2former_post.npz")
    checked = one(pairs, "geneval/mask2former_post")
    assert (checked.result.cases, checked.result.status) == (0, "FAIL")


@pytest.mark.parametrize("file", ["gqa.jsonl", "answers.json", "tiny.npz", "features_small.npz", "forward.npz", "pope.aggregate.json"])
def test_a_set_of_an_empty_file_is_recognised_and_fails(tmp_path, file):
    (tmp_path / file).write_text("")
    checked = list(verify(tmp_path, BENCHMARKS))
    assert [one.ok for one in checked] == [False]
    assert exit_status(checked) == 1


def test_sets_of_later_versions_are_listed_and_fail(tmp_path):
    (tmp_path / "later.json").write_text("")
    later = GoldenSuite(name="later", recognise=has_any("later.json"), check=lambda _: GoldenResult(cases=0, implemented=False))
    checked = list(verify(tmp_path, [later]))
    assert [one.result.status for one in checked] == ["not implemented"]
    assert "not implemented" in checked[0].line()
    assert exit_status(checked) == 1


def test_one_broken_set_does_not_end_the_others(pairs):
    def broken(folder):
        raise KeyError("velocities")

    suites = [GoldenSuite(name="broken", recognise=has_any("pairs.jsonl"), check=broken), suite_named("geneval/pairs")]
    first, second = verify(pairs, suites)
    assert first.result.status == "FAIL"
    assert "KeyError: 'velocities'" in first.line()
    assert second.ok


def test_a_set_below_the_root_is_shown_with_its_place(pairs):
    (checked,) = verify(pairs.parent, [suite_named("geneval/pairs")])
    assert checked.line().startswith("geneval/pairs@any name ")
    assert checked.line().endswith(" ok")


def test_a_line_ends_with_ok_whatever_it_shows_aside_and_with_the_note_of_a_failure():
    result = GoldenResult(cases=2, mismatches=0, note="no matter", aside="3 more\ndiffer")
    good = CheckedSet(suite="x", folder=Path("a/b"), root=Path("a"), result=result)
    assert good.line().split() == ["x@b", "2", "0", "mismatches", "(3", "more", "differ)", "ok"]
    bad = CheckedSet(suite="y" * 60, folder=Path("a"), root=Path("a"), result=GoldenResult(cases=2, mismatches=1, note="row 1"))
    assert bad.line().split() == ["y" * 60, "2", "1", "mismatch", "FAIL", "row", "1"]


def test_links_are_followed_once(pairs):
    (pairs / "loop").symlink_to(pairs, target_is_directory=True)
    outside = pairs.parent / "linked"
    outside.mkdir()
    (outside / "set").symlink_to(pairs, target_is_directory=True)
    assert len(list(verify(outside, [suite_named("geneval/pairs")]))) == 1


def test_exit_status_of_nothing_is_1():
    assert exit_status([]) == 1
    good = CheckedSet(suite="x", folder=Path(), result=GoldenResult(cases=1))
    bad = CheckedSet(suite="x", folder=Path(), result=GoldenResult(cases=0))
    assert exit_status([good]) == 0
    assert exit_status([good, bad]) == 1
