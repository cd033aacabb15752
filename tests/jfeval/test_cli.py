import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval import __version__
from jfeval.cli import main
from jfeval.schema import Metric
from jfeval.store import Store


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_bright(out, *more):
    return invoke("run", "--benchmark", "bright", "--model", "painter", "--out", out, "--batch-size", 8, *more)


@pytest.fixture(autouse=True)
def _quiet_report(monkeypatch):
    """The report has tests of its own; here only that it is asked for."""
    import jfeval.reports.build

    def write(stores, out):
        out.write_text("\n".join(store.record().name for store in stores))
        return out

    monkeypatch.setattr(jfeval.reports.build, "write_report", write)


def test_a_run_prints_the_overall_line_and_the_reports_path_last(registered, tmp_path):
    result = run_bright(tmp_path / "run", "--seed", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "run" / "report.html")
    assert any(re.fullmatch(r"overall [01]\.\d{3} \[[01]\.\d{2}, [01]\.\d{2}\]", line) for line in lines)
    assert any(re.fullmatch(r"task1 [01]\.\d{3} \[[01]\.\d{2}, [01]\.\d{2}\] n=16 clusters=8", line) for line in lines)
    assert "recipe guidance_scale=2.0 num_steps=30" in lines
    assert "complete: 24 of 24 prompts" in lines
    assert "\x1b" not in result.stdout


def test_a_limited_run_says_so_everywhere(registered, tmp_path):
    result = run_bright(tmp_path / "run", "--limit", 6)
    assert "limited: 6 of 24 prompts" in result.stdout
    record = Store.open(tmp_path / "run").record()
    assert (record.limit, record.counts.asked, record.counts.available) == (6, 6, 24)


def test_recipe_options_and_set_reach_the_model(registered, tmp_path):
    assert run_bright(tmp_path / "run", "--guidance-scale", 5, "--set", "num_steps=7").exit_code == 0
    record = Store.open(tmp_path / "run").record()
    assert record.model_identity["recipe"] == {"guidance_scale": 5.0, "num_steps": 7}
    assert "num_steps: 7" in (tmp_path / "run" / "settings.yaml").read_text()


@pytest.mark.parametrize("again", [("run", "--benchmark", "bright", "--model", "painter", "--out"), ("score",)])
def test_a_finished_run_is_renamed_without_a_picture_drawn_again(registered, stubs, tmp_path, monkeypatch, again):
    run = tmp_path / "run"
    assert "painter" in invoke("run", "--benchmark", "bright", "--model", "painter", "--out", run).stdout
    before = Store.open(run).record()
    monkeypatch.setattr(stubs.Painter, "generate", lambda *_: pytest.fail("drawn again"))
    result = invoke(*again, run, "--title", "ours, 5k updates")
    assert result.exit_code == 0, result.output
    record = Store.open(run).record()
    assert (before.title, record.title, record.model) == ("painter", "ours, 5k updates", "painter")
    assert record.fingerprint == before.fingerprint
    assert "ours, 5k updates" in result.stdout
    refused = invoke(*again, run, "--title", "two\nlines")
    assert refused.exit_code == 2
    assert "title must be one line" in refused.stderr


def test_other_settings_go_to_another_folder_by_default(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("run", "--benchmark", "bright", "--model", "painter")
    assert invoke(*command).stdout.endswith("runs/bright-shapes-painter-seed0/report.html\n")
    for more in (["--guidance-scale", 3], ["--limit", 6], ["--seed", 1], ["--guidance-scale", 2]):
        assert invoke(*command, *more).exit_code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 4


def test_options_win_over_the_settings_file(registered, tmp_path):
    (tmp_path / "run.yaml").write_text("seed: 5\nlimit: 9\nmodel_settings:\n  num_steps: 3\n")
    assert run_bright(tmp_path / "run", "--config", tmp_path / "run.yaml", "--limit", 6).exit_code == 0
    record = Store.open(tmp_path / "run").record()
    assert (record.seed, record.limit, record.model_identity["recipe"]["num_steps"]) == (5, 6, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "brigth"], "unknown benchmark 'brigth'; did you mean 'bright'?"),
        (["--model", "paintr"], "unknown model 'paintr'; did you mean 'painter'?"),
        (["--edition", "shape"], "unknown edition 'shape'; did you mean 'shapes'?"),
        (["--edition", "official"], "unknown edition of bright 'official'"),
        (["--protocol", "strickt"], "did you mean 'strict'?"),
        (["--set", "num_step=3"], "unknown setting 'num_step'; did you mean 'num_steps'?"),
        (["--set", "num_steps=many"], "num_steps=many: Value 'many'"),
        (["--set", "num_steps"], "expected key=value"),
        (["--limit", "0"], "limit must be at least 1"),
        (["--seed", "-1"], "seed must be in"),
    ],
)
def test_bad_names_and_values_fail_before_a_model_loads(registered, stubs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(stubs, "load_painter", lambda settings: pytest.fail("loaded"))
    monkeypatch.setattr(stubs.load_painter, "__annotations__", {"settings": stubs.PainterSettings}, raising=False)
    result = run_bright(tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "run" / "run.json").exists()


def test_dry_run_writes_nothing(registered, tmp_path):
    result = run_bright(tmp_path / "run", "--dry-run", "--limit", 7)
    assert result.exit_code == 0
    assert "7 of 24 prompts, 14 images in 2 batches" in result.stdout
    assert "task0 3" in result.stdout
    assert not (tmp_path / "run").exists()


def test_failures_above_the_limit_exit_with_one_and_name_samples(registered, stubs, tmp_path, monkeypatch):
    def load(settings: stubs.PainterSettings):
        return stubs.Painter(settings, bad=[f"picture {i} of 0" for i in range(24)])

    monkeypatch.setattr(stubs, "load_painter", load)
    result = run_bright(tmp_path / "run")
    assert result.exit_code == 1
    assert "0-0: RuntimeError: paint ran out" in result.stderr


def test_an_interrupted_run_says_how_to_go_on(registered, stubs, tmp_path, monkeypatch):
    def load(settings: stubs.PainterSettings):
        raise KeyboardInterrupt

    monkeypatch.setattr(stubs, "load_painter", load)
    result = run_bright(tmp_path / "run")
    assert result.exit_code == 130
    assert "the same command continues there" in result.stderr


def test_a_stored_run_is_scored_again_without_its_model(registered, stubs, tmp_path, monkeypatch):
    run_bright(tmp_path / "run")
    monkeypatch.setattr(stubs, "load_painter", lambda settings: pytest.fail("loaded"))
    result = invoke("score", tmp_path / "run", "--protocol", "kind")
    assert result.exit_code == 0, result.output
    assert "protocol kind" in result.stdout
    assert Store.open(tmp_path / "run").protocols() == ["kind", "strict"]


def test_score_refuses_options_that_a_stored_run_cannot_take(registered, tmp_path):
    run_bright(tmp_path / "run")
    result = invoke("score", tmp_path / "run", "--seed", 4)
    assert result.exit_code == 2
    assert "only --protocol and --title can be given, not seed" in result.stderr
    assert invoke("score").exit_code == 2
    assert "is not a run folder" in invoke("score", tmp_path).stderr


@pytest.fixture
def folder(registered, tmp_path):
    path = tmp_path / "mine"
    assert invoke("data", "prompts", "--benchmark", "bright", "--seed", 3, "--out", path).exit_code == 0
    for row in range(24):
        (path / f"{row:05d}" / "samples").mkdir()
        for index in range(2):
            Image.new("RGB", (8, 8), (255, 255, 255)).save(path / f"{row:05d}" / "samples" / f"{index:04d}.png")
    return path


def score_folder(folder, out, seed=3):
    return invoke("score", "--benchmark", "bright", "--images", folder, "--seed", seed, "--out", out)


def test_a_folder_of_images_is_scored(folder, tmp_path):
    result = score_folder(folder, tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "overall 1.000 [" in result.stdout
    assert "complete: 24 of 24 prompts" in result.stdout
    assert (folder / "prompts.txt").read_text().startswith("picture 0 of 3\npicture 1 of 3\n")


def test_missing_and_broken_images_are_listed_counted_and_never_complete(folder, tmp_path):
    (folder / "00004" / "samples" / "0001.png").unlink()
    (folder / "00009" / "samples" / "0000.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = score_folder(folder, tmp_path / "run")
    assert result.exit_code == 1
    assert "3-4: FileNotFoundError: 00004/samples has 1 images, image 2 is missing" in result.stderr
    assert "3-9: OSError: 00009/samples/0000.png is not an image that can be read" in result.stderr
    assert "incomplete: 2 of 24 prompts failed" in result.stdout
    assert not Store.open(tmp_path / "run").record().counts.complete
    assert str(folder) not in "".join(output.error for output in Store.open(tmp_path / "run").outputs().values())


def test_an_image_of_another_size_is_named_and_the_rest_is_judged(folder, stubs, tmp_path, monkeypatch):
    monkeypatch.setattr(stubs.BrightJudge, "image_size", 8, raising=False)
    Image.new("RGB", (16, 12), (255, 255, 255)).save(folder / "00009" / "samples" / "0001.png")
    result = score_folder(folder, tmp_path / "run")
    assert result.exit_code == 1
    assert "1 of 24 samples failed:\n  3-9: ValueError: image 2 of 2: the judge reads 8x8 pixels, not 16x12; resize it" in result.stderr
    assert "overall 1.000 [" in result.stdout
    assert "incomplete: 1 of 24 prompts failed" in result.stdout
    allowed = invoke("score", "--benchmark", "bright", "--images", folder, "--seed", 3, "--out", tmp_path / "run", "--max-failures", 0.05)
    assert allowed.exit_code == 0, allowed.output


def test_images_that_are_all_of_another_size_say_so(folder, stubs, tmp_path, monkeypatch):
    monkeypatch.setattr(stubs.BrightJudge, "image_size", 64, raising=False)
    result = score_folder(folder, tmp_path / "run")
    assert result.exit_code == 2
    assert (
        "24 of 24 samples failed, the first of them 3-0: ValueError: image 1 of 2: the judge reads 64x64 pixels, not 8x8" in result.stderr
    )


def test_images_of_other_prompts_are_refused(folder, tmp_path):
    result = score_folder(folder, tmp_path / "run", seed=4)
    assert result.exit_code == 2
    assert "no finished sample" in result.stderr
    assert "holds images of 'picture 0 of 3', not of 'picture 0 of 4'; made with another --seed?" in result.stderr


def test_generate_saves_pictures_and_prints_their_paths(registered, tmp_path):
    result = invoke("generate", "a ../red circle", "--model", "painter", "--num-images", 2, "--seed", 7, "--out", tmp_path / "out")
    paths = [Path(line) for line in result.stdout.splitlines()]
    assert [re.sub(r"-[0-9a-f]{8}-", "-HASH-", path.name) for path in paths] == [f"a-red-circle-HASH-seed7-000{i}.png" for i in (0, 1)]
    assert all(path.parent == tmp_path / "out" and Image.open(path).size == (8, 8) for path in paths)


def test_generate_keeps_the_pictures_of_other_prompts(registered, tmp_path):
    prompts = ["a red circle", "A red circle!", "红色的圆", "蓝色的圆", "a red circle " + "and a star " * 40]
    for prompt in [*prompts, prompts[0]]:
        result = invoke("generate", prompt, "--model", "painter", "--num-images", 1, "--out", tmp_path)
        assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("*-seed0-0000.png"))) == len(list(tmp_path.iterdir())) == len(prompts)


def test_generate_draws_in_batches_and_shows_how_far_it_is(registered, stubs, tmp_path, monkeypatch):
    calls = []

    def load(settings: stubs.PainterSettings):
        return stubs.Painter(settings, calls=calls)

    monkeypatch.setattr(stubs, "load_painter", load)
    result = invoke("generate", "a star", "--model", "painter", "--num-images", 40, "--out", tmp_path)
    assert [len(call) for call in calls] == [16, 16, 8]
    assert [Path(line).name[-8:-4] for line in result.stdout.splitlines()] == [f"{i:04d}" for i in range(40)]
    assert "draw 40/40" in result.stderr


def test_generate_says_before_the_model_loads_that_its_folder_cannot_be_written(registered, stubs, tmp_path, monkeypatch):
    def load(settings: stubs.PainterSettings):
        pytest.fail("loaded")

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(stubs, "load_painter", load)
    monkeypatch.setattr("jfeval.folder.write_atomically", read_only)
    result = invoke("generate", "a star", "--model", "painter", "--out", tmp_path)
    assert result.exit_code == 2
    assert f"cannot write the output folder {tmp_path}: Read-only file system. Give another --out." in result.stderr


def test_chat_prints_the_answer(registered, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert invoke("chat", tmp_path / "a.png", "Is there a picture?", "--model", "painter").stdout == "yes\n"
    (tmp_path / "b.png").write_text("no image")
    result = invoke("chat", tmp_path / "b.png", "Is there a picture?", "--model", "painter")
    assert result.exit_code == 2
    assert "b.png is not an image" in result.stderr


def test_list_and_describe(registered):
    assert "model      painter" in invoke("list").stdout
    assert "num_steps: int = 30\n      How often." in invoke("describe", "painter").stdout
    assert "protocols: strict, kind" in invoke("describe", "bright").stdout
    result = invoke("describe", "painte")
    assert (result.exit_code, "did you mean 'painter'?" in result.stderr) == (2, True)


def test_untrusted_text_cannot_drive_the_terminal(registered, stubs, tmp_path, monkeypatch):
    monkeypatch.setattr(stubs.Painter, "answer", lambda self, requests: ["\x1b[2Jred\r\x07\u009b"])
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    out = invoke("chat", tmp_path / "a.png", "?", "--model", "painter").stdout
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out) is None


@pytest.mark.parametrize("name", sorted(set(main.commands) - {"data"}))
def test_every_command_explains_itself_with_an_example(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert name == "list" or f"jfeval {name}" in result.stdout


def test_version():
    assert __version__ in invoke("--version").stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--benchmark", "nothing"], ["list"]])
def test_it_works_beside_folders_of_the_same_names(tmp_path, command, arguments):
    for name in ("models", "benchmarks", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (tmp_path / "models" / "base.py").write_text("raise RuntimeError('the wrong package')")
    result = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ})
    assert "wrong package" not in result.stderr
    assert result.returncode == (2 if "run" in arguments else 0), result.stderr


def test_help_imports_nothing_heavy():
    code = "import sys; from jfeval.cli import main; main(['--help'], standalone_mode=False); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    for heavy in ("torch", "numpy", "pandas", "omegaconf", "rich", "scipy", "PIL"):
        assert f"'{heavy}'" not in out


def test_plain_lines_hold_a_dash_where_there_is_no_interval(stubs, tmp_path):
    from jfeval.summary import plain_lines

    record = stubs.run_and_score(tmp_path / "run").record()
    metric = Metric(name="overall", protocol="p", value=0.5, n=1, clusters=1, headline=True)
    assert "overall 0.500 -" in plain_lines(record, [metric])


def test_a_report_without_names_takes_the_runs_at_hand(registered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = invoke("report")
    assert refused.exit_code == 2
    assert "no run folder matches" in refused.output
    assert run_bright("runs/one").exit_code == 0
    assert invoke("report").stdout.splitlines()[-1] == "report.html"
    shown = invoke("report", "--format", "table").stdout
    assert "painter" in shown
    assert "overall" in shown
    assert invoke("report", "--format", "csv").exit_code == 2
    assert invoke("report", "--out", "board.md").exit_code == 0
    assert "painter" in (tmp_path / "board.md").read_text()


def test_a_disk_that_fills_up_while_scoring_is_a_message(registered, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scores.parquet")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_results", full)
        result = run_bright(tmp_path / "run")
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert "run the same command again" in result.stderr
    assert run_bright(tmp_path / "run").exit_code == 0


def test_a_folder_that_cannot_be_written_is_a_message(registered, tmp_path, monkeypatch):
    assert run_bright(tmp_path / "run").exit_code == 0
    opened = Path.open

    def read_only(self, mode="r", *args, **more):
        if "a" in mode and self.parent == tmp_path / "run":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(self, mode, *args, **more)

    monkeypatch.setattr(Path, "open", read_only)
    result = invoke("score", tmp_path / "run", "--protocol", "kind")
    assert result.exit_code == 2
    assert "cannot write the run folder" in result.stderr


def test_shards_are_merged_by_the_same_command_without_shard(registered, tmp_path):
    for index in (1, 2):
        result = run_bright(tmp_path / "run", "--shard", f"{index}/2")
        assert result.exit_code == 0, result.output
        assert f"shard {index}/2 is done; {tmp_path / 'run'} holds {12 * index} of 24 samples" in result.stdout
    result = run_bright(tmp_path / "run")
    assert "complete: 24 of 24 prompts" in result.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shard", "3/2"], "shards count from 1"),
        (["--workers", 0], "--workers must be from 1"),
        (["--gpus", 1], "is for --executor ray"),
        (["--batch-size", "many"], "neither a whole number"),
    ],
)
def test_wrong_options_about_workers_are_refused(registered, tmp_path, more, message):
    result = run_bright(tmp_path / "run", *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
