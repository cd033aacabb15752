"""The official editions of MJHQ-30K and COCO: published forms read from folders, features and distances; Inception stood in for."""

import io
import json
import shutil
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.benchmarks.coco import COCO
from jfeval.benchmarks.features import in_folder, read_features
from jfeval.benchmarks.mjhq import MJHQ
from jfeval.benchmarks.mjhq_rows import CATEGORIES, read_prompts, reference_images
from jfeval.benchmarks.photo_sets import Settings
from jfeval.benchmarks.reference import stored_reference, write_statistics
from jfeval.benchmarks.scorers.frechet import frechet_distance, moments_of
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.schema import Judged, Judgement
from jfeval.store import Store

EACH = 4


def noise(seed, size=(8, 8)):
    """A picture of noise about a grey of its own."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(60, 190, 3)
    return Image.fromarray((grey + rng.integers(-40, 40, (*size, 3))).astype(np.uint8))


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def mjhq(tmp_path):
    """MJHQ-30K's form with four prompts of each category."""
    folder = tmp_path / "mjhq"
    rows = {}
    for number in range(EACH * len(CATEGORIES)):
        category = CATEGORIES[number % len(CATEGORIES)]
        rows[f"hash{number:02d}"] = {"category": category, "prompt": f"prompt {number}"}
        path = folder / category / f"hash{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number, (9, 7)).save(path)
    (folder / "meta_data.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def coco(tmp_path):
    """COCO's form with thirty images and two captions each."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2014").mkdir()
    images, annotations = [], []
    for number in range(30):
        name = f"COCO_val2014_{number:012d}.jpg"
        noise(number).save(folder / "val2014" / name)
        images.append({"id": number, "file_name": name})
        annotations += [{"id": 100 + number, "image_id": number, "caption": f"later {number}"}]
        annotations += [{"id": number, "image_id": number, "caption": f"a  caption\n{number} "}]
    (folder / "annotations" / "captions_val2014.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def settings(tmp_path, **more):
    return Settings(weights=tmp_path / "w.pth", cache=tmp_path / "features", any_size=True, **more)


def results(benchmark, folder, see, *, protocol="gigagan", shift=1000, size=(8, 8)):
    samples = benchmark.samples("official", seed=0, data=folder)
    judged = see(samples, [noise(shift + i, size) for i in range(len(samples))], benchmark.judge_under("official", protocol))
    scores, metrics = benchmark.score_set(judged, protocol=protocol)
    return scores, {(m.name, m.task): m for m in metrics}


# MJHQ


def test_published_prompts_become_samples(mjhq, tmp_path):
    samples = MJHQ(settings(tmp_path)).samples("official", seed=0, data=mjhq)
    assert len(samples) == 40
    assert (samples[1].id, samples[1].task, samples[1].request.prompt, samples[1].request.num_images) == ("hash01", "art", "prompt 1", 1)
    some = MJHQ(settings(tmp_path, images=20)).samples("official", seed=0, data=mjhq)
    assert [sum(s.task == category for s in some) for category in CATEGORIES] == [2] * 10
    whole, part = (MJHQ(settings(tmp_path, images=n)).data_identity("official", seed=0, data=mjhq) for n in (0, 20))
    assert (whole["name"], whole["rows"], part["rows"], part["asked"]) == ("playgroundai/MJHQ-30K", 40, 20, 20)
    assert whole["sha256"] != part["sha256"]
    with pytest.raises(UserError, match="images=25 cannot be taken evenly from 10 categories"):
        MJHQ(settings(tmp_path, images=25)).samples("official", seed=0, data=mjhq)


def test_the_distance_is_to_the_data_s_own_images_by_recipe_and_category(mjhq, tmp_path, see, means):
    scores, found = results(MJHQ(settings(tmp_path)), mjhq, see)
    rows = means("", "gigagan").features([noise(1000 + i) for i in range(40)])[0]
    reference = read_features(in_folder(mjhq), means("", "gigagan"), tmp_path / "other").rows
    assert found["fid_40", ""].value == pytest.approx(frechet_distance(moments_of([rows]), moments_of([reference])), rel=1e-6)
    assert found["fid_40", ""].headline
    assert found["fid_40", ""].ci_low < found["fid_40", ""].value < found["fid_40", ""].ci_high
    assert ("fid_40_corrected", "") in found
    assert ("kid", "") in found
    # a category: its own images against the reference images of its folder, under the name of their number, without an interval
    places = [i for i in range(40) if CATEGORIES[i % 10] == "food"]
    food = read_features(in_folder(mjhq / "food"), means("", "gigagan"), tmp_path / "other").rows
    assert found["fid_4", "food"].value == pytest.approx(frechet_distance(moments_of([rows[places]]), moments_of([food])), rel=1e-6)
    assert found["fid_4", "food"].ci_low is None
    assert found["kid", "food"].ci_low is not None
    assert sum(name == "fid_4" for name, _ in found) == 10
    assert np.mean([s.values["influence"] for s in scores]) == pytest.approx(0, abs=1e-6)


def test_numbers_of_the_published_sizes_have_their_names():
    from jfeval.benchmarks.fid_metrics import label

    assert [f"fid_{label(n)}" for n in (30_000, 10_000, 3_000)] == ["fid_30k", "fid_10k", "fid_3k"]


def test_the_clip_score_stands_beside_with_its_recipe(mjhq, tmp_path, see, means, monkeypatch):
    class Clip:
        def __init__(self, folder, form, *, device):
            self.form = form

        def identity(self):
            return {"backbone": "ViT-L/14", "prefix": "", "resize": "bicubic to 224", "activation": "quick_gelu", "form": self.form}

        def scores(self, images, prompts):
            return [20.0 + float(prompt.removeprefix("prompt ")) / 10 for prompt in prompts]

    monkeypatch.setattr("jfeval.benchmarks.photo_sets.ClipScore", Clip)
    scores, found = results(MJHQ(settings(tmp_path, clip=tmp_path)), mjhq, see)
    values = 20 + np.arange(40) / 10
    metric = found["clip_score", ""]
    assert metric.value == pytest.approx(values.mean())
    assert metric.se == pytest.approx(values.std(ddof=1) / np.sqrt(40))
    assert metric.ci_low < metric.value < metric.ci_high
    assert (metric.better, metric.headline) == ("higher", False)
    assert "CLIP ViT-L/14; prefix '', resize bicubic to 224" in metric.detail
    assert scores[3].values["clip_score"] == pytest.approx(20.3)
    # pictures of rewritten prompts are held against the published ones, under names of their own
    rewritten = tmp_path / "rewritten.txt"
    rewritten.write_text("a\n" * 40)
    other = MJHQ(settings(tmp_path, clip=tmp_path, prompts_file=rewritten))
    name = other.protocols_of("official")[0]
    _, again = results(other, mjhq, see, protocol=name)
    assert again["clip_score", ""].value == metric.value
    assert again["fid_40", ""].value == found["fid_40", ""].value
    assert {one.protocol for one in again.values()} == {name}
    assert name.startswith("gigagan-prompts-")
    assert other.judge_under("official", name).identity()["recipe"] == "gigagan"
    with pytest.raises(ValueError, match="clip_form must be one of plain, gigagan, not plane"):
        Settings(clip_form="plane")


def test_recipes_are_protocols_with_judges_of_their_own(mjhq, tmp_path, see, means):
    benchmark = MJHQ(settings(tmp_path))
    assert benchmark.protocols_of("official") == ("gigagan", "clean", "torch-fidelity", "pytorch-fid")
    benchmark.samples("official", seed=0, data=mjhq)
    one, two = (benchmark.judge_under("official", name).identity() for name in ("gigagan", "clean"))
    assert (one["recipe"], two["recipe"]) == ("gigagan", "clean")
    assert one["reference"] != two["reference"]
    with pytest.raises(UserError, match=r"unknown protocol of mjhq \(official\) 'random-conv-32'"):
        benchmark.judge_under("official", "random-conv-32")


def test_images_are_judged_together_as_they_are_one_by_one(mjhq, tmp_path, means):
    benchmark = MJHQ(settings(tmp_path))
    samples = benchmark.samples("official", seed=0, data=mjhq)[:3]
    judge = benchmark.judge("official")
    work = [(sample, [noise(i)]) for i, sample in enumerate(samples)]
    assert judge.observe_many(work) == [judge.observe(sample, images) for sample, images in work]


def test_statistics_can_stand_for_the_reference_of_their_recipe_alone(mjhq, tmp_path, see, means):
    network = means("", "gigagan")
    saved = tmp_path / "mjhq.npz"
    write_statistics(saved, read_features(in_folder(mjhq), network, tmp_path / "features"), network.identity())
    _, of_images = results(MJHQ(settings(tmp_path)), mjhq, see)
    _, of_statistics = results(MJHQ(settings(tmp_path, reference=saved)), mjhq, see)
    assert of_statistics["fid_40", ""].value == pytest.approx(of_images["fid_40", ""].value, rel=1e-9)
    assert of_statistics["fid_40", ""].se < of_images["fid_40", ""].se
    assert {task for _, task in of_statistics} == {""}
    with pytest.raises(UserError, match=r"statistics of another recipe: recipe 'gigagan' instead of 'clean'"):
        results(MJHQ(settings(tmp_path, reference=saved)), mjhq, see, protocol="clean")


def test_the_archive_and_the_hub_s_tables_are_read_too(mjhq, tmp_path):
    rows = read_prompts(mjhq, any_size=True)
    plain = {file.name: file.read() for file in reference_images(mjhq, rows)}
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "mjhq30k_imgs.zip", "w") as archive:
        for name, data in plain.items():
            archive.writestr(f"mjhq30k_imgs/{name}", data)
        archive.writestr("__MACOSX/animals.png", b"")
    assert {file.name: file.read() for file in reference_images(packed, rows)} == plain
    tables = tmp_path / "tables" / "data"
    tables.mkdir(parents=True)
    table = {
        "image": [{"bytes": data, "path": name} for name, data in plain.items()],
        "label": [CATEGORIES.index(name.partition("/")[0]) for name in plain],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tables / "test-00000.parquet")
    of_tables = reference_images(tables.parent, rows)
    assert sorted(file.read() for file in of_tables) == sorted(plain.values())
    assert {file.name.partition("/")[0] for file in of_tables} == set(CATEGORIES)


def test_another_set_of_prompts_or_references_is_refused_with_what_differs(mjhq, tmp_path):
    with pytest.raises(UserError, match=r"holds 40 prompts \(animals 4, art 4.*any_size=true"):
        read_prompts(mjhq)
    rows = read_prompts(mjhq, any_size=True)
    (mjhq / "art" / "hash01.jpg").unlink()
    noise(1).save(mjhq / "art" / "stranger.jpg")
    with pytest.raises(UserError, match=r"1 missing \(art/hash01\), 1 too many \(art/stranger\)"):
        reference_images(mjhq, rows)
    shutil.rmtree(mjhq / "art")
    for category in CATEGORIES:
        shutil.rmtree(mjhq / category, ignore_errors=True)
    with pytest.raises(UserError, match=r"holds no reference images.*jfeval data fetch mjhq"):
        reference_images(mjhq, rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.update(bad={"category": "cars", "prompt": "x"}), r"row 'bad', field category: found 'cars'; allowed: animals"),
        (lambda rows: rows.update(bad={"category": "art"}), r"row 'bad', field prompt: found None"),
        (lambda rows: rows.update(bad=[1]), r"row 'bad', field row: found \[1\]"),
        (lambda rows: rows.update({"../bad": {"category": "art", "prompt": "x"}}), "field name"),
    ],
)
def test_broken_rows_are_named(mjhq, change, message):
    rows = json.loads((mjhq / "meta_data.json").read_text())
    change(rows)
    (mjhq / "meta_data.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=message):
        read_prompts(mjhq, any_size=True)


def test_images_of_mixed_size_are_refused(mjhq, tmp_path, see, means):
    benchmark = MJHQ(settings(tmp_path))
    samples = benchmark.samples("official", seed=0, data=mjhq)[:3]
    pictures = [noise(0), noise(1), noise(2, (8, 16))]
    with pytest.raises(UserError, match=r"mixed size: 2 of 8x8 \('hash00, image 0'\); 1 of 16x8"):
        benchmark.score_set(see(samples, pictures, benchmark.judge("official")), protocol="gigagan")


def test_the_reference_is_needed_where_the_distance_is_taken(mjhq, tmp_path, see, means):
    benchmark = MJHQ(settings(tmp_path))
    samples = benchmark.samples("official", seed=0, data=mjhq)[:4]
    judged = see(samples, [noise(i) for i in range(4)], benchmark.judge("official"))
    shutil.rmtree(tmp_path / "features")
    with pytest.raises(UserError, match=r"reference's features lie in the folder they were made in"):
        benchmark.score_set(judged, protocol="gigagan")
    bare = Judged(samples=judged.samples, read=judged.read, judge={})
    with pytest.raises(UserError, match="not judged against a reference"):
        benchmark.score_set(bare, protocol="gigagan")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_a_bundle_is_scored_where_neither_reference_nor_judge_is(mjhq, tmp_path, means, monkeypatch):
    drawn, run, theirs = tmp_path / "drawn", tmp_path / "run", tmp_path / "theirs"
    drawn.mkdir()
    for number in range(40):
        noise(1000 + number).save(drawn / f"hash{number:02d}.png")
    given = {"any_size": "true", "weights": tmp_path / "w.pth", "cache": tmp_path / "features"}
    own = [part for name, value in given.items() for part in ("--set-benchmark", f"{name}={value}")]
    asked = ["--benchmark", "mjhq", "--edition", "official", "--data", mjhq, *own]
    done = invoke("score", "--images", drawn, *asked, "--out", run, "--no-report")
    assert done.exit_code == 0, done.output
    packed = invoke("bundle", run, "--out", tmp_path / "mine.zip")
    assert (packed.exit_code, packed.stderr) == (0, "")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        assert not [name for name in archive.namelist() if str(tmp_path).encode() in archive.read(name)]

    def absent(*_, **__):
        raise UserError("Inception's weights are missing")

    monkeypatch.setattr("jfeval.benchmarks.photo_sets.Inception", absent)
    for folder in (tmp_path / "features", mjhq, drawn):
        shutil.rmtree(folder)
    monkeypatch.chdir(tmp_path)
    assert invoke("unbundle", tmp_path / "mine.zip", "--out", theirs).exit_code == 0
    scored = invoke("score", theirs, "--no-report")
    assert scored.exit_code == 0, scored.output
    assert Store(theirs).metrics() == Store(run).metrics()
    assert invoke("bundle", theirs, "--out", tmp_path / "again.zip").stderr == ""
    with zipfile.ZipFile(tmp_path / "mine.zip") as one, zipfile.ZipFile(tmp_path / "again.zip") as two:
        kept = [name for name in one.namelist() if name.startswith("kept/")]
        assert [one.read(name) for name in kept] == [two.read(name) for name in kept]
        assert sorted(name[-4:] for name in kept) == [".npy", "json"]
    # without what the bundle brought, the reference is named
    shutil.rmtree(theirs / "kept")
    lost = invoke("score", theirs, "--no-report")
    assert lost.exit_code == 2
    assert "is not here: the reference's features lie in the folder they were made in" in lost.stderr
    assert "the bundle lacks what scoring reads beside the run" in invoke("bundle", theirs, "--out", tmp_path / "less.zip").stderr


def test_a_record_cannot_name_a_file_elsewhere(tmp_path):
    for about in ({"features": "../secret"}, {"statistics": None}):
        with pytest.raises(UserError, match="which is no sha256"):
            stored_reference({"reference": about}, [tmp_path])


def test_what_is_missing_is_named_with_its_size_and_the_command(tmp_path, mjhq):
    benchmark = MJHQ(Settings(any_size=True, cache=tmp_path / "features"))
    benchmark.samples("official", seed=0, data=mjhq)
    with pytest.raises(UserError, match=r"Inception's weights are missing.*96 MB.*`jfeval data fetch inception`"):
        benchmark.judge("official")
    with pytest.raises(UserError, match=r"meta_data\.json is missing.*`jfeval data fetch mjhq`"):
        benchmark.samples("official", seed=0, data=tmp_path)


def test_memory_holds_a_part_of_the_features_at_a_time(mjhq, tmp_path, means, monkeypatch):
    """What is read in a pass comes in parts, and parts are let go of."""
    from jfeval.benchmarks.photo_sets import _ROWS, Seen
    from jfeval.benchmarks.scorers.fixed_features import pack

    one = Judgement(sample_id="x", observations=({"features": pack(np.zeros(8)), "size": "8x8"},))
    samples = MJHQ(settings(tmp_path)).samples("official", seed=0, data=mjhq) * 60
    parts = [len(part) for part in Seen(Judged(samples=tuple(samples), read=lambda _: one, judge={}), samples)]
    assert max(parts) == _ROWS
    assert sum(parts) == len(samples) == 2400


# COCO


def test_captions_become_samples_one_an_image(coco, tmp_path):
    samples = COCO(settings(tmp_path)).samples("official", seed=0, data=coco)
    assert [s.id for s in samples] == [str(n) for n in range(30)]
    assert samples[7].request.prompt == "a caption 7"
    some = COCO(settings(tmp_path, images=10)).samples("official", seed=1, data=coco)
    assert len(some) == 10
    assert {s.id for s in some} < {s.id for s in samples}
    identity = COCO(settings(tmp_path, images=10)).data_identity("official", seed=0, data=coco)
    assert (identity["rows"], identity["asked"]) == (10, 10)
    assert "smallest sha256" in identity["draw"]


def test_coco_s_distance_is_to_all_photographs(coco, tmp_path, see, means):
    _, found = results(COCO(settings(tmp_path, images=20)), coco, see)
    assert found["fid_20", ""].detail.startswith("Frechet distance of 20 images against 30, 3 features")
    assert {task for _, task in found} == {""}


def test_coco_s_archives_are_read_as_they_come(coco, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "annotations_trainval2014.zip", "w") as archive:
        archive.write(coco / "annotations" / "captions_val2014.json", "annotations/captions_val2014.json")
    with zipfile.ZipFile(packed / "val2014.zip", "w") as archive:
        for path in (coco / "val2014").iterdir():
            archive.write(path, f"val2014/{path.name}")
    benchmark = COCO(settings(tmp_path))
    assert benchmark.samples("official", seed=0, data=packed) == benchmark.samples("official", seed=0, data=coco)
    assert len(benchmark._reference(packed)) == 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data["annotations"].append({"id": 5, "image_id": 99, "caption": "x"}),
            r"annotations, row 60, field image_id: found 99",
        ),
        (lambda data: data["annotations"].append({"id": 5, "image_id": 1, "caption": ""}), r"annotations, row 60, field caption: found ''"),
        (lambda data: data["annotations"].append({"id": "5", "image_id": 1, "caption": "x"}), r"row 60, field id: found '5'"),
        (lambda data: data["images"].append({"id": 77}), "1 images have no caption, the first of them 77"),
        (lambda data: data.pop("images"), "the lists images and annotations"),
    ],
)
def test_broken_captions_are_named(coco, tmp_path, change, message):
    path = coco / "annotations" / "captions_val2014.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        COCO(settings(tmp_path)).samples("official", seed=0, data=coco)


def test_coco_of_another_size_is_refused(coco, tmp_path):
    with pytest.raises(UserError, match=r"holds 30 images with captions, not 40,504.*any_size=true"):
        COCO(Settings(weights=tmp_path / "w.pth")).samples("official", seed=0, data=coco)
    with pytest.raises(UserError, match=r"`jfeval data fetch coco`"):
        COCO(settings(tmp_path)).samples("official", seed=0, data=tmp_path)


def test_coco_s_shapes_edition_asks_for_different_scenes_by_one_caption():
    from jfeval.benchmarks.scene_sets import read_scene
    from jfeval.benchmarks.shapes.scene import bucket

    samples = COCO().samples("shapes", seed=2)
    assert len({s.request.prompt for s in samples}) == len(samples) == 640
    assert {bucket(read_scene(s)) for s in samples[::20]} == {"test"}
    assert COCO().data_identity("shapes", seed=2)["name"] == "coco-shapes"
