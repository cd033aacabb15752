import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.scorers.resizing import resize_bilinear, size_within


def picture(height, width, seed):
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (height, width, 3), dtype=np.uint8)


RECORDED = [
    ((384, 384), (800, 800), "556f843f3d31f74e"),
    ((37, 53), (91, 40), "046e39773e0b18f5"),
    ((20, 60), (10, 30), "ab8eb1442efff8e0"),
    ((5, 7), (5, 19), "4e0c2599501d6c0d"),
    ((900, 1000), (720, 800), "c1ae64288bff04ac"),
    ((2, 2), (11, 13), "bb9935db831120dc"),
]
"""How the sha256 of cv2.resize's bytes begins, INTER_LINEAR, the same from opencv-python-headless 4.11.0 and 5.0.0 on x86-64."""


@pytest.mark.parametrize(("before", "after", "digest"), RECORDED)
def test_every_byte_is_opencvs(before, after, digest):
    seed = [row[0] for row in RECORDED].index(before)
    resized = resize_bilinear(picture(*before, seed), *after)
    assert resized.shape == (*after, 3)
    assert hashlib.sha256(resized.tobytes()).hexdigest().startswith(digest)


@pytest.mark.parametrize(
    ("before", "after"), [((384, 384), (800, 800)), ((1024, 1024), (800, 800)), ((600, 400), (1200, 800)), ((100, 400), (333, 1333))]
)
def test_pictures_fit_into_1333_by_800(before, after):
    assert size_within(*before) == after


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_one_colour_stays_and_nothing_leaves_its_range(height, width, new_height, new_width, grey):
    plain = np.full((height, width, 3), grey, np.uint8)
    assert np.abs(resize_bilinear(plain, new_height, new_width).astype(int) - grey).max() <= 1
    noisy = picture(height, width, grey)
    resized = resize_bilinear(noisy, new_height, new_width)
    assert int(resized.max()) <= int(noisy.max())
    assert int(resized.min()) >= int(noisy.min()) - 1


def test_pictures_that_are_not_bytes_are_refused():
    with pytest.raises(ValueError, match="need uint8"):
        resize_bilinear(np.zeros((3, 3, 3), np.float32), 4, 4)
