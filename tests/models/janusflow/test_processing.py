import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.janusflow.processing import ImageProcessor, Message, as_rgb, format_prompt, load_processor

SMALL = ImageProcessor(image_size=32, min_size=4)


def test_wide_images_are_centred_on_the_mean_colour():
    pixels = SMALL(Image.new("RGB", (64, 32), (255, 255, 255)))
    assert pixels.shape == (3, 32, 32)
    assert torch.all(pixels[:, 8:24] == 1)
    border = (127 / 255 - 0.5) / 0.5
    assert torch.allclose(pixels[:, :8], torch.tensor(border))
    assert torch.allclose(pixels[:, 24:], torch.tensor(border))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["RGB", "RGBA", "L", "P", "1", "LA", "I;16", "I", "CMYK", "PA"]))
def test_every_size_and_mode_gives_a_finite_square(width, height, mode):
    pixels = SMALL(Image.new(mode, (width, height)))
    assert pixels.shape == (3, 32, 32)
    assert bool(torch.isfinite(pixels).all())
    assert pixels.abs().max() <= 1


def test_an_image_of_the_right_size_is_only_normalised():
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    expected = torch.from_numpy(array).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(SMALL(Image.fromarray(array)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (20_000, 300)])
def test_very_long_images_keep_the_smallest_side(size):
    pixels = SMALL(Image.new("RGB", size, "white"))
    assert pixels.shape == (3, 32, 32)
    white = (pixels == 1).all(dim=0)
    assert int(white.sum()) == 32 * 4


def test_one_pixel_fills_the_square():
    assert torch.all(SMALL(Image.new("RGB", (1, 1), (255, 0, 0))) == torch.tensor([1.0, -1.0, -1.0])[:, None, None])


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert list(as_rgb(image).getdata()) == [(255, 0, 0), (255, 255, 255)]
    image.putpixel((1, 0), (0, 0, 0, 51))
    assert as_rgb(image).getpixel((1, 0)) == (204, 204, 204)


def test_a_palette_with_a_transparent_colour_is_laid_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.putpixel((1, 0), 1)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    assert list(as_rgb(Image.open(buffer)).getdata()) == [(10, 20, 30), (255, 255, 255)]
    assert list(as_rgb(image).getdata()) == [(10, 20, 30), (0, 0, 0)]


def test_opaque_alpha_changes_nothing():
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    assert as_rgb(image.convert("RGBA")).tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_sixteen_bits_become_eight(mode):
    array = np.array([[0, 257, 65535]], np.uint16)
    image = Image.fromarray(array if mode == "I;16" else array.astype(np.int32))
    assert image.mode == mode
    assert list(as_rgb(image).getdata()) == [(0, 0, 0), (1, 1, 1), (255, 255, 255)]


def test_a_32_bit_image_that_holds_bytes_is_left_as_it_is():
    assert as_rgb(Image.fromarray(np.array([[7, 255]], np.int32))).getpixel((0, 0)) == (7, 7, 7)


def test_floating_point_pixels_are_refused():
    with pytest.raises(UserError, match="8 or 16 bits"):
        SMALL(Image.new("F", (4, 4)))


def test_a_rotated_photo_is_turned_upright():
    array = np.zeros((8, 32, 3), np.uint8)
    array[:, :16] = 255
    upright = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = 6  # the sensor's image must be turned by 90 degrees clockwise
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    torch.testing.assert_close(SMALL(Image.open(buffer)), SMALL(upright))


def test_damaged_exif_is_ignored():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(buffer, "PNG", exif=b"Exif\x00\x00no tiff at all")
    assert torch.all(SMALL(Image.open(buffer)) == 1)


def test_the_callers_image_is_left_alone():
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 100))
    before = image.tobytes()
    SMALL(image)
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (40, 20), before)


def test_open_turn_and_system_prompt():
    text = format_prompt([Message("User", " Hi "), Message("Assistant", "")], system="Be kind.")
    assert text == "Be kind.\n\nUser: Hi\n\nAssistant:"


def test_unknown_template_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'deepseek_old'"):
        format_prompt([], template="deepseek-old")


def test_the_published_processor_files_are_read(tokenizer, config, tmp_path):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<begin>"]})
    tokenizer.save_pretrained(tmp_path)
    chat = {"image_start_tag": "<begin>", "sft_format": "deepseek", "num_image_tokens": 16, "ignore_id": -100}
    (tmp_path / "processor_config.json").write_text(json.dumps(chat))
    pixels = {
        "image_size": 16,
        "min_size": 3,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.2, 0.2],
        "rescale_factor": 0.00392156862745098,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    processor = load_processor(tmp_path, config)
    assert processor.template == "deepseek"
    assert processor.image_start_id == tokenizer.convert_tokens_to_ids("<begin>")
    assert processor.images == ImageProcessor(image_size=16, min_size=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        ("processor_config.json", {"num_image_tokens": 576}, "num_image_tokens = 576, but this model needs 16"),
        ("processor_config.json", {"add_special_token": True}, "add_special_token = True"),
        ("processor_config.json", {"sft_format": "deepseek_odl"}, "did you mean 'deepseek_old'"),
        ("processor_config.json", {"image_tag": "<picture>"}, "does not know the special token '<picture>'"),
        ("processor_config.json", {"sft_format": [1]}, r"processor_config\.json: its sft_format must be text, not \[1\]"),
        ("processor_config.json", {"image_tag": 5}, r"processor_config\.json: the tag image_tag must be text, not 5"),
        ("processor_config.json", [], "holds no JSON object"),
        ("preprocessor_config.json", {"image_size": 384}, "image_size = 384, but this model needs 16"),
        ("preprocessor_config.json", {"do_normalize": False}, "do_normalize = False"),
        ("preprocessor_config.json", {"image_size": "16"}, "image_size = '16', but this model needs 16"),
        ("preprocessor_config.json", {"image_mean": 0.5}, r"preprocessor_config\.json: its image_mean must be three numbers .*, not 0\.5"),
        (
            "preprocessor_config.json",
            {"image_mean": [0.5, 0.5]},
            r"its image_mean must be three numbers between 0 and 1, not \[0\.5, 0\.5\]",
        ),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5, 0]}, "its image_std must be three numbers between 1e-06 and 1"),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5, "a"]}, "its image_std must be three numbers"),
        ("preprocessor_config.json", {"min_size": "x"}, r"preprocessor_config\.json: its min_size must be a whole number .*, not 'x'"),
    ],
)
def test_processor_settings_of_another_model_are_refused(tokenizer, config, tmp_path, file, settings, message):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / file).write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        load_processor(tmp_path, config)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ["", '{"version": ', "[1]"])
def test_damaged_files_are_named(tokenizer, config, tmp_path, file, text):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=rf"{file} (cannot be read as JSON|holds no JSON object); copy or download it again"):
        load_processor(tmp_path, config)


@pytest.mark.parametrize("content", [{}, {"version": "1.0", "model": {"type": "BPE"}}])
def test_a_file_without_a_tokenizer_is_named(tokenizer, config, tmp_path, content):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"tokenizer\.json, tokenizer_config\.json in .* hold no tokenizer that can be read; copy or download"
    ):
        load_processor(tmp_path, config)
