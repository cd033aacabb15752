import json
import shutil

import numpy as np
import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.adapters.diffusion import Settings, load
from jfeval.schema import ImageJob

JOBS = [
    ImageJob(prompt="a photo of a red star", seed=3),
    ImageJob(prompt="a blue circle left of a star", seed=4),
    ImageJob(prompt="a photo of a red star", seed=5),
]


@pytest.fixture(scope="module")
def model(pipeline_folder):
    return load(Settings(path=str(pipeline_folder), num_steps=3, size=32, device="cpu"))


def pixels(images):
    return [np.asarray(image).astype(int) for image in images]


def test_a_picture_depends_on_its_own_job_alone(model):
    together = pixels(model.generate(JOBS))
    assert all(image.shape == (32, 32, 3) for image in together)
    for job, image in zip(JOBS, together, strict=True):
        assert np.abs(pixels(model.generate([job]))[0] - image).max() <= 1
    assert np.abs(together[0] - together[2]).max() > 1


def test_pictures_are_those_of_the_pipelines_own_call(model):
    own = model.pipeline(
        JOBS[0].prompt, num_inference_steps=3, height=32, width=32, generator=torch.Generator("cpu").manual_seed(JOBS[0].seed)
    ).images
    assert np.array_equal(*pixels([own[0], model.generate(JOBS[:1])[0]]))


def test_the_recipe_names_what_the_pipeline_does_by_itself(model):
    found = model.identity()
    assert found["pipeline"] == type(model.pipeline).__name__
    recipe = found["recipe"]
    assert recipe["num_inference_steps"] == 3
    assert (
        recipe["guidance_scale"]
        == {"StableDiffusionPipeline": 7.5, "StableDiffusionXLPipeline": 5.0, "FluxPipeline": 3.5}[found["pipeline"]]
    )
    assert recipe["scheduler"] == type(model.pipeline.scheduler).__name__
    assert len(found["weights"]) == 64
    json.dumps(found)


def test_settings_reach_the_pipeline(model, pipeline_folder):
    other = load(Settings(path=str(pipeline_folder), num_steps=2, size=32, guidance_scale=1.0, negative_prompt="blue", device="cpu"))
    assert other.identity()["recipe"]["guidance_scale"] == 1.0
    assert np.abs(pixels(other.generate(JOBS[:1]))[0] - pixels(model.generate(JOBS[:1]))[0]).max() > 0


def test_what_does_not_load_says_why(pipeline_folder, tmp_path):
    with pytest.raises(UserError, match="needs its pipeline"):
        load(Settings())
    with pytest.raises(UserError, match=r"holds no model_index\.json"):
        load(Settings(path=str(tmp_path)))
    broken = tmp_path / "broken"
    shutil.copytree(pipeline_folder, broken)
    shutil.rmtree(broken / "vae")
    with pytest.raises(UserError, match="does not load as a diffusers pipeline"):
        load(Settings(path=str(broken)))
    with pytest.raises(UserError, match="multiple of 8"):
        Settings(size=30)
    with pytest.raises(UserError, match="num_steps must be at least 1"):
        Settings(num_steps=0)
