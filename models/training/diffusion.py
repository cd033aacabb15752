"""A small text-to-image diffusion model of diffusers' own classes, to put beside the embedded JanusFlow: PixArt-alpha's form.

A transformer over patches of VAE latents (`PixArtTransformer2DModel`) attends to a T5 encoder's states; both are trained together from
random weights. The loss is the mean squared error of v-prediction on the noise levels of PixArt's own scheduler, and some prompts are
dropped for guidance. The result is a pipeline folder: ``jfeval run --model diffusers:OUT/diffusion/pipeline``.

Differs: PixArt-alpha predicts the noise and its variance and has a frozen T5-XXL. v-prediction weighs the noisy levels, at which a
picture's objects and places are decided, as JanusFlow's velocity does.

Source: Chen et al., arXiv 2310.00426 (the model); Salimans and Ho, arXiv 2202.00512, appendix D (v-prediction).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from jfeval.errors import UserError
from jfeval.models.training.checks import below_one, finite, not_negative, positive
from jfeval.models.training.data import Sampler, Scenes, StepRng, seeded
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.tokenizer import end_and_pad
from jfeval.settings import NO_EFFECT

NOISE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}
"""Noise levels of the training and of the exported sampler.

Source: Ho et al., arXiv 2006.11239, section 4 (linear betas), which PixArt-alpha takes over; `prediction_type` is this module's.
"""


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Sizes of the T5 encoder."""

    width: int = 192
    layers: int = 3
    heads: int = 3
    mlp: int = 384

    def __post_init__(self) -> None:
        """Refuse heads of unequal width."""
        if self.width % self.heads:
            raise UserError(f"text.width {self.width} must be a multiple of text.heads ({self.heads})")


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """Sizes, noise levels and batches."""

    width: int = 256
    layers: int = 5
    heads: int = 4
    patch: int = 2
    """Side, in latents, of what is one token."""
    text: TextSettings = field(default_factory=TextSettings)
    prompt_tokens: int = 30
    """Tokens of a prompt, padding included; a longer caption is passed over for another one of its scene."""
    prompt_dropout: float = 0.1
    """Share of pictures whose prompt is emptied, for guidance."""
    batch_size: int = 32
    level_location: float = -1.0
    """Mean of half the logarithm of the signal-to-noise ratio at which pictures are shown. On JanusFlow's straight path that is logit(t):
    its stages' ``flow.time_location`` and ``time_scale`` mean the same noise levels."""
    level_scale: float = 1.2
    """Standard deviation of the same; 0 shows every step equally often, as PixArt-alpha was trained."""
    compile_blocks: bool = field(default=False, metadata=NO_EFFECT)
    """Compile each block of the transformer. Results change by float rounding only."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=5000, learning_rate=1e-3, optimizer="muon", ema=0.999))
    sample_prompts: tuple[str, ...] = ()
    """Drawn at the end into samples.png, to be looked at."""

    def __post_init__(self) -> None:
        """Refuse what cannot be built or learnt."""
        if self.width % self.heads:
            raise UserError(f"width {self.width} must be a multiple of heads ({self.heads})")
        positive(self, "batch_size", "prompt_tokens")
        below_one(self, "prompt_dropout")
        finite(self, "level_location")
        not_negative(self, "level_scale")

    @property
    def drawings(self) -> int:
        """Return how many pictures the whole training shows."""
        return self.loop.steps * self.loop.accumulate * self.batch_size


def build_transformer(settings: DiffusionSettings, channels: int, side: int) -> PixArtTransformer2DModel:
    """Build the denoiser with random weights drawn from the loop's seed.

    Args:
        settings: Its sizes.
        channels: Of the latents.
        side: Of the latents.

    Raises:
        UserError: The latents cannot be cut into patches.

    Source: PixArt-alpha/PixArt-alpha @ 0d29cbd, diffusion/model/nets/PixArt.py, initialize_weights (what starts at zero, and the 0.02).
    """
    if side % settings.patch:
        raise UserError(f"latents of side {side} cannot be cut into patches of {settings.patch}; change diffusion.patch")
    with seeded(settings.loop.seed):
        model = PixArtTransformer2DModel(
            num_attention_heads=settings.heads,
            attention_head_dim=settings.width // settings.heads,
            in_channels=channels,
            out_channels=channels,
            num_layers=settings.layers,
            cross_attention_dim=settings.width,
            sample_size=side,
            patch_size=settings.patch,
            caption_channels=settings.text.width,
            use_additional_conditions=False,
        )
        timestep = model.adaln_single.emb.timestep_embedder
        for layer in (timestep.linear_1, timestep.linear_2, model.adaln_single.linear):
            nn.init.normal_(layer.weight, std=0.02)
    for layer in (model.proj_out, *(_cross_out(block) for block in model.transformer_blocks)):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def _cross_out(block: Any) -> nn.Linear:  # noqa: ANN401 - diffusers' block, whose attributes are not annotated
    """Return the last layer of a block's attention to the prompt."""
    return block.attn2.to_out[0]


def build_text_encoder(settings: DiffusionSettings, tokenizer: PreTrainedTokenizerFast) -> T5EncoderModel:
    """Build the prompt's encoder with random weights drawn from the loop's seed."""
    end, pad = end_and_pad(tokenizer)
    sizes = settings.text
    with seeded(settings.loop.seed + 1):
        return T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=sizes.width,
                d_kv=sizes.width // sizes.heads,
                d_ff=sizes.mlp,
                num_layers=sizes.layers,
                num_heads=sizes.heads,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                pad_token_id=pad,
                eos_token_id=end,
            )
        )


def attend_plainly(transformer: PixArtTransformer2DModel, text_encoder: T5EncoderModel) -> None:
    """Let both attend by plain matrix products: on a CPU and over few tokens, the backward pass of fused attention is slower."""
    transformer.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")


def noise_levels(scheduler: DDPMScheduler) -> Tensor:
    """Return half the logarithm of the signal-to-noise ratio of every step (N,), falling."""
    signal = scheduler.alphas_cumprod.double()
    return (0.5 * (signal.log() - (1.0 - signal).log())).float()


def draw_steps(n: int, levels: Tensor, settings: DiffusionSettings, generator: torch.Generator) -> Tensor:
    """Draw n steps of the scheduler: the nearest to normally distributed noise levels, or all alike.

    Args:
        n: How many.
        levels: See `noise_levels`.
        settings: The distribution.
        generator: Draws them.

    Returns:
        (n,) int64.
    """
    if not settings.level_scale:
        return torch.randint(len(levels), (n,), generator=generator)
    wanted = settings.level_location + settings.level_scale * torch.randn(n, generator=generator)
    return (levels[None] - wanted[:, None]).abs().argmin(1)


def spoken(caption: str) -> str:
    """Return a prompt as the pipeline reads it. Source: diffusers' PixArtAlphaPipeline, _text_preprocessing."""
    return caption.lower().strip()


@dataclass(frozen=True, kw_only=True)
class DiffusionBatch:
    """Pictures to learn to draw, with everything random about them already drawn."""

    ids: list[str]
    latents: Tensor
    """Scaled VAE latents (B, C, h, w)."""
    noise: Tensor
    """Standard normal, of the same shape."""
    steps: Tensor
    """(B,): step of the scheduler, 0 the least noisy."""
    tokens: Tensor
    """(B, T): prompts after their begin token, padded on the right; a dropped one is the begin token alone."""
    mask: Tensor
    """(B, T): 1 where there is a token, 0 where there is padding."""


class DiffusionObjective:
    """The mean squared error of v-prediction, over the transformer and the prompt's encoder."""

    def __init__(
        self,
        transformer: PixArtTransformer2DModel,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerFast,
        scenes: Scenes,
        latents: np.ndarray,
        settings: DiffusionSettings,
    ) -> None:
        """Take what is trained, and what it learns from.

        Args:
            transformer: The denoiser.
            text_encoder: Reads the prompts.
            tokenizer: Its vocabulary.
            scenes: Captions.
            latents: (N, C, h, w), the scenes' scaled latents.
            settings: Batches and noise levels.
        """
        self.module = nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})
        self.transformer, self.text_encoder, self.tokenizer = transformer, text_encoder, tokenizer
        self.scenes, self.latents, self.settings = scenes, latents, settings
        self.scheduler = DDPMScheduler(**NOISE)
        self.levels = noise_levels(self.scheduler)
        self.sampler = Sampler(len(scenes), settings.batch_size, settings.loop.seed)

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Train everything at one rate."""
        return [(1.0, list(self.module.parameters()))]

    def matrices(self) -> Sequence[nn.Parameter]:
        """Return the hidden matrices of both networks' blocks."""
        blocks = (self.transformer.transformer_blocks, self.text_encoder.encoder.block)
        named = [pair for block in blocks for pair in block.named_parameters()]
        return [p for name, p in named if p.ndim == 2 and not name.endswith(("scale_shift_table", "relative_attention_bias.weight"))]

    def batch(self, step: int, rng: StepRng) -> DiffusionBatch:
        """Draw scenes, a caption for each, noise levels, noise and dropped prompts."""
        rows = self.sampler.indices(step)
        captions = [self._caption(int(row), rng) for row in rows]
        latents = torch.from_numpy(np.asarray(self.latents[rows], np.float32))
        steps = draw_steps(len(rows), self.levels, self.settings, rng.torch)
        noise = torch.randn(latents.shape, generator=rng.torch)
        dropped = (torch.rand(len(rows), generator=rng.torch) < self.settings.prompt_dropout).tolist()
        tokens, mask = self._encode(["" if drop else caption for caption, drop in zip(captions, dropped, strict=True)])
        ids = [self.scenes.ids[i] for i in rows]
        return DiffusionBatch(ids=ids, latents=latents, noise=noise, steps=steps, tokens=tokens, mask=mask)

    def _caption(self, row: int, rng: StepRng) -> str:
        """Choose one of a scene's captions that are short enough.

        Raises:
            UserError: None is.
        """
        captions = [spoken(caption) for caption in self.scenes.captions(row)]
        for place in rng.numpy.permutation(len(captions)):
            if len(self.tokenizer.encode(captions[int(place)])) <= self.settings.prompt_tokens:
                return captions[int(place)]
        raise UserError(
            f"every caption of scene {self.scenes.ids[row]} is longer than prompt_tokens = {self.settings.prompt_tokens}; raise it"
        )

    def _encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer(list(prompts), padding="max_length", max_length=self.settings.prompt_tokens, return_tensors="pt")
        return torch.as_tensor(encoded["input_ids"]), torch.as_tensor(encoded["attention_mask"])

    def ids(self, batch: DiffusionBatch) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def loss(self, batch: DiffusionBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the mean of ``(v(z_n, n, prompt) - (a_n e - s_n x))^2`` at ``z_n = a_n x + s_n e``, with ``a_n^2 + s_n^2 = 1``."""
        noisy: Any = self.scheduler.add_noise(batch.latents, batch.noise, batch.steps)  # pyright: ignore[reportArgumentType]
        wanted: Any = self.scheduler.get_velocity(batch.latents, batch.noise, batch.steps)  # pyright: ignore[reportArgumentType]
        states = self.text_encoder(input_ids=batch.tokens, attention_mask=batch.mask).last_hidden_state
        predicted = self.transformer(
            noisy, encoder_hidden_states=states, encoder_attention_mask=batch.mask, timestep=batch.steps, return_dict=False
        )[0]
        return F.mse_loss(predicted.float(), wanted), {}
