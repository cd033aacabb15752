"""One stage's settings, what it trains, and its loss: the sum of the autoregressive, rectified-flow and alignment losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.sampling import SamplerSettings
from jfeval.models.training.checks import not_negative, positive
from jfeval.models.training.data import StepRng
from jfeval.models.training.encoders import LatentEncoder, Reading, frozen_always
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.mixture import MixedBatch, Mixture, MixtureSettings
from jfeval.models.training.objectives import AlignmentHead, FlowSettings, autoregressive_loss, flow_losses
from jfeval.models.training.operations import Operations
from jfeval.models.training.part import ADDED
from jfeval.models.training.ratios import Scale
from jfeval.settings import NO_EFFECT

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
    keep_gib: float = field(default=0.0, metadata=NO_EFFECT)
    """Disk for latents, and for features of frozen encoders, of the images of data sources, in GiB: each image is then encoded once and not
    in every epoch. Beside the data part's result, for all stages. 0 keeps none. Results change by the rounding of 16-bit floats only.
    Decoded scenes have parts of their own for this."""
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
    sample_every: int = field(default=0, metadata=NO_EFFECT)
    """Updates between drawings of `sample_prompts` while the stage trains, with the averaged weights and the same noise every time, into
    samples-00001000.png and so on, and onto TensorBoard's page; 0 draws them at the end only, as several
    processes always do."""
    sampler: SamplerSettings = field(default_factory=SamplerSettings)

    def __post_init__(self) -> None:
        not_negative(self, "keep_gib", "answer_weight", "text_weight", "sample_every")
        positive(self, "flow_width")
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

        Raises:
            UserError: The model has no block of the number that is to be aligned.
        """
        if head is not None:
            settings.flow.block(model.config.language.num_hidden_layers)
        self.module = nn.ModuleDict({"model": model} | ({"head": head} if head is not None else {}))
        self.model, self.head, self.mixture, self.settings, self.target = model, head, mixture, settings, target
        known = mixture is not None and mixture.features is not None
        self.costs = Operations.of(model, settings.freeze, aligned=head is not None, encodes=not known)
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

    def blocks(self) -> Sequence[nn.Module]:
        """Return the language model's blocks: the modules that all batches run through alike."""
        return list(self.model.language_model.model.layers)

    def helpers(self) -> Sequence[nn.Module]:
        """Return the frozen modules beside what is trained."""
        return () if self.target is None else (self.target,)

    def batch(self, step: int, rng: StepRng) -> MixedBatch:
        """Draw the step's samples and all their noise."""
        if self.mixture is None:
            raise ValueError("an objective without a mixture has no batches")
        return self.mixture.batch(step, rng)

    def ids(self, batch: MixedBatch) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def tokens(self, batch: MixedBatch) -> int:
        """Count the tokens of a batch that the language model reads, padding included."""
        text = sum(part.ids.numel() for part in (batch.understanding, batch.text) if part is not None)
        if batch.flow is None:
            return text
        return text + batch.flow.prompts.ids.numel() + len(batch.flow.t) * (self.model.config.image_tokens + 1)

    def operations(self, batch: MixedBatch) -> float:
        """Estimate the floating-point operations of learning from a batch, padding included."""
        found, cost = 0.0, self.costs
        for part in (batch.understanding, batch.text):
            if part is not None:
                found += len(part.ids) * cost.language(part.ids.shape[1], logits=part.ids.shape[1])
        if batch.understanding is not None and batch.understanding.pixel_values is not None:
            found += batch.understanding.pixel_values[:, :, 0, 0, 0].numel() * cost.read
        if batch.flow is not None:
            found += len(batch.flow.t) * (cost.language(batch.flow.prompts.ids.shape[1] + self.model.config.image_tokens + 1) + cost.drawn)
        return found

    def found(self) -> Mapping[str, Any]:
        """Return what a finished training tells about its data, beyond the losses."""
        return {}

    def loss(self, batch: MixedBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the weighted sum and its parts; see `summed`."""
        parts: dict[str, Tensor] = {}
        if batch.flow is not None:
            parts["flow"], aligned = flow_losses(self.model, self.head, batch.flow, self.settings.flow, self.target)
            if self.head is not None:
                parts["repa"] = aligned
        if batch.understanding is not None:
            parts["answers"] = autoregressive_loss(self.model, batch.understanding)
        if batch.text is not None:
            parts["text"] = autoregressive_loss(self.model, batch.text)
        return self.summed(parts, batch.scale)

    def summed(self, parts: Mapping[str, Tensor], scale: Scale) -> tuple[Tensor, dict[str, Tensor]]:
        """Return ``flow + repa_weight * repa + answer_weight * answers + text_weight * text``, and the parts for the log.

        Each part is a mean over what its batch holds (flow and repa over images, answers and text over tokens to be predicted), times
        the batch's scale. So the mean over an update's batches weighs every batch by its samples of the kind, and a batch that has none
        takes nothing away.

        Args:
            parts: Losses by name, as far as the batch has them.
            scale: How much the batch counts in its update, by kind.

        Source of the sum: paper section 3.2, without coefficients.
        """
        s = self.settings
        weights = {
            "flow": (1.0, scale.generation),
            "repa": (s.flow.repa_weight, scale.generation),
            "answers": (s.answer_weight, scale.understanding),
            "text": (s.text_weight, scale.text),
        }
        total, named = self.model.beg_of_und_embed.new_zeros(()), {}
        for name, (weight, share) in weights.items():
            if name in parts:
                scaled = share * parts[name]
                total = total + weight * scaled
                named[name] = scaled.detach()
        return total, named
