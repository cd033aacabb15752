import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.janusflow.processing import ImageProcessor, Message, format_prompt

SMALL = ImageProcessor(image_size=32, min_size=4)


def test_wide_images_are_centred_on_the_mean_colour():
    pixels = SMALL(Image.new("RGB", (64, 32), (255, 255, 255)))
    assert pixels.shape == (3, 32, 32)
    assert torch.all(pixels[:, 8:24] == 1)
    border = (127 / 255 - 0.5) / 0.5
    assert torch.allclose(pixels[:, :8], torch.tensor(border))
    assert torch.allclose(pixels[:, 24:], torch.tensor(border))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["RGB", "RGBA", "L", "P", "1", "LA"]))
def test_every_size_and_mode_gives_a_finite_square(width, height, mode):
    pixels = SMALL(Image.new(mode, (width, height)))
    assert pixels.shape == (3, 32, 32)
    assert bool(torch.isfinite(pixels).all())
    assert pixels.abs().max() <= 1


def test_an_image_of_the_right_size_is_only_normalised():
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = torch.from_numpy(array).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(SMALL(Image.fromarray(array)), expected, atol=1e-6, rtol=0)


def test_open_turn_and_system_prompt():
    text = format_prompt([Message("User", " Hi "), Message("Assistant", "")], system="Be kind.")
    assert text == "Be kind.\n\nUser: Hi\n\nAssistant:"


def test_unknown_template_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'deepseek_old'"):
        format_prompt([], template="deepseek-old")
