import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.scorers.image_recipes import RECIPES, prepare, square
from jfeval.errors import UserError

SIZES = [(64, 64), (384, 384), (299, 299), (300, 1), (37, 512), (1024, 768)]


def noise(size, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_flat_image_stays_flat(recipe):
    found = prepare(Image.new("RGB", (50, 40), (255, 128, 0)), recipe)
    expected = [1.0, 128 / 255 * 2 - 1, -1.0] if recipe == "pytorch-fid" else [127 / 128, 0.0, -1.0]
    assert (found.shape, found.dtype) == ((3, 299, 299), np.float32)
    np.testing.assert_allclose(found.reshape(3, -1).T, np.broadcast_to(expected, (299 * 299, 3)), atol=1e-4)


def test_recipes_differ_and_unknown_ones_are_named():
    found = [prepare(noise((400, 300)), recipe) for recipe in RECIPES]
    assert all(np.abs(a - b).max() > 1e-2 for i, a in enumerate(found) for b in found[:i])
    with pytest.raises(UserError, match="unknown FID recipe 'cleen'; did you mean 'clean'"):
        prepare(noise((8, 8)), "cleen")


def test_other_modes_are_read_as_rgb():
    grey = noise((40, 40)).convert("L")
    assert np.array_equal(prepare(grey, "clean"), prepare(grey.convert("RGB"), "clean"))


def test_gigagan_crops_the_centre_then_goes_on_as_clean():
    wide = Image.new("RGB", (300, 100), (255, 0, 0))
    wide.paste((0, 255, 0), (100, 0, 200, 100))
    assert square(wide, 256).getcolors() == [(256 * 256, (0, 255, 0))]
    image = noise((384, 384))
    assert np.array_equal(prepare(image, "gigagan"), prepare(image.resize((256, 256), Image.Resampling.LANCZOS), "clean"))


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_the_package_s_resizing(size):
    resize = pytest.importorskip("cleanfid.resize", reason="clean-fid is not installed")
    expected = resize.build_resizer("clean")(np.asarray(noise(size)))
    assert np.array_equal(prepare(noise(size), "clean"), (expected.transpose(2, 0, 1) - 128) / 128)


@pytest.mark.parametrize("size", SIZES)
def test_torch_fidelity_is_the_package_s_resizing(size):
    package = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow", reason="torch-fidelity is not installed")
    import torch

    batch = torch.from_numpy(np.asarray(noise(size)).transpose(2, 0, 1)[None].copy()).float()
    expected = package.interpolate_bilinear_2d_like_tensorflow1x(batch, size=(299, 299), align_corners=False)
    np.testing.assert_allclose(prepare(noise(size), "torch-fidelity"), ((expected[0] - 128) / 128).numpy(), atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_pytorch_fid_is_torch_s_bilinear(size):
    import torch

    batch = torch.from_numpy(np.asarray(noise(size)).transpose(2, 0, 1)[None].copy()).float() / 255
    expected = 2 * torch.nn.functional.interpolate(batch, size=(299, 299), mode="bilinear", align_corners=False) - 1
    assert np.array_equal(prepare(noise(size), "pytorch-fid"), expected[0].numpy())
