import numpy as np
import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.base import ImageJob
from jfeval.models.janusflow.live import LiveJanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.settings import SamplerSettings
from jfeval.models.memory import in_batches
from jfeval.models.shapes import WEIGHTS
from jfeval.models.training.vae import VaeSettings, build_vae


@pytest.fixture(scope="module")
def pipe():
    return JanusFlowPipeline.from_pretrained(WEIGHTS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_call_draws_every_prompt_as_often_as_asked(pipe):
    drawn = pipe(["a red circle", "a photo of a blue star"], num_inference_steps=2, num_images_per_prompt=2, generator=generator())
    assert [image.size for image in drawn.images] == [(64, 64)] * 4
    assert drawn.images[0].mode == "RGB"


def test_the_size_that_is_stated_is_the_size_that_is_drawn_with_any_vae(pipe):
    other = JanusFlowPipeline(pipe.model, pipe.processor, build_vae(VaeSettings(widths=(8, 8), groups=4)))
    for pipeline, side in ((pipe, 64), (other, 32)):
        system = LiveJanusFlow("live", pipeline, SamplerSettings(num_steps=1))
        (drawn,) = system.generate([ImageJob(prompt="a red circle", seed=0)])
        assert drawn.size == (system.image_size, system.image_size) == (side, side)


def test_pictures_do_not_depend_on_the_batch_size(pipe):
    prompts = ["a red circle", "a photo of two blue stars above a green ring", "a heart"]
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    one, three = (pipe(prompts, generator=generator(), batch_size=size, **options).images for size in (1, 3))
    torch.testing.assert_close(one, three, atol=2e-4, rtol=1e-3)


def test_output_types_agree(pipe):
    same = {"num_inference_steps": 2, "generator": None, "latents": torch.randn((1, *pipe.latent_shape), generator=generator())}
    pil, array, tensor, latent = (pipe("a red circle", output_type=kind, **same).images for kind in ("pil", "np", "pt", "latent"))
    assert array.shape == (1, 64, 64, 3)
    assert array.dtype == np.float32
    assert np.array_equal(array.transpose(0, 3, 1, 2), tensor.numpy())
    assert np.abs(np.asarray(pil[0]) / 255 - array[0]).max() <= 0.5 / 255 + 1e-6
    assert latent.shape == (1, *pipe.latent_shape)
    torch.testing.assert_close(pipe.decode_pixels(latent), tensor)


def test_one_generator_per_picture_gives_the_same_noise_as_alone(pipe):
    prompts = ["a red circle", "a heart"]
    together = pipe(prompts, num_inference_steps=2, generator=[generator(3), generator(4)], output_type="latent").images
    alone = pipe("a heart", num_inference_steps=2, generator=generator(4), output_type="latent").images
    torch.testing.assert_close(together[1:], alone, atol=2e-4, rtol=1e-3)


def test_the_callback_sees_every_step(pipe):
    seen = []
    pipe("a heart", num_inference_steps=3, time_shift=2.0, callback=lambda step, t, z: seen.append((step, t, tuple(z.shape))))
    assert [(step, shape) for step, _, shape in seen] == [(step, (1, *pipe.latent_shape)) for step in range(3)]
    assert [t for _, t, _ in seen] == SamplerSettings(num_steps=3, time_shift=2.0).times()[:-1]


def test_guidance_zero_follows_the_model_without_a_prompt(pipe):
    z = torch.randn((1, *pipe.latent_shape), generator=generator())
    one, other = (
        pipe(p, num_inference_steps=2, guidance_scale=0, latents=z, output_type="latent").images for p in ("a red star", "a blue ring")
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": []}, "no prompt"),
        ({"prompt": "a heart", "solvr": "heun"}, "solver"),
        ({"prompt": "a heart", "output_type": "jpg"}, "output_type"),
        ({"prompt": "a heart", "generator": [generator(), generator()]}, "2 generators for 1"),
        ({"prompt": "a heart", "latents": torch.zeros(1, 3, 8, 8)}, "latents have shape"),
        ({"prompt": "a heart", "num_images_per_prompt": 0}, "num_images_per_prompt"),
        ({"prompt": "red " * 5000}, "context has room for"),
    ],
)
def test_what_does_not_fit_is_refused(pipe, arguments, words):
    with pytest.raises(UserError, match=words):
        pipe(**arguments)


def limited(room):
    """Return a step that fails above `room` items, and the sizes it was asked for."""
    sizes = []

    def run(place):
        size = place.stop - place.start
        sizes.append(size)
        if size > room:
            raise torch.OutOfMemoryError("out of memory")
        return list(range(place.start, place.stop))

    return run, sizes


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(caplog):
    run, sizes = limited(3)
    assert [i for part in in_batches(10, 10, run) for i in part] == list(range(10))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert "batches of 2" in caplog.text


def test_one_item_that_does_not_fit_is_an_error():
    run, _ = limited(0)
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(4, 2, run)


def test_other_errors_are_not_taken_for_memory():
    def run(place):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(4, 2, run)
