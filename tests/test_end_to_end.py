"""The embedded model through the command line, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

QUICK = ["--limit", "12", "--num-steps", "3", "--batch-size", "8"]


MODULE = (sys.executable, "-m", "jfeval")


def jfeval(*arguments, cwd, check=True, command=MODULE):
    """Run the command line in its own process, away from the checkout."""
    done = subprocess.run([*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def results(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("results/*/*"))}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A project that has folders of our names, as most research code has."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("models", "benchmarks", "reports"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('this is not the package you are looking for')\n")
    return folder


@pytest.fixture(scope="module")
def finished(workplace):
    return jfeval("run", *QUICK, "--out", "run", cwd=workplace)


def test_a_run_prints_the_score_and_ends_with_the_report(finished, workplace):
    lines = finished.stdout.strip().splitlines()
    assert [line for line in lines if re.fullmatch(r"overall \d\.\d{3} \[\d\.\d\d, \d\.\d\d\]", line)], finished.stdout
    report = workplace / lines[-1]
    assert report.suffix == ".html"
    page = report.read_text(encoding="utf-8")
    assert "limited: 12 of 360" in page
    assert "limited: 12 of 360" in finished.stdout
    for task in ("single_object", "two_object", "counting", "colors", "position", "color_attr"):
        assert task in finished.stdout


def test_the_same_command_again_changes_nothing(finished, workplace, command):
    before = results(workplace / "run")
    assert before
    again = jfeval("run", *QUICK, "--out", "run", cwd=workplace, command=command)
    assert results(workplace / "run") == before
    assert again.stdout == finished.stdout


def test_a_killed_run_continues_to_the_same_bytes(finished, workplace):
    process = subprocess.Popen(
        [*MODULE, "run", *QUICK, "--out", "killed"], cwd=workplace, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list((workplace / "killed").glob("images/*/*.png")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    jfeval("run", *QUICK, "--out", "killed", cwd=workplace)
    assert results(workplace / "killed") == results(workplace / "run")


def test_another_recipe_in_the_same_folder_is_refused(finished, workplace):
    refused = jfeval("run", *QUICK, "--out", "run", "--guidance-scale", "7", cwd=workplace, check=False)
    assert refused.returncode == 2
    assert "guidance_scale" in refused.stderr
    assert "--overwrite" in refused.stderr


def test_generate_draws_and_chat_answers(workplace, command):
    words = ("generate", "a red circle left of a blue square", "--num-steps", "3", "--num-images", "2", "--out", "drawn")
    drawn = jfeval(*words, cwd=workplace, command=command)
    files = [workplace / line for line in drawn.stdout.split()]
    assert len(files) == 2
    assert all(Image.open(file).size == (64, 64) for file in files)
    answer = jfeval("chat", files[0], "How many circles are there?", cwd=workplace, command=command).stdout.strip()
    assert answer
    assert len(answer) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--benchmark", "genevl"], "did you mean 'geneval'"),
        (["run", "--model", "janusflow-shape"], "did you mean 'janusflow-shapes'"),
        (["run", "--set", "guidence_scale=2"], "guidance_scale"),
        (["run", "--num-steps", "0"], "num_steps must be at least 1"),
        (["run", "--edition", "official"], "--data"),
        (["run", "--model", "janusflow", "--set", "path=nowhere"], "nowhere"),
    ],
)
def test_bad_input_names_the_cause(arguments, message, workplace):
    refused = jfeval(*arguments, "--out", "refused", cwd=workplace, check=False)
    assert refused.returncode == 2, refused.stdout
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
