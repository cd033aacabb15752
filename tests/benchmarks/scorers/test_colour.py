import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.scorers.colour import (
    COLOURS,
    CropSettings,
    build_classifier,
    colour_logits,
    colour_prompts,
    crop_object,
    name_colours,
)


def picture(width=4, height=3):
    pixels = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return pixels, Image.fromarray(pixels)


def test_outside_the_mask_lies_grey_then_the_box_is_cut():
    pixels, image = picture()
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    cut = np.asarray(crop_object(image, [0, 1, 3, 3, 0.9], mask, CropSettings()))
    assert cut.shape == (2, 3, 3)
    assert (cut[0, 0] == 0x99).all()
    assert (cut[0, 1:] == pixels[1, 1:3]).all()
    assert (cut[1] == 0x99).all()


def test_halves_round_to_even_and_beyond_the_frame_is_black():
    pixels, image = picture()
    cut = np.asarray(crop_object(image, [0.5, 1.5, 2.5, 4.0], None, CropSettings()))  # 0, 2, 2, 4
    assert cut.shape == (2, 2, 3)
    assert (cut[0] == pixels[2, :2]).all()
    assert (cut[1] == 0).all()


def test_options():
    pixels, image = picture()
    mask = np.zeros((3, 4), bool)
    assert (np.asarray(crop_object(image, [0, 0, 1, 1], mask, CropSettings(background="original", crop=False))) == pixels).all()
    assert (np.asarray(crop_object(image, [0, 0, 1, 1], mask, CropSettings(background="#123456", crop=False))) == [0x12, 0x34, 0x56]).all()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"mask is \(4, 3\), image is \(3, 4\)"):
        crop_object(picture()[1], [0, 0, 1, 1], np.ones((4, 3), bool), CropSettings())


def test_prompts_are_colour_major():
    texts = colour_prompts("dog")
    assert len(texts) == 30
    assert texts[:4] == ["a photo of a red dog", "a photo of a red-colored dog", "a photo of a red object", "a photo of a orange dog"]


def test_classifier_averages_directions_not_lengths():
    texts = np.array([[10.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.0, 5.0]])
    classifier = build_classifier(texts, classes=2)
    assert classifier[:, 0] == pytest.approx([2**-0.5, 2**-0.5])
    assert classifier[:, 1] == pytest.approx([0.0, 1.0])
    assert colour_logits(np.array([[0.0, 7.0]]), classifier)[0] == pytest.approx([100 * 2**-0.5, 100.0])


def test_rows_that_cannot_be_shared_evenly_are_refused():
    with pytest.raises(ValueError, match="7 text embeddings cannot be shared evenly by 2"):
        build_classifier(np.ones((7, 3)), classes=2)


def test_of_equal_logits_the_first_colour_is_named():
    logits = np.zeros((2, 10), np.float32)
    logits[1, [4, 7]] = 1
    assert name_colours(logits) == ["red", "blue"]
    assert COLOURS.index("blue") == 4
    with pytest.raises(ValueError, match=r"must be \(N, 10\)"):
        name_colours(np.zeros((2, 9)))
