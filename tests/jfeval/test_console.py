import json
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval import console, provenance
from jfeval.executors.local import Here


@given(st.text())
def test_clean_text_drives_no_terminal(text):
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", console.clean(text)) is None
    assert len(console.clean(text)) == len(text)


def test_progress_outside_a_terminal_is_plain_lines_with_rate_and_time_left(capsys, monkeypatch):
    now = iter([0.0, 11.0, 11.0, 12.0, 20.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.Progress("draw", total=100, done=10) as progress:
        progress.advance(22)
        progress.advance(8)
        progress.advance(60)
    assert capsys.readouterr().err == "draw 32/100, 2.0/s, 34 s left\ndraw 100/100, 4.5/s\n"


def test_progress_with_nothing_to_do_says_nothing(capsys):
    with console.Progress("draw", total=5, done=5):
        pass
    assert capsys.readouterr().err == ""


def test_a_process_beside_others_labels_whole_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # put back afterwards
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    console.label_lines("A")
    console.label_lines("B")  # another label takes the first one's place
    print("one\ntw", end="", file=sys.stderr)
    assert capsys.readouterr().err == "B  one\n"
    print("o", file=sys.stderr)
    logging.getLogger("jfeval").info("three")
    assert capsys.readouterr().err == "B  two\nB  INFO three\n"
    assert not sys.stderr.isatty()


def test_work_is_done_lazily_so_that_each_result_is_stored_before_the_next():
    done = []
    results = Here(2).each(lambda state, item: done.append(item) or item * state, [1, 2, 3], None)
    assert next(results) == (1, 2)
    assert done == [1]


def test_provenance_names_versions_and_hardware():
    facts = provenance.collect()
    assert facts["packages"]["numpy"]
    assert facts["hardware"]["cores"] >= 1
    assert facts["peak_memory_bytes"] > 10_000_000


def test_git_state_is_of_the_checkout_or_empty(tmp_path, monkeypatch):
    assert provenance.git_state(tmp_path) == {}
    monkeypatch.setattr(provenance.shutil, "which", lambda name: None)
    assert provenance.git_state(tmp_path) == {}


def test_results_that_were_appended_to_do_not_change_the_code(tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True, capture_output=True)

    code, other = tmp_path / "jfeval", tmp_path / "models"
    for folder, names in ((code, ("__init__.py",)), (other, ("model.py", "shapes-results.csv"))):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("one\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "First")
    assert not provenance.git_state(code)["dirty"]
    (other / "shapes-results.csv").write_text("one\ntwo\n")
    assert not provenance.git_state(code)["dirty"]
    (other / "model.py").write_text("two\n")
    assert provenance.git_state(code)["dirty"]


def test_an_installed_wheel_tells_the_commit_that_it_was_built_from(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.jfeval, "__file__", str(tmp_path / "__init__.py"))
    assert provenance.code_state() == {}
    told = {"commit": "19c8e95b" * 5, "branch": "main", "dirty": False}
    (tmp_path / provenance.BUILT_FROM).write_text(json.dumps(told))
    assert provenance.code_state() == provenance.collect()["git"] == told
    (tmp_path / provenance.BUILT_FROM).write_text("{")
    assert provenance.code_state() == {}


@pytest.mark.parametrize("secret", ["HF_TOKEN", "OPENAI_API_KEY"])
def test_no_secret_of_the_environment_enters_a_run_folder(stubs, tmp_path, monkeypatch, secret):
    monkeypatch.setenv(secret, "sk-very-secret-value")
    stubs.run_and_score(tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"sk-very-secret-value" not in path.read_bytes()
