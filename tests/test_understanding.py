"""Benchmarks of understanding through the command line: questions out, answers in, scored under every protocol."""

import json
import subprocess
import sys

import pytest

from jfeval.benchmarks.pope import Pope


def jfeval(*arguments, cwd, check=True):
    command = [sys.executable, "-m", "jfeval", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answer every question of POPE (shapes) truly, one in four of them in a way that scorers read differently."""
    path = tmp_path_factory.mktemp("answers") / "mine.jsonl"
    words = {"yes": ("Yes", "Yes."), "no": ("No", "There is none.")}
    rows = [{"id": sample.id, "prediction": words[sample.task][i % 4 == 0]} for i, sample in enumerate(Pope().samples("shapes", seed=0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_ready_answers_are_scored_under_every_protocol(answers):
    place = answers.parent
    ours = ("--benchmark", "pope", "--edition", "shapes")
    scored = jfeval("score", "--answers", answers, *ours, "--out", "run", "--protocol", "vlmevalkit-head", cwd=place).stdout
    assert "pope (shapes), model mine (answers), seed 0, protocol vlmevalkit-head" in scored
    assert "complete: " in scored
    assert (place / scored.strip().splitlines()[-1]).is_file()
    again = jfeval("score", "run", "--protocol", "all", "--no-report", cwd=place).stdout
    header, *lines = again.splitlines()
    assert header.split() == ["protocols", *Pope.protocols, "spread"]
    accuracy = next(line.split()[1:] for line in lines if line.split()[0] == "accuracy/random")
    by_name = dict(zip([*Pope.protocols, "spread"], map(float, accuracy), strict=True))
    assert by_name["llava"] == by_name["official"] > by_name["lmms-eval"]
    assert by_name["spread"] == pytest.approx(by_name["llava"] - by_name["lmms-eval"], abs=0.0011)
    assert "protocol vlmevalkit-head" in again  # the run keeps its own


def test_answers_that_do_not_fit_are_refused_before_anything_is_written(answers):
    place = answers.parent
    lines = answers.read_text().splitlines(keepends=True)
    for text, message in (
        ("".join(lines[1:]), "too few: 1 of"),
        ("".join(lines) + '{"id": "random-9999", "prediction": "no"}\n', "too many: 1 answers"),
        ("".join(lines) + lines[0], "answered twice"),
    ):
        (place / "bad.jsonl").write_text(text)
        arguments = ("score", "--answers", "bad.jsonl", "--benchmark", "pope", "--edition", "shapes", "--out", "refused")
        refused = jfeval(*arguments, cwd=place, check=False)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
        assert not (place / "refused").exists()


def test_questions_are_written_with_their_ids_and_images(tmp_path):
    jfeval("data", "prompts", "--benchmark", "pope", "--edition", "shapes", "--out", "mine", cwd=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "mine" / "questions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [sample.id for sample in Pope().samples("shapes", seed=0)]
    assert len(list((tmp_path / "mine" / "images").iterdir())) == 75
    assert all((tmp_path / "mine" / "images" / row["images"][0]).is_file() for row in rows)
    assert rows[0]["question"].startswith("Is there a")


def test_the_prompt_protocol_is_part_of_the_run(tmp_path):
    plan = ("run", "--benchmark", "gqa", "--edition", "shapes", "--dry-run")
    assert "prompt: ''" in jfeval(*plan, cwd=tmp_path).stdout
    changed = jfeval(*plan, "--set-benchmark", "prompt=llava", cwd=tmp_path).stdout
    assert "prompt: llava" in changed
    assert changed.splitlines()[-1] != jfeval(*plan, cwd=tmp_path).stdout.splitlines()[-1]
    refused = jfeval(*plan, "--set-benchmark", "prompt=lava", cwd=tmp_path, check=False)
    assert refused.returncode == 2
    assert "did you mean 'llava'" in refused.stderr
    described = jfeval("describe", "gqa", cwd=tmp_path).stdout
    assert "protocols: llava, official" in described
    assert "any_size" in described


@pytest.mark.parametrize("name", ["pope", "gqa"])
def test_the_embedded_model_is_evaluated(name, tmp_path):
    done = jfeval("run", "--benchmark", name, "--edition", "shapes", "--limit", "6", "--out", "run", cwd=tmp_path).stdout
    assert "prompt=bare" in done
    assert "limited: 6 of" in done
    report = (tmp_path / "run" / "report.html").read_text()
    assert "limited: 6 of" in report
    assert "Is the" in report or "What" in report
