"""Your own images through the command line: DPG-Bench's grids, MJHQ-30K's and COCO's folders; judges stood in for."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.benchmarks.mjhq_rows import CATEGORIES
from jfeval.cli import main
from jfeval.store import Store

HEADER = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def plain(value, size=(8, 8)):
    return Image.new("RGB", size, (value, value, value))


class Light:
    """In the place of mPLUG: yes to every question about a bright picture."""

    name = "light"

    def identity(self):
        return {"version": 1}

    def observe(self, sample, images):
        count = len(sample.reference["questions"])
        return tuple({"answers": ["yes" if image.getpixel((0, 0))[0] > 128 else "no"] * count} for image in images)


@pytest.fixture
def dpg(tmp_path, monkeypatch):
    """Four prompts, their pictures as grids; the second half of each grid is dark."""
    monkeypatch.setattr("jfeval.benchmarks.scorers.mplug_judge.load_judge", lambda folder: Light())
    data, images = tmp_path / "data", tmp_path / "grids"
    data.mkdir()
    images.mkdir()
    rows = [f"item{i},prompt {i},,{n},0,,,entity - whole (x),Is there x{n}?" for i in range(4) for n in (1, 2)]
    (data / "dpg_bench.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for number in range(4):
        grid = plain(255, (16, 16))
        grid.paste(plain(0, (16, 8)), (0, 8))
        grid.save(images / f"item{number}.png")
    return data, images


def score_dpg(dpg, tmp_path, *more):
    data, images = dpg
    options = ("--benchmark", "dpg", "--edition", "official", "--protocol", "fixed", "--data", data, "--no-report")
    return invoke("score", "--images", images, *options, "--out", tmp_path / "run", *more)


def test_grids_are_cut_judged_and_scored(dpg, tmp_path):
    done = score_dpg(dpg, tmp_path)
    assert done.exit_code == 0, done.output
    assert "overall 0.500" in done.stdout
    assert "complete: 4 of 4 prompts" in done.stdout
    assert len(Store(tmp_path / "run").outputs()["item0"].images) == 4


def test_a_grid_of_another_size_is_refused_with_both_sizes_and_the_run_is_not_complete(dpg, tmp_path):
    _, images = dpg
    plain(255, (18, 18)).save(images / "item1.png")
    done = score_dpg(dpg, tmp_path)
    assert done.exit_code == 1
    assert "item1: BadRequest: item1.png: the grid has 18x18 pixels; 4 cells of 8x8 need 16x16" in done.stderr
    assert "incomplete: 1 of 4 prompts failed" in done.stdout
    assert not Store(tmp_path / "run").record().counts.complete


def test_the_cell_s_size_can_be_stated(dpg, tmp_path):
    done = score_dpg(dpg, tmp_path, "--set-benchmark", "cell=9")
    assert done.exit_code == 2
    assert "the grid has 16x16 pixels; 4 cells of 9x9 need 18x18" in done.stderr


def test_one_picture_a_prompt_is_taken_as_it_is(dpg, tmp_path):
    _, images = dpg
    for number in range(4):
        plain(255 if number else 0, (32, 32)).save(images / f"item{number}.png")
    done = score_dpg(dpg, tmp_path, "--set-benchmark", "pictures=1")
    assert done.exit_code == 0, done.output
    assert "overall 0.750" in done.stdout


def test_missing_extra_and_broken_pictures_are_listed_and_counted(dpg, tmp_path):
    _, images = dpg
    (images / "item2.png").unlink()
    (images / "item3.png").write_bytes(b"\x89PNG broken")
    plain(1).save(images / "holiday.jpg")
    done = score_dpg(dpg, tmp_path)
    assert done.exit_code == 1
    assert "1 images are of no prompt and are not looked at: 'holiday'" in done.stderr
    assert "item2: FileNotFoundError: there is no image of item2" in done.stderr
    assert "item3: BadRequest: item3.png cannot be read as a picture" in done.stderr
    assert "incomplete: 2 of 4 prompts failed" in done.stdout
    assert str(images) not in "".join(output.error for output in Store(tmp_path / "run").outputs().values())


def test_a_folder_of_something_else_is_refused_before_anything_is_written(dpg, tmp_path):
    _, images = dpg
    for path in images.iterdir():
        path.rename(images / f"my-{path.name}")
    done = score_dpg(dpg, tmp_path)
    assert done.exit_code == 2
    assert "holds no picture of the 4 prompts (4 others); expected item0.png, a grid of 4 cells" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture
def mjhq(tmp_path, means):
    """MJHQ-30K's form with two prompts of each category, and a model's images under their names."""
    data, images = tmp_path / "data", tmp_path / "mine"
    rows, rng = {}, np.random.default_rng(0)
    for number in range(20):
        category, name = CATEGORIES[number % 10], f"hash{number:02d}"
        rows[name] = {"category": category, "prompt": f"prompt {number}"}
        for folder, ending in ((data, "jpg"), (images, "png")):
            path = folder / category / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (data / "meta_data.json").write_text(json.dumps(rows))
    return data, images


def score_mjhq(mjhq, tmp_path, *more):
    data, images = mjhq
    own = ("--set-benchmark", "any_size=true", "--set-benchmark", f"cache={tmp_path / 'features'}")
    options = ("--benchmark", "mjhq", "--edition", "official", "--data", data, "--no-report", *own)
    return invoke("score", "--images", images, *options, "--out", tmp_path / "run", *more)


def test_images_in_categories_are_scored_and_scored_again_under_another_recipe(mjhq, tmp_path):
    done = score_mjhq(mjhq, tmp_path)
    assert done.exit_code == 0, done.output
    assert "complete: 20 of 20 prompts" in done.stdout
    assert "fid_20 " in done.stdout
    assert "protocol gigagan" in done.stdout
    again = score_mjhq(mjhq, tmp_path, "--protocol", "clean")
    assert again.exit_code == 0, again.output
    store = Store(tmp_path / "run")
    assert store.protocols() == ["clean", "gigagan"]
    assert store.record().benchmark_settings["any_size"] is True
    assert invoke("score", tmp_path / "run", "--protocol", "clean", "--no-report").stdout == again.stdout


def test_a_set_is_hashed_once_and_not_for_every_batch(mjhq, tmp_path, monkeypatch):
    """20 images in batches of 16: what the model is was asked at the start and for each batch."""
    _, images = mjhq
    opened, plain_open = [], Path.open

    def counted(path, *arguments, **options):
        opened.extend([path] if images in path.parents else [])
        return plain_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    assert score_mjhq(mjhq, tmp_path).exit_code == 0
    assert len(opened) == len(set(opened)) == 20


def test_run_takes_a_benchmarks_own_layout_as_score_does(mjhq, tmp_path):
    """A missing image fails its prompt and does not end the run."""
    data, images = mjhq
    (images / "art" / "hash01.png").unlink()
    (images / "stranger.png").write_bytes(b"")
    scored = score_mjhq(mjhq, tmp_path)
    own = ("--set-benchmark", "any_size=true", "--set-benchmark", f"cache={tmp_path / 'features'}")
    options = ("--benchmark", "mjhq", "--edition", "official", "--data", data, "--no-report", *own)
    done = invoke("run", "--model", f"folder:{images}", *options, "--out", tmp_path / "other")
    assert (done.exit_code, done.stdout) == (scored.exit_code, scored.stdout)
    assert "incomplete: 1 of 20 prompts failed" in done.stdout
    assert "1 images are of no prompt and are not looked at: 'stranger.png'" in done.stderr


def test_all_recipes_stand_side_by_side(mjhq, tmp_path):
    score_mjhq(mjhq, tmp_path)
    done = invoke("score", tmp_path / "run", "--protocol", "all", "--no-report")
    assert done.exit_code == 0, done.output
    assert "protocols" in done.stdout
    assert Store(tmp_path / "run").protocols() == ["clean", "gigagan", "pytorch-fid", "torch-fidelity"]
    assert Store(tmp_path / "run").record().protocol == "gigagan"


def test_a_part_of_the_images_is_never_the_whole(mjhq, tmp_path):
    _, images = mjhq
    (images / "art" / "hash01.png").unlink()
    (images / "stranger.png").write_bytes(b"")
    done = score_mjhq(mjhq, tmp_path)
    assert done.exit_code == 1
    assert "1 images are of no prompt and are not looked at: 'stranger.png'" in done.stderr
    assert "hash01: FileNotFoundError: there is no image of hash01" in done.stderr
    assert "incomplete: 1 of 20 prompts failed" in done.stdout
    assert "fid_19 " in done.stdout


def test_two_images_of_one_prompt_are_refused(mjhq, tmp_path):
    _, images = mjhq
    plain(3).save(images / "hash05.png")
    done = score_mjhq(mjhq, tmp_path)
    assert done.exit_code == 2
    assert "two images of one prompt" in done.stderr


def test_coco_s_images_go_by_their_number(tmp_path):
    from jfeval.benchmarks.coco import COCO

    rows = list(enumerate(COCO().samples("shapes", seed=0)))[:3]
    for name in ("fake_images/COCO_val2014_000000000000.png", "1.png", "900.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        plain(7).save(tmp_path / name)
    found = COCO().ready(tmp_path, rows)
    assert found.identity()["images"] == 2
    assert found.strangers({}) == ["900.png"]
