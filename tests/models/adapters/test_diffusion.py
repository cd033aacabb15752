import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jfeval.errors import UserError
from jfeval.models.adapters.diffusion import Settings, call_arguments, load, recipe
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
    stated = found["recipe"]
    assert stated["num_inference_steps"] == 3
    assert (
        stated["guidance_scale"]
        == {"StableDiffusionPipeline": 7.5, "StableDiffusionXLPipeline": 5.0, "FluxPipeline": 3.5}[found["pipeline"]]
    )
    assert stated["scheduler"] == type(model.pipeline.scheduler).__name__
    assert len(found["weights"]) == 64
    json.dumps(found)


def test_settings_reach_the_pipeline(model, pipeline_folder):
    words = "" if type(model.pipeline).__name__ == "FluxPipeline" else "blue"
    other = load(Settings(path=str(pipeline_folder), num_steps=2, size=32, guidance_scale=4.0, negative_prompt=words, device="cpu"))
    assert other.identity()["recipe"]["guidance_scale"] == 4.0
    assert np.abs(pixels(other.generate(JOBS[:1]))[0] - pixels(model.generate(JOBS[:1]))[0]).max() > 0


def test_a_negative_prompt_is_passed_on_or_refused_where_it_would_be_ignored(model):
    if type(model.pipeline).__name__ == "FluxPipeline":
        with pytest.raises(UserError, match=r"FluxPipeline ignores a negative_prompt at true_cfg_scale 1\.0, which must exceed 1"):
            call_arguments(model.pipeline, Settings(guidance_scale=4.0, negative_prompt="blue"))
        return
    assert call_arguments(model.pipeline, Settings(negative_prompt="blue"))["negative_prompt"] == "blue"
    with pytest.raises(UserError, match=r"ignores a negative_prompt at guidance_scale 1\.0, which must exceed 1"):
        call_arguments(model.pipeline, Settings(guidance_scale=1.0, negative_prompt="blue"))


def test_the_recipe_has_the_size_that_is_drawn(model, monkeypatch):
    if hasattr(model.pipeline, "default_sample_size"):  # of Flux 1024 pixels, whatever its parts
        monkeypatch.setattr(model.pipeline, "default_sample_size", 16)
    found = recipe(model.pipeline, call_arguments(model.pipeline, Settings()))
    own = model.pipeline(JOBS[0].prompt, num_inference_steps=1).images[0]
    assert (found["width"], found["height"]) == own.size


def test_no_watermark_is_drawn_even_where_its_package_is_installed(pipeline_folder, monkeypatch):
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as xl

    monkeypatch.setattr(xl, "is_invisible_watermark_available", lambda: True)
    monkeypatch.setattr(xl, "StableDiffusionXLWatermarker", object, raising=False)
    model = load(Settings(path=str(pipeline_folder), device="cpu"))
    assert getattr(model.pipeline, "watermark", None) is None
    assert ("watermark" in model.identity()["recipe"]) == (type(model.pipeline) is xl.StableDiffusionXLPipeline)


def test_memory_that_runs_out_is_left_to_the_harness(model, monkeypatch):
    sizes = []

    def full(prompts, **_):
        sizes.append(len(prompts))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "pipeline", full)
    with pytest.raises(torch.OutOfMemoryError):
        model.generate(JOBS)
    assert sizes == [3]


@pytest.mark.parametrize("part", ["denoiser", "text_encoder", "vae"])
def test_a_component_that_is_not_whole_is_refused_with_its_tensors(pipeline_folder, tmp_path, part):
    folder = shutil.copytree(pipeline_folder, tmp_path / "partial")
    if part == "denoiser":
        part = "unet" if (folder / "unet").is_dir() else "transformer"
    name = {"unet": "conv_in.bias", "transformer": "x_embedder.bias", "text_encoder": "position_embedding.weight", "vae": "conv_in.bias"}
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    gone = next(key for key in tensors if key.endswith(name[part]))
    save_file({key: tensor for key, tensor in tensors.items() if key != gone}, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{part} lacks 1 tensors, such as .*{name[part]}"):
        load(Settings(path=str(folder), device="cpu"))
    save_file({**tensors, gone: tensors[gone][:-1].clone()}, file, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{part}: 1 tensors have shapes .* such as .*{name[part]} \("):
        load(Settings(path=str(folder), device="cpu"))


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
