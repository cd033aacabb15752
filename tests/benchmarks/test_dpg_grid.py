import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.dpg_grid import list_pictures, open_cells, split_grid
from jfeval.errors import UserError


def plain(value, size=(8, 8)):
    return Image.new("RGB", size, (value, value, value))


def grid():
    image = Image.new("RGB", (16, 16))
    for value, corner in zip((10, 20, 30, 40), [(0, 0), (8, 0), (0, 8), (8, 8)], strict=True):
        image.paste(plain(value), corner)
    return image


def test_cells_come_in_reading_order(tmp_path):
    grid().save(tmp_path / "a.png")
    assert [np.asarray(cell).mean() for cell in open_cells((tmp_path / "a.png",), count=4, side=8)] == [10, 20, 30, 40]
    assert [np.asarray(cell).mean() for cell in split_grid(grid(), count=2, side=8, where="a")] == [10, 20]


@pytest.mark.parametrize("size", [(16, 15), (15, 16), (32, 32), (8, 8)])
def test_a_grid_of_another_size_is_refused_with_both_sizes(size):
    with pytest.raises(UserError, match=rf"has {size[0]}x{size[1]} pixels; 4 cells of 8x8 need 16x16"):
        split_grid(plain(0, size), count=4, side=8, where="a.png")


def test_missing_and_extra_pictures_are_listed(tmp_path):
    grid().save(tmp_path / "a.b.png")  # the stem ends at the first dot
    grid().save(tmp_path / "stranger.png")
    (tmp_path / "note.txt").write_text("not a picture")
    (tmp_path / "c").mkdir()
    for number in (10, 2):
        plain(number).save(tmp_path / "c" / f"{number}.png")
    listing = list_pictures(tmp_path, ["a", "b", "c"])
    assert (listing.missing, listing.extra, listing.complete) == (("b",), ("stranger",), False)
    cells = open_cells(listing.pictures["c"], count=2, side=8)
    assert [np.asarray(cell).mean() for cell in cells] == [2, 10]
    with pytest.raises(UserError, match="holds 2 pictures, and 4 are asked for"):
        open_cells(listing.pictures["c"], count=4, side=8)


def test_broken_mixed_and_doubled_pictures_are_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(UserError, match=r"a\.png cannot be read as a picture"):
        open_cells((tmp_path / "a.png",), count=4, side=8)
    plain(1).save(tmp_path / "0.png")
    plain(1, (8, 9)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"1\.png has 8x9 pixels, and 8x8 are asked for"):
        open_cells((tmp_path / "0.png", tmp_path / "1.png"), count=2, side=8)
    plain(1).save(tmp_path / "0.jpg")
    with pytest.raises(UserError, match="two pictures of item '0'"):
        list_pictures(tmp_path, ["0"])
