import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.features import in_archive, in_folder, load_features, read_features
from jfeval.benchmarks.fid import compare, main
from jfeval.benchmarks.fid_metrics import label
from jfeval.benchmarks.scorers.frechet import frechet_distance, moments_of
from jfeval.errors import UserError


class Means:
    """A network of three features: the mean of each channel; counts what it is asked."""

    def __init__(self, recipe="clean"):
        self.recipe, self.seen = recipe, 0

    def identity(self):
        return {"network": "means", "recipe": self.recipe}

    def features(self, images):
        self.seen += len(images)
        rows = np.stack([np.asarray(image, np.float32).mean((0, 1)) for image in images])
        return rows, rows


def fill(folder, count, seed, size=(8, 8)):
    rng = np.random.default_rng(seed)
    for index in range(count):
        path = folder / f"class{index % 2}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def folders(tmp_path):
    return fill(tmp_path / "a", 40, 0), fill(tmp_path / "b", 50, 1), tmp_path / "cache"


def test_two_folders_have_the_distance_of_their_features(folders):
    a, b, cache = folders
    found = {m.name: m for m in compare(a, b, Means(), recipe="clean", cache=cache)}
    rows = [read_features(in_folder(folder), Means(), cache).rows for folder in (a, b)]
    expected = frechet_distance(moments_of([rows[0]]), moments_of([rows[1]]))
    assert found["fid40_clean"].value == pytest.approx(expected)
    assert found["fid40_clean"].ci_low < expected < found["fid40_clean"].ci_high
    assert "Error of both sides" in found["fid40_clean"].detail
    assert set(found) == {"fid40_clean", "fid40_clean_corrected", "kid_clean"}


def test_features_are_kept_until_something_changes(folders):
    a, _, cache = folders
    network = Means()
    first = read_features(in_folder(a), network, cache)
    assert (first.rows.shape, network.seen) == ((40, 3), 40)
    again = read_features(in_folder(a), network, cache)
    assert network.seen == 40
    np.testing.assert_array_equal(first.rows, again.rows)
    other = Means("gigagan")
    read_features(in_folder(a), other, cache)
    assert other.seen == 40
    Image.new("RGB", (8, 8)).save(a / "class0" / "000.png")
    assert read_features(in_folder(a), network, cache).rows[0].tolist() == [0, 0, 0]
    assert network.seen == 80


def test_numbers_are_named_because_the_distance_depends_on_them():
    assert [label(n) for n in (30_000, 10_000, 3_000, 29_999, 5)] == ["30k", "10k", "3k", "29999", "5"]


def test_bad_folders_are_named(folders, tmp_path):
    a, b, cache = folders
    with pytest.raises(UserError, match="holds 40 images, and 30,000 are expected"):
        compare(a, b, Means(), recipe="clean", cache=cache, expected=30_000)
    with pytest.raises(UserError, match="there is no folder"):
        in_folder(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds 0 images"):
        in_folder(tmp_path / "empty")
    Image.new("RGB", (9, 8)).save(a / "odd.png")
    with pytest.raises(UserError, match=r"mixed size: 40 of 8x8 \('class0/000\.png'\); 1 of 9x8 \('odd\.png'\)"):
        compare(a, b, Means(), recipe="clean", cache=cache)
    (b / "broken.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"1 of 51 images cannot be read: 'broken\.png'"):
        read_features(in_folder(b), Means(), cache)


def test_the_command_says_what_is_missing(folders, capsys):
    a, b, _ = folders
    assert main([str(a), str(b), "--weights", str(a / "none.pth")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_an_archive_is_the_folder_it_was_made_of(folders, tmp_path, monkeypatch):
    a, b, cache = folders
    archive = shutil.make_archive(tmp_path / "b", "zip", b)
    packed = read_features(in_archive(tmp_path / "b.zip"), Means(), cache)
    plain = read_features(in_folder(b), Means(), cache)
    assert (packed.key, packed.names) == (plain.key, plain.names)
    assert [m.value for m in compare(a, tmp_path / archive, Means(), recipe="clean", cache=cache)] == [
        m.value for m in compare(a, b, Means(), recipe="clean", cache=cache)
    ]
    opened = []
    plain_open = zipfile.ZipFile
    monkeypatch.setattr("jfeval.benchmarks.features.zipfile.ZipFile", lambda path: opened.append(path) or plain_open(path))
    assert all(file.read() for file in in_archive(tmp_path / "b.zip"))
    assert len(opened) <= 2  # to list it and to read all of it: a list of 30,000 names is not read 30,000 times
    monkeypatch.undo()
    (tmp_path / "no.zip").write_bytes(b"no")
    with pytest.raises(UserError, match="cannot be read as a ZIP archive"):
        in_archive(tmp_path / "no.zip")


def test_statistics_stand_for_their_images_and_count_as_given(folders, tmp_path):
    a, b, cache = folders
    saved = tmp_path / "b.npz"
    whole = compare(a, b, Means(), recipe="clean", cache=cache, save_statistics=saved)
    given = {m.name: m for m in compare(a, saved, Means(), recipe="clean", cache=cache)}
    assert set(given) == {"fid40_clean", "fid40_clean_corrected"}
    assert given["fid40_clean"].value == pytest.approx(whole[0].value)
    assert given["fid40_clean"].se < whole[0].se
    assert "the reference being given" in given["fid40_clean"].detail
    with pytest.raises(UserError, match="holds statistics already"):
        compare(a, saved, Means(), recipe="clean", cache=cache, save_statistics=tmp_path / "c.npz")


def test_statistics_of_another_recipe_are_refused(folders, tmp_path):
    a, b, cache = folders
    saved = tmp_path / "b.npz"
    compare(a, b, Means("gigagan"), recipe="gigagan", cache=cache, save_statistics=saved)
    with pytest.raises(UserError, match=r"statistics of another recipe: recipe 'gigagan' instead of 'clean'"):
        compare(a, saved, Means(), recipe="clean", cache=cache)
    np.savez(tmp_path / "bare.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(UserError, match=r"lacks mean, cov, n: statistics must say which network and recipe made them"):
        compare(a, tmp_path / "bare.npz", Means(), recipe="clean", cache=cache)
    saved.write_bytes(b"PK no")
    with pytest.raises(UserError, match="cannot be read as statistics"):
        compare(a, saved, Means(), recipe="clean", cache=cache)


def test_features_that_are_not_here_or_damaged_are_named(folders):
    a, _, cache = folders
    made = read_features(in_folder(a), Means(), cache)
    with pytest.raises(UserError, match="is not here"):
        load_features("0" * 64, cache)
    np.save(cache / f"{made.key}.npy", made.rows[:-1].copy())
    with pytest.raises(UserError, match="features of 39 images instead of 40"):
        load_features(made.key, cache)


def test_rows_of_one_category_are_found_by_their_folder(folders):
    a, _, cache = folders
    made = read_features(in_folder(a), Means(), cache)
    places = made.positions("class1")
    assert [made.names[i] for i in places] == [f"class1/{i:03d}.png" for i in range(1, 40, 2)]
    np.testing.assert_array_equal(np.concatenate(made.batches(places)), made.rows[places])
    assert made.positions("class").size == 0
