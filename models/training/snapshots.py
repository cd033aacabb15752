"""Checkpoints of a stage as models: to be scored while the training goes on, or exported for anybody to load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from jfeval.errors import UserError
from jfeval.models.janusflow.folders import TEXT_FILES
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.processing import ImageProcessor, Processor, load_processor
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.training.checkpoints import CHECKPOINTS_FOLDER, complete
from jfeval.models.training.encoders import empty_model, save_config, save_stage

PIPELINE_FILE = "pipeline.json"
_MODEL, _CHECKPOINT = "model.", "step-"


def companion(model: JanusFlow, tokenizer: Path, vae: Path) -> Callable[[Path], None]:
    """Return what writes into a checkpoint the model's sizes and where its tokenizer and VAE lie."""

    def write(folder: Path) -> None:
        save_config(model, folder)
        places = {"tokenizer": str(tokenizer.resolve()), "vae": str(vae.resolve())}
        (folder / PIPELINE_FILE).write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")

    return write


def plain_processor(tokenizer: Path, model: JanusFlow) -> Processor:
    """Load a tokenizer's folder for a model that this package trains."""
    images = ImageProcessor(image_size=model.config.vision.image_size)
    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer, local_files_only=True)
    return Processor(loaded, images, tokens_per_image=model.config.vision.tokens)


def checkpoints(folder: Path) -> list[Path]:
    """List the whole checkpoints in a folder or its ``checkpoints``, oldest first."""
    return sorted((p for place in (folder, folder / CHECKPOINTS_FOLDER) for p in complete(place)), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the updates done before a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_CHECKPOINT))


def load_checkpoint(checkpoint: Path, *, averaged: bool = True, device: str = "cpu") -> JanusFlowPipeline:
    """Load a checkpoint as a pipeline.

    Args:
        checkpoint: A folder ``step-...`` of a stage.
        averaged: Take the moving average of the weights, where one was kept, as the published model does.
        device: Where to run it.

    Raises:
        UserError: It is no checkpoint of a stage, or what it refers to is gone.
    """
    if not (checkpoint / PIPELINE_FILE).is_file():
        raise UserError(f"{checkpoint} is no checkpoint of a stage: it has no {PIPELINE_FILE}; give a folder step-... of one")
    model = empty_model(checkpoint)
    stored = {n.removeprefix(_MODEL): t for n, t in load_file(checkpoint / "model.safetensors").items() if n.startswith(_MODEL)}
    average = checkpoint / "ema.safetensors"
    if averaged and average.is_file():
        stored |= {n.removeprefix(_MODEL): t for n, t in load_file(average).items() if n.startswith(_MODEL)}
    missing = sorted(model.state_dict().keys() - stored.keys())
    if missing and not model.config.language.tie_word_embeddings:
        raise UserError(f"{checkpoint} lacks {len(missing)} tensors, among them {missing[0]}")
    model.load_state_dict(stored, strict=False)
    places = {name: Path(path) for name, path in json.loads((checkpoint / PIPELINE_FILE).read_text("utf-8")).items()}
    for name, path in places.items():
        if not path.is_dir():
            raise UserError(f"the {name} of {checkpoint} is no longer at {path}; put it back, or mend {PIPELINE_FILE}")
    processor, vae = plain_processor(places["tokenizer"], model), load_vae(places["vae"])
    return JanusFlowPipeline(model.to(device), processor, vae.to(device))  # pyright: ignore[reportArgumentType, reportCallIssue] - diffusers wraps to()


def export_checkpoint(checkpoint: Path, out: Path, *, averaged: bool = True, dtype: torch.dtype = torch.float32) -> Path:
    """Write a checkpoint as one folder: ``save_pretrained`` form, tokenizer and VAE; `JanusFlowPipeline.from_pretrained` reads it.

    Raises:
        UserError: See `load_checkpoint`; or ``out`` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder")
    pipeline = load_checkpoint(checkpoint, averaged=averaged)
    places = json.loads((checkpoint / PIPELINE_FILE).read_text("utf-8"))
    write_pipeline(pipeline, Path(places["tokenizer"]), out, dtype=dtype)
    return out


def write_pipeline(pipeline: JanusFlowPipeline, tokenizer: Path, out: Path, *, dtype: torch.dtype, shard_bytes: int = 0) -> None:
    """Write a trained model, its tokenizer and its VAE as one folder that `JanusFlowPipeline.from_pretrained` reads.

    A model that understands through latents has no published form; it is written as `encoders.load_stage` reads it.

    Args:
        pipeline: The model with its VAE, whose type is kept.
        tokenizer: Folder of the tokenizer; what else lies there, such as a language model's configuration, is left there.
        out: The folder; made if it is missing.
        dtype: Type of the model's stored weights.
        shard_bytes: Largest weights file; 0 for the default.

    Raises:
        UserError: The tokenizer has more tokens than the model.
    """
    out.mkdir(parents=True, exist_ok=True)
    save_stage(pipeline.model, out, dtype=dtype, shard_bytes=shard_bytes)
    for name in TEXT_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)
    pipeline.vae.save_pretrained(out / VAE_FOLDER, safe_serialization=True)
    images = pipeline.processor.images
    preprocessing = {"image_size": images.image_size, "min_size": images.min_size, "image_mean": images.mean, "image_std": images.std}
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n", encoding="utf-8")
    load_processor(out, pipeline.model.config)
