"""The three losses of JanusFlow: autoregressive, rectified flow, and representation alignment.

Source: paper section 3.2, equations 2 to 6; Esser et al., arXiv 2403.03206 (times); Yu et al., arXiv 2410.06940 (REPA).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow, PromptBatch, causal_mask
from jfeval.models.janusflow.vision import Output
from jfeval.models.training.checks import below_one, finite, not_negative, positive
from jfeval.models.training.part import ADDED

IGNORED = -100
"""A target that carries no loss; torch's own ``ignore_index``."""


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Rectified flow and REPA. What the paper leaves open is a setting here."""

    time_location: float = 0.0
    """Mean of logit(t). The paper says "as SD3" without a figure; 0 is SD3's default."""
    time_scale: float = 1.0
    """Standard deviation of logit(t); 1 is SD3's default."""
    prompt_dropout: float = 0.1
    """Share of rows whose prompt is dropped, for guidance. Source: paper section 3.2."""
    repa_weight: float = 1.0
    """Weight of the alignment loss; 0 trains without it. The paper adds the two losses without a coefficient."""
    repa_block: int = 0
    """Language-model block whose outputs are aligned; 0 means a quarter of the depth, as 6 of 24 in the paper."""
    repa_width: int = 0
    """Hidden width of the alignment MLP; 0 means the language model's width. The paper does not state it."""
    repa_activation: Literal["silu", "gelu"] = field(default="silu", metadata=ADDED)
    """Between the alignment MLP's layers. The paper does not state it; SiLU is what REPA's own code has, and the language model too."""
    repa_output: Output = field(default="normed", metadata=ADDED)
    """Which output of the encoder is aligned to: ``normed``, the patches after its last norm, which is what the language model reads;
    ``unnormed``, before that norm; ``penultimate``, after the block before the last. The paper does not say."""
    repa_target: Literal["encoder", "contrastive", "random", "shuffled"] = field(default="encoder", metadata=ADDED)
    """Whose features are aligned to. encoder: the model's own understanding encoder, as in the paper. contrastive: the pre-trained encoder
    as it came, frozen, which a model that understands by another encoder must ask for. Controls: random, an encoder of the same size that
    was never trained; shuffled, the own encoder's features in an order of positions drawn anew for every image."""

    def __post_init__(self) -> None:
        below_one(self, "prompt_dropout", prefix="flow.")
        finite(self, "time_location", prefix="flow.")
        positive(self, "time_scale", prefix="flow.")
        not_negative(self, "repa_weight", "repa_block", "repa_width", prefix="flow.")

    def block(self, depth: int) -> int:
        """Return the aligned block of a language model of ``depth`` blocks, counted from 1.

        Raises:
            UserError: There is no such block.
        """
        chosen = self.repa_block or max(1, depth // 4)
        if not 1 <= chosen <= depth:
            raise UserError(
                f"flow.repa_block = {chosen}, but the language model has the blocks 1 to {depth}; 0 takes a quarter of the depth"
            )
        return chosen


def logit_normal_times(n: int, settings: FlowSettings, generator: torch.Generator) -> Tensor:
    """Draw times (n,) in (0, 1) whose logit is normal, so that the middle of the path is seen most.

    Source: paper section 3.2; arXiv 2403.03206, section 3.1.
    """
    return torch.sigmoid(settings.time_location + settings.time_scale * torch.randn(n, generator=generator))


class AlignmentHead(nn.Module):
    """The 3-layer MLP that maps language-model states to the encoder's width; only training uses it."""

    def __init__(self, width: int, hidden: int, target: int, activation: Literal["silu", "gelu"] = "silu") -> None:
        super().__init__()
        self.form: tuple[int, int, int, Literal["silu", "gelu"]] = (width, hidden, target, activation)
        between = {"silu": nn.SiLU, "gelu": nn.GELU}[activation]
        self.layers = nn.Sequential(nn.Linear(width, hidden), between(), nn.Linear(hidden, hidden), between(), nn.Linear(hidden, target))

    def forward(self, states: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, target)."""
        return self.layers(states)


def alignment_loss(projected: Tensor, target: Tensor) -> Tensor:
    """Compute ``-mean cos(projected, target)`` over batch and positions; no gradient reaches ``target``.

    Args:
        projected: (B, N, E).
        target: (B, N, E), the encoder's features of the clean image, position by position.

    Source: paper equation 5.
    """
    return -F.cosine_similarity(projected.float(), target.detach().float(), dim=-1).mean()


def velocity_loss(predicted: Tensor, velocity: Tensor) -> Tensor:
    """Compute the mean over all numbers of ``(predicted - velocity)^2``.

    Args:
        predicted: v(z_t, t), (B, C, h, w).
        velocity: x - z_0, of the same shape; see `interpolate`.

    Source: paper equation 4.
    """
    return F.mse_loss(predicted.float(), velocity)


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point ``z_t = t x + (1 - t) z_0`` of the straight path and its velocity ``x - z_0``.

    Args:
        data: x (B, C, h, w).
        noise: z_0, of the same shape.
        t: (B,) in [0, 1].

    Source: paper equations 1 and 4.
    """
    t = t[:, None, None, None]
    return t * data + (1 - t) * noise, data - noise


@dataclass(frozen=True, kw_only=True)
class FlowBatch:
    """Images to learn to draw, with everything random about them already drawn."""

    latents: Tensor
    """Scaled VAE latents x (B, C, h, w)."""
    noise: Tensor
    """z_0, of the same shape."""
    t: Tensor
    """(B,) in (0, 1)."""
    prompts: PromptBatch
    """One prompt per image, dropped ones already dropped."""
    pixel_values: Tensor
    """The clean images as the understanding encoder reads them (B, 3, S, S)."""
    order: Tensor | None = None
    """(B, N): which position's feature each position is aligned to; None for its own."""
    features: Tensor | None = None
    """(B, N, E): what the model's own encoder makes of the clean images, where it is known; None to compute it."""


def draw_flow_batch(
    latents: Tensor, prompts: PromptBatch, pixel_values: Tensor, settings: FlowSettings, *, pad_id: int, generator: torch.Generator
) -> FlowBatch:
    """Draw times, noise and dropped prompts, in this order, from one generator."""
    n = len(latents)
    t = logit_normal_times(n, settings, generator)
    noise = torch.randn(latents.shape, generator=generator)
    dropped = torch.rand(n, generator=generator) < settings.prompt_dropout
    return FlowBatch(latents=latents, noise=noise, t=t, prompts=prompts.unconditional(pad_id, dropped), pixel_values=pixel_values)


def shuffled(batch: FlowBatch, positions: int, generator: torch.Generator) -> FlowBatch:
    """Give every image an order of its ``positions`` of its own, for the control in which features belong to no position."""
    return replace(batch, order=torch.rand(len(batch.t), positions, generator=generator).argsort(dim=1))


def aligned_to(encoder: Callable[..., Tensor], settings: FlowSettings) -> Callable[[Tensor], Tensor]:
    """Return what maps pixels to the features that are aligned to: the output of an encoder that the settings name."""
    return encoder if settings.repa_output == "normed" else partial(encoder, output=settings.repa_output)


def flow_losses(
    model: JanusFlow,
    head: AlignmentHead | None,
    batch: FlowBatch,
    settings: FlowSettings,
    target: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the rectified-flow loss ``E ||v(z_t, t) - (x - z_0)||^2`` and the alignment loss of one batch.

    Args:
        model: The model.
        head: Projects states to the encoder's width; None skips alignment.
        batch: What to draw.
        settings: Says which block is aligned.
        target: Maps pixels to the features that are aligned to; None for the model's own understanding encoder.

    Returns:
        Mean squared velocity error and mean negative cosine (0 without a head), both scalars in float32.
    """
    z, direction = interpolate(batch.latents, batch.noise, batch.t)
    collect = settings.block(model.config.language.num_hidden_layers) if head is not None else None
    velocity, states = model.velocity(z, batch.t, batch.prompts, collect=collect)
    flow = velocity_loss(velocity, direction)
    if head is None or states is None:
        return flow, flow.new_zeros(())
    with torch.no_grad():
        known = batch.features if target is None and settings.repa_output == "normed" else None
        features = aligned_to(target or model.vision_und_enc_model, settings)(batch.pixel_values) if known is None else known
        if batch.order is not None:
            features = features.gather(1, batch.order[..., None].expand_as(features))
    return flow, alignment_loss(head(states), features)


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Tokenised conversations, padded on the right, with or without images."""

    ids: Tensor
    """(B, T)."""
    valid: Tensor
    """(B, T) bool."""
    targets: Tensor
    """(B, T): the token expected at each place, or `IGNORED`; column i is predicted from columns before i."""
    image_positions: Tensor | None = None
    """(B, T) bool, or None for text alone."""
    pixel_values: Tensor | None = None
    """(B, images, 3, S, S)."""
    features: Tensor | None = None
    """(B, images, N, E): what the model's encoder makes of the images, where it is known; None to compute it."""


def autoregressive_loss(model: JanusFlow, batch: Conversations) -> Tensor:
    """Compute ``-1/n sum_i log P(x_i | x_1 ... x_{i-1})`` over the n targets x_i of the batch, in nats per token.

    Only answers are targets, so questions and images carry no loss. Source: paper equation 2.
    """
    if batch.pixel_values is not None and batch.image_positions is not None:
        embeds = model.embed_conversation(batch.ids, batch.image_positions, batch.pixel_values, features=batch.features)
    else:
        embeds = model.embed(batch.ids)
    positions = (batch.valid.cumsum(dim=1) - 1).clamp(min=0)
    hidden, _ = model.backbone(embeds, positions, causal_mask(batch.valid, batch.ids.shape[1]))
    return F.cross_entropy(model.logits(hidden[:, :-1]).float().flatten(0, 1), batch.targets[:, 1:].flatten(), ignore_index=IGNORED)
