"""The finished model as one folder that anybody can load."""

import json
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import ImageProcessor, load_processor
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.training.card import card, read_learned
from jfeval.models.training.part import Part


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The finished model's folder."""

    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    """Type of the stored weights; float16 halves the folder and changes no verdict that was seen."""
    max_megabytes: float = 20.0
    """A larger folder is an error: the embedded model is shipped with the package."""
    shard_megabytes: float = 9.0
    """Largest weights file."""


def export(settings: ExportSettings, part: Part) -> dict[str, float]:
    """Write model, tokenizer and VAE as one folder that `JanusFlowPipeline.from_pretrained` reads."""
    out = part.folder / "model"
    shutil.rmtree(out, ignore_errors=True)
    kind = getattr(torch, settings.dtype)
    model = JanusFlow.from_pretrained(part.inputs["start"])
    model.save_pretrained(out, dtype=kind, shard_bytes=int(settings.shard_megabytes * 1e6))
    for file in sorted((part.inputs["tokenizer"] / "tokenizer").glob("*.json")):
        shutil.copyfile(file, out / file.name)
    vae = load_vae(part.inputs["vae"] / VAE_FOLDER, kind)
    vae.save_pretrained(out / VAE_FOLDER, safe_serialization=True)
    images = ImageProcessor(image_size=model.config.vision.image_size)
    preprocessing = {"image_size": images.image_size, "min_size": images.min_size, "image_mean": images.mean, "image_std": images.std}
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(read_learned(part.inputs["start"])), encoding="utf-8")
    load_processor(out, model.config)
    megabytes = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    if megabytes > settings.max_megabytes:
        raise UserError(f"the exported model has {megabytes:.1f} MB, more than max_megabytes = {settings.max_megabytes}")
    return {"megabytes": megabytes}
