"""The part ``diffusion`` of a recipe: trains `jfeval.models.training.diffusion`'s model on cached latents and writes it as a pipeline."""

import logging
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.pixart_alpha.pipeline_pixart_alpha import PixArtAlphaPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from PIL import Image
from torch import nn

from jfeval.models.compiling import compile_each
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.training.data import Scenes
from jfeval.models.training.diffusion import (
    NOISE,
    DiffusionObjective,
    DiffusionSettings,
    attend_plainly,
    build_text_encoder,
    build_transformer,
)
from jfeval.models.training.latents import LATENTS_FILE
from jfeval.models.training.loop import fit
from jfeval.models.training.part import Part
from jfeval.models.training.samples import SAMPLES_FILE, draw_samples
from jfeval.models.training.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

PIPELINE = "pipeline"
"""Folder of the result, within the part's."""
_CARD = """---
library_name: diffusers
pipeline_tag: text-to-image
tags: [pixart, synthetic]
---

# A diffusion model in PixArt-alpha's form, trained by jfeval

{parameters:,} parameters (transformer and text encoder), trained together from random weights on {drawings:,} pictures in {updates:,}
updates, beside a VAE that was trained before. It draws {side}x{side} pictures.

    jfeval run --model diffusers:FOLDER --benchmark geneval --edition shapes
"""


def train_diffusion(settings: DiffusionSettings, part: Part) -> dict[str, float]:
    """Train the denoiser and the prompt's encoder and write them, with VAE and tokenizer, in diffusers' form."""
    tokenizer = load_tokenizer(part.inputs["tokenizer"] / "tokenizer")
    latents = np.load(part.inputs["latents"] / LATENTS_FILE, mmap_mode="r")
    transformer = build_transformer(settings, channels=latents.shape[1], side=latents.shape[2])
    text_encoder = build_text_encoder(settings, tokenizer)
    objective = DiffusionObjective(transformer, text_encoder, tokenizer, Scenes.open_train(part.inputs["data"]), latents, settings)
    device = part.ranks.device(settings.loop.device)
    if device == "cpu":
        attend_plainly(transformer, text_encoder)
    if settings.compile_blocks:
        compile_each(transformer.transformer_blocks, device)
    parameters = _size(objective.module)
    log.info("%s: %d parameters, %d of them text encoder; %d drawings", part.name, parameters, _size(text_encoder), settings.drawings)
    result = fit(part.name, objective, settings.loop, part.folder, signature=part.hash)
    vae = load_vae(part.inputs["vae"] / VAE_FOLDER)
    reader: Any = tokenizer  # the pipeline says T5's, and any serves
    pipeline = PixArtAlphaPipeline(reader, text_encoder, vae, transformer, DPMSolverMultistepScheduler(**NOISE))
    folder = part.folder / PIPELINE
    shutil.rmtree(folder, ignore_errors=True)
    pipeline.save_pretrained(folder, safe_serialization=True)
    side = latents.shape[2] * pipeline.vae_scale_factor
    card = _CARD.format(parameters=parameters, drawings=settings.drawings, updates=settings.loop.steps, side=side)
    (folder / "README.md").write_text(card, encoding="utf-8")
    if settings.sample_prompts:
        pipeline.set_progress_bar_config(disable=True)
        draw_samples(settings.sample_prompts, partial(_draw, pipeline), part.folder / SAMPLES_FILE)
    drawn = {"updates": float(settings.loop.steps), "generation_samples": float(settings.drawings)}
    return {**result.losses, **drawn, "parameters": float(parameters), "seconds": result.seconds}


def _draw(pipeline: Any, prompts: list[str], seeds: list[int]) -> Sequence[Image.Image]:  # noqa: ANN401 - see above
    """Draw prompts with the pipeline's own settings."""
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipeline(prompts, generator=noise, use_resolution_binning=False, clean_caption=False).images


def _size(module: nn.Module) -> int:
    """Count parameters."""
    return sum(p.numel() for p in module.parameters())
