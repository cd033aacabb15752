"""JanusFlow's stages of training.

Source: paper section 3.2 and table 1: stage 1 adapts the new parts, stage 2 trains all but the understanding encoder, stage 3 trains
that too. Each stage starts from the averaged weights of the one before; the VAE is frozen throughout.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn

from jfeval.errors import UserError
from jfeval.models.compiling import compile_each
from jfeval.models.janusflow.config import FlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.parts import from_parts
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.processing import Processor
from jfeval.models.janusflow.uvit import ConvNeXtBlock
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.card import Learned, read_learned, write_learned
from jfeval.models.training.checkpoints import EMA_FILE
from jfeval.models.training.corpus import plain_texts
from jfeval.models.training.data import Scenes, seeded
from jfeval.models.training.encoders import (
    LatentEncoder,
    alignment_target,
    fill,
    load_stage,
    read_through_latents,
    reading_of,
    save_stage,
)
from jfeval.models.training.features import open_features
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.kept import kept_beside
from jfeval.models.training.latents import LATENTS_FILE
from jfeval.models.training.loop import check_processes, fit
from jfeval.models.training.mixture import Mixture
from jfeval.models.training.objectives import AlignmentHead
from jfeval.models.training.part import Part
from jfeval.models.training.ratios import KINDS
from jfeval.models.training.recipe import Recipe
from jfeval.models.training.samples import SAMPLES_FILE, draw_samples, samples_file
from jfeval.models.training.skipped import SKIPPED_FILE, Skipped
from jfeval.models.training.snapshots import checkpoints, companion, load_checkpoint, plain_processor
from jfeval.models.training.sources import SOURCES_FILE, read_settings
from jfeval.models.training.stream import PackedObjective, StreamMixture

log = logging.getLogger(__name__)

HEAD_FILE = "alignment_head.safetensors"


def assemble(settings: StageSettings, part: Part) -> JanusFlow:
    """Build JanusFlow around a trained language model and a trained understanding encoder; the flow parts start at random."""
    flow = FlowConfig(width=settings.flow_width)
    language, vision = part.inputs["lm"] / "lm", part.inputs["contrastive"] / "siglip"
    model = from_parts(language, vision, flow=flow, seed=settings.loop.seed, dtype=torch.float32)
    if settings.understands_through != "contrastive":
        vae = load_vae(part.inputs["vae"] / VAE_FOLDER)
        read_through_latents(model, vae, settings.understands_through, seed=settings.loop.seed + 2)
    return model


def _start(settings: StageSettings, part: Part) -> JanusFlow:
    """Load the model that an earlier stage trained.

    Raises:
        UserError: The settings ask for a model of another form.
    """
    model = load_stage(part.inputs["start"])
    plain = {item.name: item.default for item in fields(StageSettings)}
    for name, found in {"flow_width": model.config.flow.width, "understands_through": reading_of(model)}.items():
        if getattr(settings, name) not in (plain[name], found):
            raise UserError(
                f"{part.name}: {name} = {getattr(settings, name)}, but the stage it starts from has {found}, and later stages keep that: "
                f"leave {name} out, or set it in the first stage"
            )
    return model


def attend_eagerly(model: JanusFlow) -> None:
    """Let both transformers attend by plain matrix products: on a CPU and over short sequences, fused attention is slower."""
    encoder = model.vision_und_enc_model
    model.language_model.model.config._attn_implementation = "eager"
    if isinstance(encoder, VisionTower):
        encoder.vision_tower.config._attn_implementation = "eager"


def train_stage(settings: StageSettings, part: Part) -> dict[str, Any]:
    """Train one stage: from the parts (inputs ``lm`` and ``contrastive``) or from an earlier stage (input ``start``).

    Where alignment aims at the pre-trained encoder instead of the model's own, ``contrastive`` is an input of every stage.
    """
    model = _start(settings, part) if "start" in part.inputs else assemble(settings, part)
    streamed = (part.inputs["data"] / SOURCES_FILE).is_file()
    if not streamed and part.ranks.device(settings.loop.device) == "cpu":
        attend_eagerly(model)
    model.checkpoint_activations(settings.checkpoint_activations)
    if settings.compile_blocks:
        compile_blocks(model, part.ranks.device(settings.loop.device))
    processor = stage_processor(part.inputs["tokenizer"], model)
    head = alignment_head(model, settings, part)
    vae = load_vae(part.inputs["vae"] / VAE_FOLDER)
    target = stage_target(model, settings, part)
    build = stream_objective if streamed else scenes_objective
    objective = build(model, head, target, vae, processor, settings, part)
    pipeline, scored = JanusFlowPipeline(model, processor, vae), part.evaluate
    evaluate = None if scored is None else lambda step: scored(pipeline, part.name, step)
    draw = None
    if settings.sample_every and settings.sample_prompts and part.ranks.size > 1:
        log.info("%s: a model that is divided among processes cannot draw while it is trained; samples are drawn at the end", part.name)
    elif settings.sample_every and settings.sample_prompts:
        draw = settings.sample_every, lambda step: draw_sample_prompts(pipeline, settings, part.folder / samples_file(step))
    if evaluate is not None or draw is not None:
        vae.to(part.ranks.device(settings.loop.device))  # pyright: ignore[reportArgumentType, reportCallIssue] - diffusers wraps to()
    if part.ranks.size > 1 and evaluate is not None and settings.loop.evaluate_every:
        raise UserError(f"{part.name}: a divided model cannot be evaluated while it is trained; use `jfeval watch` beside the training")
    if part.ranks.size > 1 and not streamed:
        _check_kinds(part.name, settings)
    describe = companion(model, part.inputs["tokenizer"] / "tokenizer", part.inputs["vae"] / VAE_FOLDER)
    size = float(sum(p.numel() for p in model.parameters()))
    options: dict[str, Any] = {"signature": part.hash, "evaluate": evaluate, "draw": draw, "companion": describe, "ranks": part.ranks}
    result = fit(part.name, objective, settings.loop, part.folder, **options)
    found = together(part.ranks.gather(objective.found()))
    vae.to("cpu")  # pyright: ignore[reportArgumentType, reportCallIssue]
    if part.ranks.first:
        if part.ranks.size > 1:
            pipeline, head = from_last_checkpoint(part.folder, head)
        save_stage(pipeline.model, part.folder)
        note_learned(settings, part, found)
        if head is not None:
            save_file(head.state_dict(), part.folder / HEAD_FILE)
        if settings.sample_prompts:
            draw_sample_prompts(pipeline, settings, part.folder / SAMPLES_FILE)
    samples = settings.mixture.samples(settings.loop.steps, settings.loop.accumulate)
    log.info("%s learned from %s", part.name, ", ".join(f"{n} {kind} ({n / sum(samples):.2%})" for kind, n in samples._asdict().items()))
    seen = {f"{kind}_samples": float(n) for kind, n in samples._asdict().items()}
    return {**result.losses, **seen, **found, "parameters": size, "seconds": result.seconds}


def note_learned(settings: StageSettings, part: Part, found: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Write what this stage and those before it learned from, for the model's card."""
    samples = settings.mixture.samples(settings.loop.steps, settings.loop.accumulate)._asdict()
    skipped = {source: len(names) for source, names in found.get("skipped", {}).items()}
    before = read_learned(part.inputs["start"]) if "start" in part.inputs else []
    write_learned(part.folder, [*before, Learned(stage=part.name, updates=settings.loop.steps, samples=samples, skipped=skipped)])


def check_stages(recipe: Recipe, processes: int, wanted: Callable[[str], bool]) -> None:
    """Check, before the first part is made, that so many processes can train a recipe's stages.

    Args:
        recipe: The parts.
        processes: How many train together.
        wanted: Tells by name whether a stage is to be trained.

    Raises:
        UserError: naming the first stage that they cannot train.
    """
    kinds = {plan.name: plan.kind for plan in recipe.parts}
    for plan in recipe.parts:
        if plan.kind == "stage" and wanted(plan.name):
            check_processes(plan.name, plan.settings.loop, processes)
            if processes > 1 and kinds.get(plan.inputs.get("data", "")) == "data":
                _check_kinds(plan.name, plan.settings)


def _check_kinds(name: str, settings: StageSettings) -> None:
    """Refuse batches of decoded scenes that do not all run through the language model equally often.

    Raises:
        UserError: Not every batch has every kind of its phase.
    """
    m = settings.mixture
    rare = [
        f"{share:g} of {kind}"
        for phase in m.phases
        for kind, share in zip(KINDS, phase.shares, strict=True)
        if 0 < share * m.batch_size < 1
    ]
    if rare:
        raise UserError(
            f"{name}: with several processes every batch needs every kind; {rare[0]} is less than one of {m.batch_size} samples"
        )


def together(found: Sequence[Mapping[str, Mapping[str, Sequence[str]]]]) -> dict[str, dict[str, list[str]]]:
    """Put together what the processes tell about their data: names by topic and source, each once."""
    joined: dict[str, dict[str, list[str]]] = {}
    for topic, by_source in (item for one in found for item in one.items()):
        merged = joined.setdefault(topic, {})
        for source, names in by_source.items():
            merged[source] = list(dict.fromkeys([*merged.get(source, ()), *names]))
    return joined


def from_last_checkpoint(folder: Path, head: AlignmentHead | None) -> tuple[JanusFlowPipeline, AlignmentHead | None]:
    """Load what several processes trained, which is divided among them, from the stage's last checkpoint; averaged, as the result is."""
    newest = checkpoints(folder)[-1]
    if head is not None:
        head = AlignmentHead(*head.form)
        stored = {**load_file(newest / "model.safetensors"), **(load_file(newest / EMA_FILE) if (newest / EMA_FILE).is_file() else {})}
        head.load_state_dict({name.removeprefix("head."): tensor for name, tensor in stored.items() if name.startswith("head.")})
    return load_checkpoint(newest), head


def scenes_objective(
    model: JanusFlow,
    head: AlignmentHead | None,
    target: nn.Module | None,
    vae: AutoencoderKL,  # noqa: ARG001 - decoded scenes have cached latents
    processor: Processor,
    settings: StageSettings,
    part: Part,
) -> JanusFlowObjective:
    """Build the objective over decoded scenes and their cached latents.

    Raises:
        UserError: The latents are of another grid than the model's.
    """
    scenes, kept = Scenes.open_train(part.inputs["data"]), part.inputs.get("features")
    mixture = Mixture(
        scenes=scenes,
        features=None if kept is None else open_features(kept, model, scenes, frozen="vision" in settings.freeze),
        latents=np.load(part.inputs["latents"] / LATENTS_FILE, mmap_mode="r"),
        texts=plain_texts(part.inputs["data"]),
        processor=processor,
        settings=settings.mixture,
        flow=settings.flow,
        seed=settings.loop.seed,
        accumulate=settings.loop.accumulate,
    )
    _check_grid("cached", mixture.latents.shape[1:], model)
    return JanusFlowObjective(model, head, mixture, settings, target)


def stream_objective(
    model: JanusFlow,
    head: AlignmentHead | None,
    target: nn.Module | None,
    vae: AutoencoderKL,
    processor: Processor,
    settings: StageSettings,
    part: Part,
) -> JanusFlowObjective:
    """Build the objective over packed samples of data sources.

    Raises:
        UserError: The VAE's latents are of another grid than the model's.
    """
    side = model.config.vision.image_size // 2 ** (len(vae.config["block_out_channels"]) - 1)
    _check_grid("VAE's", (vae.config["latent_channels"], side, side), model)
    mixture = StreamMixture(
        read_settings(part.inputs["data"]),
        processor,
        model.config,
        settings.mixture,
        settings.flow,
        seed=settings.loop.seed,
        accumulate=settings.loop.accumulate,
        stride=part.ranks.size,
        known=Skipped(part.folder / SKIPPED_FILE),
    )
    return PackedObjective(model, head, mixture, settings, target, vae, kept_beside(part.inputs["data"], settings.keep_gib))


def _check_grid(whose: str, found: tuple[int, ...], model: JanusFlow) -> None:
    """Refuse latents (C, h, w) that the model does not draw."""
    config = model.config
    expected = (config.flow.latent_channels, config.latent_size, config.latent_size)
    if found != expected:
        raise UserError(
            f"the {whose} latents have shape {found}, the model draws {expected}: "
            f"the VAE's reduction and the understanding encoder's patches (times {config.flow.patch}) must give one grid"
        )


def stage_target(model: JanusFlow, settings: StageSettings, part: Part) -> nn.Module | None:
    """Return the frozen encoder that is aligned to; None for the model's own, or where the stage trains without alignment.

    Raises:
        UserError: The model understands through latents and the settings do not say what to align to.
    """
    wanted = settings.flow.repa_target
    if not settings.flow.repa_weight:
        return None
    if isinstance(model.vision_und_enc_model, LatentEncoder) and wanted in ("encoder", "shuffled"):
        raise UserError(
            f"{part.name}: the model understands through latents, so flow.repa_target must be contrastive or random, not {wanted}; "
            "aligning to an encoder that starts at random teaches nothing"
        )
    siglip = part.inputs["contrastive"] / "siglip" if "contrastive" in part.inputs else None
    return alignment_target(wanted, siglip, model.config.vision, seed=settings.loop.seed + 3)


def compile_blocks(model: JanusFlow, device: str) -> None:
    """Compile the blocks where most of the time goes, not the whole model: that would take minutes for the same speed."""
    encoder: nn.Module = model.vision_und_enc_model
    tower = encoder.vision_tower.encoder.layers if isinstance(encoder, VisionTower) else ()
    convolutional = [module for module in model.modules() if isinstance(module, ConvNeXtBlock)]
    compile_each((*model.language_model.model.layers, *tower, *convolutional), device)


def alignment_head(model: JanusFlow, settings: StageSettings, part: Part) -> AlignmentHead | None:
    """Build the alignment MLP, or continue the earlier stage's; None where the stage trains without alignment."""
    if not settings.flow.repa_weight:
        return None
    width = model.config.language.hidden_size
    with seeded(settings.loop.seed + 1):
        head = AlignmentHead(width, settings.flow.repa_width or width, model.config.vision.width, settings.flow.repa_activation)
    before = part.inputs["start"] / HEAD_FILE if "start" in part.inputs else None
    if before is not None and before.is_file():
        fill(head, load_file(before), f"keep flow.repa_width, the width of the alignment MLP in {before}, through all stages")
    return head


def stage_processor(tokenizer: Path, model: JanusFlow) -> Processor:
    """Load the tokenizer that an earlier part trained, from the part's folder."""
    return plain_processor(tokenizer / "tokenizer", model)


def draw_sample_prompts(pipeline: JanusFlowPipeline, settings: StageSettings, path: Path) -> Path:
    """Draw the stage's sample prompts; see `draw_samples`."""
    with torch.compiler.set_stance("force_eager"):  # prompts have many lengths, each of which would be compiled
        return draw_samples(settings.sample_prompts, lambda prompts, seeds: pipeline.draw(prompts, seeds, settings.sampler), path)
