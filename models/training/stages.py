"""JanusFlow's stages of training.

Source: paper section 3.2 and table 1: stage 1 adapts the new parts, stage 2 trains all but the understanding encoder, stage 3 trains
that too. Each stage starts from the averaged weights of the one before; the VAE is frozen throughout.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.parts import from_parts
from jfeval.models.janusflow.pipeline import VAE_FOLDER, JanusFlowPipeline
from jfeval.models.janusflow.processing import ImageProcessor, Processor
from jfeval.models.janusflow.sampling import SamplerSettings
from jfeval.models.janusflow.uvit import ConvNeXtBlock
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.corpus import plain_texts
from jfeval.models.training.data import Scenes, StepRng, seeded
from jfeval.models.training.encoders import (
    LatentEncoder,
    Reading,
    alignment_target,
    frozen_always,
    load_stage,
    read_through_latents,
    save_stage,
)
from jfeval.models.training.latents import LATENTS_FILE
from jfeval.models.training.loop import LoopSettings, fit
from jfeval.models.training.mixture import MixedBatch, Mixture, MixtureSettings
from jfeval.models.training.objectives import AlignmentHead, FlowSettings, autoregressive_loss, flow_losses
from jfeval.models.training.part import ADDED, NO_EFFECT, Part

log = logging.getLogger(__name__)

HEAD_FILE = "alignment_head.safetensors"
SAMPLES_FILE = "samples.png"

FREEZABLE: Mapping[str, tuple[str, ...]] = {
    "vision": ("vision_und_enc_model.",),
    "language": ("language_model.",),
}
"""Names a stage may freeze, and the tensors they stand for."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One stage."""

    loop: LoopSettings
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    freeze: tuple[str, ...] = ()
    """Parts that are not trained: vision, language."""
    compile_blocks: bool = field(default=False, metadata=NO_EFFECT)
    """Compile each transformer and ConvNeXt block: one compilation serves all blocks of a kind. Results change by float rounding only."""
    checkpoint_activations: bool = field(default=False, metadata=NO_EFFECT)
    """Keep only the blocks' inputs for the backward pass: much less memory, about a third slower."""
    flow_width: int = 96
    """Channels of the generation encoder, where the stage builds the model; later stages keep it."""
    understands_through: Reading = field(default="contrastive", metadata=ADDED)
    """Understanding encoder, where the stage builds the model; later stages keep it. contrastive: the pre-trained one. For ablations:
    shared, the VAE and the generation encoder's blocks; separate, a VAE and blocks of its own. ``freeze: vision`` freezes neither, since
    they start at random."""
    answer_weight: float = 1.0
    """Weight of the autoregressive loss on answers about images. The paper adds its losses without coefficients."""
    text_weight: float = 1.0
    """Weight of the autoregressive loss on text."""
    sample_prompts: tuple[str, ...] = ()
    """Drawn after the stage into samples.png, to be looked at."""
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    def __post_init__(self) -> None:
        unknown_parts = sorted(set(self.freeze) - set(FREEZABLE))
        if unknown_parts:
            raise UserError(f"freeze names {', '.join(unknown_parts)}; a stage can freeze {', '.join(FREEZABLE)}")


class JanusFlowObjective:
    """The sum of the autoregressive, rectified-flow and alignment losses over one mixed batch."""

    def __init__(
        self,
        model: JanusFlow,
        head: AlignmentHead | None,
        mixture: Mixture | None,
        settings: StageSettings,
        target: nn.Module | None = None,
    ) -> None:
        """Decide what is trained.

        Args:
            model: The model.
            head: The alignment MLP; None trains without alignment.
            mixture: Draws the batches; None where only the division into trained and frozen parameters is wanted.
            settings: The stage.
            target: What is aligned to, neither trained nor stored; None for the model's own understanding encoder.
        """
        self.module = nn.ModuleDict({"model": model} | ({"head": head} if head is not None else {}))
        self.model, self.head, self.mixture, self.settings, self.target = model, head, mixture, settings, target
        latent = isinstance(model.vision_und_enc_model, LatentEncoder)
        names = [name for name in settings.freeze if not (latent and name == "vision")]
        frozen = (*(prefix for name in names for prefix in FREEZABLE[name]), *frozen_always(model))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Train whatever is not frozen at one rate; the attention-pool head plays no part and gets no gradient."""
        return [(1.0, [p for n, p in self.module.named_parameters() if p.requires_grad and ".vision_tower.head." not in n])]

    def matrices(self) -> Sequence[nn.Parameter]:
        """Return the hidden matrices of the language model's and the ConvNeXt blocks."""
        blocks = [self.model.language_model.model.layers]
        blocks += [self.model.vision_gen_enc_model.mid_block, self.model.vision_gen_dec_model.mid_block]
        encoder: nn.Module = self.model.vision_und_enc_model
        if isinstance(encoder, LatentEncoder) and encoder.own:
            blocks.append(encoder.flow().mid_block)
        return [p for block in blocks for name, p in block.named_parameters() if p.ndim == 2 and "cond_embeds_mapper" not in name]

    def batch(self, step: int, rng: StepRng) -> MixedBatch:
        """Draw the step's samples and all their noise."""
        if self.mixture is None:
            raise ValueError("an objective without a mixture has no batches")
        return self.mixture.batch(step, rng)

    def ids(self, batch: MixedBatch) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def loss(self, batch: MixedBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the weighted sum and its parts."""
        s = self.settings
        parts: dict[str, Tensor] = {}
        total = self.model.beg_of_und_embed.new_zeros(())
        if batch.flow is not None:
            parts["flow"], aligned = flow_losses(self.model, self.head, batch.flow, s.flow, self.target)
            total = total + parts["flow"] + s.flow.repa_weight * aligned
            if self.head is not None:
                parts["repa"] = aligned
        if batch.understanding is not None:
            parts["answers"] = autoregressive_loss(self.model, batch.understanding)
            total = total + s.answer_weight * parts["answers"]
        if batch.text is not None:
            parts["text"] = autoregressive_loss(self.model, batch.text)
            total = total + s.text_weight * parts["text"]
        return total, {name: value.detach() for name, value in parts.items()}


def assemble(settings: StageSettings, part: Part) -> JanusFlow:
    """Build JanusFlow around a trained language model and a trained understanding encoder; the flow parts start at random."""
    flow = FlowConfig(width=settings.flow_width)
    language, vision = part.inputs["lm"] / "lm", part.inputs["contrastive"] / "siglip"
    model = from_parts(language, vision, flow=flow, seed=settings.loop.seed, dtype=torch.float32)
    if settings.understands_through != "contrastive":
        vae = AutoencoderKL.from_pretrained(part.inputs["vae"] / VAE_FOLDER, local_files_only=True)
        read_through_latents(model, vae, settings.understands_through, seed=settings.loop.seed + 2)
    return model


def train_stage(settings: StageSettings, part: Part) -> dict[str, float]:
    """Train one stage: from the parts (inputs ``lm`` and ``contrastive``) or from an earlier stage (input ``start``).

    Where alignment aims at the pre-trained encoder instead of the model's own, ``contrastive`` is an input of every stage.
    """
    model = load_stage(part.inputs["start"]) if "start" in part.inputs else assemble(settings, part)
    model.language_model.model.config._attn_implementation = "eager"  # short sequences: faster than fused attention on a CPU
    model.checkpoint_activations(settings.checkpoint_activations)
    if settings.compile_blocks:
        compile_blocks(model)
    processor = stage_processor(part.inputs["tokenizer"], model)
    mixture = Mixture(
        scenes=Scenes.open_train(part.inputs["data"]),
        latents=np.load(part.inputs["latents"] / LATENTS_FILE, mmap_mode="r"),
        texts=plain_texts(part.inputs["data"]),
        processor=processor,
        settings=settings.mixture,
        flow=settings.flow,
        seed=settings.loop.seed,
        accumulate=settings.loop.accumulate,
    )
    config = model.config
    expected = (config.flow.latent_channels, config.latent_size, config.latent_size)
    if mixture.latents.shape[1:] != expected:
        raise UserError(
            f"the cached latents have shape {mixture.latents.shape[1:]}, the model draws {expected}: "
            f"the VAE's reduction and the understanding encoder's patches (times {config.flow.patch}) must give one grid"
        )
    head = alignment_head(model, settings, part)
    objective = JanusFlowObjective(model, head, mixture, settings, stage_target(model, settings, part))
    pipeline = JanusFlowPipeline(model, processor, AutoencoderKL.from_pretrained(part.inputs["vae"] / VAE_FOLDER, local_files_only=True))
    scored = part.evaluate
    evaluate = None if scored is None else lambda step: scored(pipeline, part.name, step)
    result = fit(part.name, objective, settings.loop, part.folder, signature=part.hash, evaluate=evaluate)
    save_stage(model, part.folder)
    if head is not None:
        save_file(head.state_dict(), part.folder / HEAD_FILE)
    if settings.sample_prompts:
        draw_samples(pipeline, settings, part.folder / SAMPLES_FILE)
    samples = settings.mixture.samples(settings.loop.steps, settings.loop.accumulate)
    seen = {f"{kind}_samples": float(n) for kind, n in samples._asdict().items()}
    return {**result.losses, **seen, "parameters": float(sum(p.numel() for p in model.parameters())), "seconds": result.seconds}


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


def compile_blocks(model: JanusFlow) -> None:
    """Compile the blocks where most of the time goes, not the whole model: that would take minutes for the same speed."""
    encoder: nn.Module = model.vision_und_enc_model
    tower = encoder.vision_tower.encoder.layers if isinstance(encoder, VisionTower) else ()
    for block in (*model.language_model.model.layers, *tower):
        block.compile(dynamic=False)
    for module in model.modules():
        if isinstance(module, ConvNeXtBlock):
            module.compile(dynamic=False)


def alignment_head(model: JanusFlow, settings: StageSettings, part: Part) -> AlignmentHead | None:
    """Build the alignment MLP, or continue the earlier stage's; None where the stage trains without alignment."""
    if not settings.flow.repa_weight:
        return None
    width = model.config.language.hidden_size
    with seeded(settings.loop.seed + 1):
        head = AlignmentHead(width, settings.flow.repa_width or width, model.config.vision.width)
    before = part.inputs["start"] / HEAD_FILE if "start" in part.inputs else None
    if before is not None and before.is_file():
        head.load_state_dict(load_file(before))
    return head


def stage_processor(tokenizer: Path, model: JanusFlow) -> Processor:
    """Load the tokenizer that an earlier part trained."""
    images = ImageProcessor(image_size=model.config.vision.image_size)
    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer / "tokenizer", local_files_only=True)
    return Processor(loaded, images, tokens_per_image=model.config.vision.tokens)


def draw_samples(pipeline: JanusFlowPipeline, settings: StageSettings, path: Path, columns: int = 4, scale: int = 3) -> None:
    """Draw every sample prompt ``columns`` times, a row each, as one PNG."""
    strips = []
    for row, prompt in enumerate(settings.sample_prompts):
        images = pipeline.draw([prompt] * columns, [row * columns + k for k in range(columns)], settings.sampler)
        strips.append(np.concatenate([np.asarray(image) for image in images], axis=1))
    from PIL import Image

    Image.fromarray(np.concatenate(strips).repeat(scale, 0).repeat(scale, 1)).save(path)
