"""`jfeval run` with ready images and answers in the place of a model: checked as `jfeval score` checks them."""

import json
import pickle

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.cli import main
from jfeval.cli_ready import ready_loader
from jfeval.registry import can


def run(*arguments):
    return CliRunner().invoke(main, ["run", *(str(one) for one in arguments), "--no-report"], catch_exceptions=False)


@pytest.fixture
def answers(registered, tmp_path):
    """Write answers to all 24 questions of the stub, or to those that are named."""

    def write(*ids):
        path = tmp_path / "answers.jsonl"
        names = ids or [f"q{i}" for i in range(24)]
        path.write_text("".join(json.dumps({"id": name, "prediction": "yes"}) + "\n" for name in names))
        return path

    return write


def test_answers_are_held_against_the_questions_before_anything_is_written(answers, tmp_path):
    words = ("--benchmark", "questions", "--out", tmp_path / "run")
    refused = run("--model", f"answers:{answers('q0', 'q1', 'other')}", *words)
    assert refused.exit_code == 2
    assert "too few: 22 of 24 questions have no answer, such as 'q2'" in refused.output
    assert "too many: 1 answers are to no question, such as 'other'" in refused.output
    assert not (tmp_path / "run").exists()
    done = run("--model", "answers", "--set", f"path={answers()}", *words)
    assert done.exit_code == 0, done.output
    assert "complete: 24 of 24" in done.stdout


def test_a_limited_run_needs_the_answers_that_it_asks(answers, tmp_path):
    path = answers()
    done = run("--model", f"answers:{path}", "--benchmark", "questions", "--limit", 6, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    with path.open("a") as file:
        file.write(json.dumps({"id": "other", "prediction": "yes"}) + "\n")
    refused = run("--model", f"answers:{path}", "--benchmark", "questions", "--limit", 6, "--out", tmp_path / "other")
    assert refused.exit_code == 2
    assert "too many: 1 answers are to no question, such as 'other'" in refused.output


def test_ready_images_can_be_sent_to_workers(stubs, tmp_path):
    (tmp_path / "00000" / "samples").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "00000" / "samples" / "0000.png")
    settings = stubs.settings_for(tmp_path / "run", model="folder", model_settings={"path": tmp_path})
    load = ready_loader(settings, stubs.Bright())
    assert pickle.loads(pickle.dumps(load))().identity() == load().identity()
    assert ready_loader(stubs.settings_for(tmp_path / "run"), stubs.Bright()) is None


def test_what_a_model_can_do_is_known_before_it_is_loaded():
    assert [can(model, "generate") for model in ("hf", "diffusers", "folder", "answers", "janusflow-shapes")] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert [can(model, "answer") for model in ("hf", "diffusers", "folder", "answers", "janusflow-shapes")] == [
        True,
        False,
        False,
        True,
        True,
    ]
