"""What is fetched of a pipeline's repository, against a hub of file names."""

import json
from types import SimpleNamespace

import pytest
from diffusers.pipelines import pipeline_utils
from huggingface_hub.utils import filter_repo_objects

from jfeval.errors import UserError
from jfeval.models.adapters.diffusion import Settings, load
from jfeval.models.adapters.pipelines import fetch_pipeline
from jfeval.models.hub import local_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}
WANTED = {
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
}
OTHER = {
    "README.md",
    "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.ckpt",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/diffusion_pytorch_model.fp16.bin",
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository in the form of Stable Diffusion 1.5; commits asked for are written down."""
    asked = []

    def hf_hub_download(name, file, *, revision, **_):
        asked.append(revision)
        (tmp_path / file).write_text(json.dumps(INDEX))
        return str(tmp_path / file)

    def snapshot_download(name, *, revision, allow_patterns, ignore_patterns, **_):
        asked.append(revision)
        for file in filter_repo_objects(WANTED | OTHER, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(json.dumps(INDEX))
        return str(tmp_path)

    listing = SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in WANTED | OTHER])
    monkeypatch.setattr(pipeline_utils, "_resolve_revision", lambda name, *, revision, **_: revision, raising=False)
    monkeypatch.setattr(pipeline_utils, "model_info", lambda name, **_: listing)
    monkeypatch.setattr(pipeline_utils, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(pipeline_utils, "snapshot_download", snapshot_download)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return asked


def test_each_components_weights_are_fetched_once_and_nothing_else(hub, tmp_path):
    folder = local_folder("owner/name", COMMIT, fetch=fetch_pipeline)
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == WANTED
    assert set(hub) == {COMMIT}


def test_the_adapter_fetches_so_and_offline_takes_what_is_there(monkeypatch, tmp_path):
    asked = []

    def download(name, **options):
        asked.append((name, options["revision"], options["local_files_only"]))
        return str(tmp_path)

    monkeypatch.setattr(pipeline_utils.DiffusionPipeline, "download", download)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"holds no model_index\.json"):
        load(Settings(path="owner/name", revision=COMMIT))
    assert asked == [("owner/name", COMMIT, True)]


def test_a_pipeline_that_diffusers_does_not_know_is_explained(hub, monkeypatch):
    monkeypatch.setitem(INDEX, "_class_name", "NoSuchPipeline")
    with pytest.raises(UserError, match=f"cannot get owner/name at {COMMIT}"):
        local_folder("owner/name", COMMIT, fetch=fetch_pipeline)
