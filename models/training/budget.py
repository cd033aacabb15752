"""What a recipe's stages will cost, before there are weights or data: parameters, samples, tokens, operations and memory.

Sizes come from the recipe alone and the model is built on torch's meta device, so a 2-billion-parameter stage is counted in seconds. A
variant that understands through latents is built as it is trained; its VAE, where somebody else's is not at hand yet, as SDXL's.

Operations: see `jfeval.models.training.operations`.
Activations: ``34 T D`` bytes per transformer block in 16 bits where attention keeps no scores, and ``2 T D`` where only a block's input
is kept. Source: Korthikanti et al., arXiv 2205.05198, equations 1 and 2 without the score terms. Those of convolutions are not counted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.vae import VAE_FOLDER
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.contrastive import ContrastiveSettings
from jfeval.models.training.encoders import Reading, read_through_latents
from jfeval.models.training.given import GivenSettings, source_of
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.lm import LmSettings
from jfeval.models.training.objectives import AlignmentHead
from jfeval.models.training.ratios import Counts
from jfeval.models.training.recipe import PartPlan, Recipe
from jfeval.models.training.tokenizer import TokenizerSettings
from jfeval.models.training.vae import VaeSettings, build_vae

_PARTS: Mapping[str, str] = {
    "language model": "model.language_model.",
    "understanding encoder": "model.vision_und_enc_model.",
    "understanding aligner": "model.vision_und_enc_aligner.",
    "begin-of-image vector": "model.beg_of_und_embed",
    "generation encoder": "model.vision_gen_enc_model.",
    "generation encoder's aligner": "model.vision_gen_enc_aligner.",
    "generation decoder's aligner": "model.vision_gen_dec_aligner",
    "generation decoder": "model.vision_gen_dec_model.",
    "alignment MLP": "head.",
}
_SDXL_VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 1024,
}
"""Sizes of the VAE that the published model draws through. Source: ``vae/config.json`` of stabilityai/sdxl-vae."""
_KEPT = 34
"""Bytes per token and unit of width that a transformer block keeps for its backward pass in 16 bits."""


@dataclass(frozen=True, kw_only=True)
class StageBudget:
    """One stage's cost."""

    name: str
    trainable: Mapping[str, int]
    """Trained parameters by part of the model; parts that are frozen are left out."""
    frozen: int
    updates: int
    samples: Counts
    """Samples of each kind over all updates."""
    tokens: Counts
    """Tokens of each kind, padding included: an upper bound where samples are packed."""
    operations: float
    """Floating-point operations of the whole stage."""
    memory: float
    """Bytes on one device that holds everything: weights, gradients, optimiser, average, activations of one batch."""

    @property
    def trained(self) -> int:
        """Return the trained parameters, the alignment MLP left out: it is no part of the model."""
        return sum(n for name, n in self.trainable.items() if name != "alignment MLP")

    def lines(self) -> list[str]:
        """Say it for people."""
        parts = [f"  {n:>15,}  {name}" for name, n in self.trainable.items()]
        kinds = [
            f"  {kind:<13} {n:>13,} samples ({n / max(1, sum(self.samples)):6.1%}) {tokens:>17,} tokens at most"
            for kind, n, tokens in zip(Counts._fields, self.samples, self.tokens, strict=True)
        ]
        return [
            f"{self.name}: {self.updates:,} updates",
            f"  trained: {self.trained / 1e6:,.2f} M parameters before the alignment MLP; frozen: {self.frozen / 1e6:,.2f} M",
            *parts,
            *kinds,
            f"  about {self.operations:.2g} floating-point operations; about {self.memory / 2**30:,.1f} GiB on one device",
        ]


def budgets(recipe: Recipe) -> list[StageBudget]:
    """Return the cost of every stage of a recipe."""
    return [stage_budget(recipe, plan) for plan in recipe.parts if plan.kind == "stage"]


def stage_budget(recipe: Recipe, plan: PartPlan) -> StageBudget:
    """Count one stage."""
    settings: StageSettings = plan.settings
    config, first = model_config(recipe, plan), _first(recipe, plan)
    vae = next((each.settings for each in recipe.parts if each.name == first.inputs.get("vae")), None)
    reading = first.settings.understands_through if isinstance(first.settings, StageSettings) else "contrastive"
    objective = meta_objective(config, settings, reading, vae)
    chosen = {id(p) for _, group in objective.groups() for p in group}
    names = {name: p.numel() for name, p in objective.module.named_parameters() if id(p) in chosen}
    trainable = {part: sum(n for name, n in names.items() if name.startswith(prefix)) for part, prefix in _PARTS.items()}
    total = sum(p.numel() for p in objective.model.parameters())
    trained = sum(n for name, n in names.items() if not name.startswith("head."))
    samples = settings.mixture.samples(settings.loop.steps, settings.loop.accumulate)
    lengths = sample_tokens(config, settings)
    tokens = Counts(*(n * length for n, length in zip(samples, lengths, strict=True)))
    return StageBudget(
        name=plan.name,
        trainable={part: n for part, n in trainable.items() if n},
        frozen=total - trained,
        updates=settings.loop.steps,
        samples=samples,
        tokens=tokens,
        operations=sum(n * each for n, each in zip(samples, sample_operations(objective), strict=True)),
        memory=_memory(objective, config, settings, lengths),
    )


def meta_objective(
    config: JanusFlowConfig, settings: StageSettings, reading: Reading = "contrastive", vae: object = None
) -> JanusFlowObjective:
    """Build a stage's model and alignment MLP without memory, with what is frozen frozen.

    Args:
        config: Sizes of the model.
        settings: The stage.
        reading: How the model understands images.
        vae: Settings of the part that holds the VAE; what understands through latents has a copy of its encoding half.
    """
    with torch.device("meta"):
        model = JanusFlow(config)
        if reading != "contrastive":
            read_through_latents(model, _vae(vae), reading, seed=0)
        width = config.language.hidden_size
        head = AlignmentHead(width, settings.flow.repa_width or width, config.vision.width) if settings.flow.repa_weight else None
        return JanusFlowObjective(model, head, None, settings)


def _vae(settings: object) -> AutoencoderKL:
    """Build a VAE of the sizes that its part states, or that its folder does where it is there already."""
    if isinstance(settings, VaeSettings):
        return build_vae(settings)
    if not isinstance(settings, GivenSettings):
        raise UserError(f"the model understands through latents, and a VAE of kind {type(settings).__name__} does not say its sizes")
    from jfeval.models.shapes import WEIGHTS

    file = (WEIGHTS / VAE_FOLDER if settings.embedded else Path(settings.path)) / "config.json"
    there = (settings.embedded or settings.path) and file.is_file()
    sizes = json.loads(file.read_text("utf-8")) if there else dict(_SDXL_VAE)
    return AutoencoderKL.from_config(sizes)  # pyright: ignore[reportReturnType, reportArgumentType]


def _first(recipe: Recipe, plan: PartPlan) -> PartPlan:
    """Return what the model that a stage trains comes from: the stage that builds it, or a given model."""
    plans = {each.name: each for each in recipe.parts}
    while "start" in plan.inputs:
        plan = plans[plan.inputs["start"]]
    return plan


def model_config(recipe: Recipe, plan: PartPlan) -> JanusFlowConfig:
    """Return the sizes of the model that a stage trains, from the parts it is made of.

    Raises:
        UserError: A part does not say its sizes.
    """
    plans, plan = {each.name: each for each in recipe.parts}, _first(recipe, plan)
    if isinstance(plan.settings, GivenSettings):
        return JanusFlowConfig.from_file(source_of(plan.settings, plan.name))
    missing = [role for role in ("lm", "contrastive", "tokenizer") if role not in plan.inputs]
    if missing:
        raise UserError(f"{plan.name} is the first stage but lacks the inputs {', '.join(missing)}")
    tokenizer = plans[plan.inputs["tokenizer"]].settings
    language = _language(plans[plan.inputs["lm"]].settings, tokenizer)
    vision = _vision(plans[plan.inputs["contrastive"]].settings)
    return JanusFlowConfig(language=language, vision=vision, flow=FlowConfig(width=plan.settings.flow_width))


def _language(settings: object, tokenizer: object) -> LanguageConfig:
    if isinstance(settings, GivenSettings):
        return settings.language
    if not isinstance(settings, LmSettings):
        raise UserError(f"a language model of kind {type(settings).__name__} does not say its sizes")
    return LanguageConfig(
        hidden_size=settings.width,
        intermediate_size=settings.mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        vocab_size=_vocabulary(tokenizer),
        max_position_embeddings=settings.max_positions,
        rms_norm_eps=settings.rms_eps,
        rope_theta=settings.rope_theta,
    )


def _vocabulary(tokenizer: object) -> int:
    """Return the tokens of a tokenizer: at most, where it is yet to be made."""
    if isinstance(tokenizer, TokenizerSettings):
        return tokenizer.size
    if isinstance(tokenizer, GivenSettings) and not tokenizer.embedded:
        return tokenizer.language.vocab_size
    from jfeval.models.shapes import WEIGHTS

    return JanusFlowConfig.from_file(WEIGHTS).language.vocab_size


def _vision(settings: object) -> VisionConfig:
    if isinstance(settings, GivenSettings):
        return settings.vision
    if not isinstance(settings, ContrastiveSettings):
        raise UserError(f"an understanding encoder of kind {type(settings).__name__} does not say its sizes")
    tower = settings.vision
    return VisionConfig(
        model_name="siglip",
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        width=tower.width,
        layers=tower.layers,
        heads=tower.heads,
        mlp_ratio=tower.mlp / tower.width,
    )


def sample_tokens(config: JanusFlowConfig, settings: StageSettings) -> Counts:
    """Return the tokens of one sample of each kind, padding included."""
    m = settings.mixture
    image = config.image_tokens + 1
    return Counts(understanding=m.conversation_tokens, generation=m.prompt_tokens + image, text=m.text_tokens)


def sample_operations(objective: JanusFlowObjective) -> tuple[float, ...]:
    """Return the floating-point operations of learning from one sample of each kind: language model, encoders and flow parts."""
    cost, length = objective.costs, sample_tokens(objective.model.config, objective.settings)
    return (
        cost.language(length.understanding, logits=length.understanding) + cost.read,
        cost.language(length.generation) + cost.drawn,
        cost.language(length.text, logits=length.text),
    )


def _memory(objective: JanusFlowObjective, config: JanusFlowConfig, settings: StageSettings, lengths: Counts) -> float:
    """Estimate bytes: float32 weights, gradients, two moments and the average; then the activations of one batch in 16 bits."""
    held = sum(4 * p.numel() for p in objective.module.parameters())
    per_parameter = 4 + 8 + (4 if settings.loop.ema else 0)
    held += sum(per_parameter * p.numel() for _, group in objective.groups() for p in group)
    counts = settings.mixture.schedule(settings.loop.accumulate).counts(0)
    tokens = sum(n * length for n, length in zip(counts, lengths, strict=True))
    images = (counts.understanding + counts.generation) * config.vision.tokens
    lang, vis = config.language, config.vision
    activations = _stack(tokens, lang.hidden_size, lang.num_hidden_layers, recompute=settings.checkpoint_activations)
    if "vision" not in settings.freeze and isinstance(objective.model.vision_und_enc_model, VisionTower):
        activations += _stack(images, vis.width, vis.depth, recompute=settings.checkpoint_activations)
    read = counts.understanding * lengths.understanding + counts.text * lengths.text
    return held + activations + read * lang.vocab_size * (2 + 4 + 4)


def _stack(tokens: int, width: int, depth: int, *, recompute: bool) -> float:
    """Return the bytes that a stack of transformer blocks keeps."""
    return tokens * width * ((2 * depth + _KEPT) if recompute else _KEPT * depth)


def describe(recipe: Recipe) -> Sequence[str]:
    """Return lines that state every stage's budget."""
    return [line for budget in budgets(recipe) for line in (*budget.lines(), "")]
