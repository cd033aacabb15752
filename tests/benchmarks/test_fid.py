import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.fid import compare, label, main, read_features
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
    rows = [read_features(folder, Means(), cache).rows for folder in (a, b)]
    expected = frechet_distance(moments_of([rows[0]]), moments_of([rows[1]]))
    assert found["fid40_clean"].value == pytest.approx(expected)
    assert found["fid40_clean"].ci_low < expected < found["fid40_clean"].ci_high
    assert "Error of both sides" in found["fid40_clean"].detail
    assert set(found) == {"fid40_clean", "fid40_clean_corrected", "kid_clean"}


def test_features_are_kept_until_something_changes(folders):
    a, _, cache = folders
    network = Means()
    first = read_features(a, network, cache)
    assert (first.rows.shape, network.seen) == ((40, 3), 40)
    again = read_features(a, network, cache)
    assert network.seen == 40
    np.testing.assert_array_equal(first.rows, again.rows)
    other = Means("gigagan")
    read_features(a, other, cache)
    assert other.seen == 40
    Image.new("RGB", (8, 8)).save(a / "class0" / "000.png")
    assert read_features(a, network, cache).rows[0].tolist() == [0, 0, 0]
    assert network.seen == 80


def test_numbers_are_named_because_the_distance_depends_on_them():
    assert [label(n) for n in (30_000, 10_000, 3_000, 29_999, 5)] == ["30k", "10k", "3k", "29999", "5"]


def test_bad_folders_are_named(folders, tmp_path):
    a, b, cache = folders
    with pytest.raises(UserError, match="holds 40 images, and 30,000 are expected"):
        compare(a, b, Means(), recipe="clean", cache=cache, expected=30_000)
    with pytest.raises(UserError, match="there is no folder"):
        read_features(tmp_path / "absent", Means(), cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds 0 images"):
        read_features(tmp_path / "empty", Means(), cache)
    Image.new("RGB", (9, 8)).save(a / "odd.png")
    with pytest.raises(UserError, match=r"mixed size: 40 of 8x8 \('class0/000\.png'\); 1 of 9x8 \('odd\.png'\)"):
        compare(a, b, Means(), recipe="clean", cache=cache)
    (b / "broken.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"1 of 51 images cannot be read: 'broken\.png'"):
        read_features(b, Means(), cache)


def test_the_command_says_what_is_missing(folders, capsys):
    a, b, _ = folders
    assert main([str(a), str(b), "--weights", str(a / "none.pth")]) == 2
    assert "there is no file" in capsys.readouterr().err
