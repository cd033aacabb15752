"""The finished model as one folder that anybody can load."""

import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.training.card import card, read_learned, write_learned
from jfeval.models.training.part import Part
from jfeval.models.training.snapshots import plain_processor, write_pipeline


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
    model, tokenizer = JanusFlow.from_pretrained(part.inputs["start"]), part.inputs["tokenizer"] / "tokenizer"
    pipeline = JanusFlowPipeline(model, plain_processor(tokenizer, model), load_vae(part.inputs["vae"] / VAE_FOLDER, kind))
    write_pipeline(pipeline, tokenizer, out, dtype=kind, shard_bytes=int(settings.shard_megabytes * 1e6))
    learned = read_learned(part.inputs["start"])
    write_learned(out, learned)  # for the card of what is trained from this model
    (out / "README.md").write_text(card(learned), encoding="utf-8")
    megabytes = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    if megabytes > settings.max_megabytes:
        raise UserError(f"the exported model has {megabytes:.1f} MB, more than max_megabytes = {settings.max_megabytes}")
    return {"megabytes": megabytes}
