"""Floating-point operations of learning from samples: what a budget states and what a training's speed is measured in.

One token costs the language model twice the parameters it meets forwards, and as much again for each of the two products of the backward
pass that are needed, plus the attention's ``4 L T D`` forwards. Source: Chowdhery et al., arXiv 2204.02311, appendix B
(``6 N + 12 L H Q T``). What sees and draws is not counted by its parameters, since a convolution meets pixel after pixel with the
same ones: torch counts the products of one image's forward pass, on the meta device. What is computed a second time to
save memory does not count: the share of a device's peak is that of the operations that the model needs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.uvit import FlowDecoder, FlowEncoder
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.encoders import LatentEncoder

_LEARNING = 3
"""Products of a layer that learns, for each of its forward pass: that one, the gradient of its input and that of its weights."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What each thing costs in one stage, forwards and backwards."""

    token: float
    """A token in the language model's blocks, attention left out."""
    pair: float
    """A token and one that it attends to."""
    logit: float
    """A token's look at the whole vocabulary."""
    read: float
    """An image that is read."""
    drawn: float
    """An image that is drawn, its tokens in the language model left out; with its features where they are aligned to."""

    @classmethod
    def of(cls, model: JanusFlow, freeze: Collection[str], *, aligned: bool, encodes: bool = True) -> Self:
        """Count a model, which may be on the meta device.

        Args:
            model: The model.
            freeze: What the stage does not train, see `StageSettings.freeze`.
            aligned: Whether the features of drawn images are asked for. They are a vision tower's, also where the model understands through
                latents.
            encodes: Whether the understanding encoder runs; False where its features are kept on disk.
        """
        lang, config = model.config.language, model.config
        vocabulary = lang.vocab_size * lang.hidden_size
        blocks = sum(p.numel() for p in model.language_model.parameters()) - 2 * vocabulary
        passes = 2 if "language" in freeze else _LEARNING
        with torch.device("meta"):
            tower = _tower(config) if encodes else 0.0
            encoder: nn.Module = model.vision_und_enc_model
            own = 1 if "vision" in freeze else _LEARNING
            return cls(
                token=passes * 2.0 * blocks,
                pair=passes * 4.0 * lang.num_hidden_layers * lang.hidden_size,
                logit=passes * 2.0 * vocabulary,
                read=_through_latents(encoder, config) if isinstance(encoder, LatentEncoder) else own * tower,
                drawn=_LEARNING * _flow(config) + (tower if aligned else 0.0),
            )

    def language(self, tokens: int, *, logits: int = 0) -> float:
        """Return the cost of a run of tokens that attend to one another, of which some are looked up in the vocabulary."""
        return tokens * self.token + tokens * tokens * self.pair + logits * self.logit


def forward_operations(network: nn.Module, *inputs: Tensor) -> float:
    """Count a forward pass, two for each multiplication with its addition: matrix products, convolutions and attention, nothing else."""
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network(*inputs)
    return float(counted.get_total_flops())


def _tower(config: JanusFlowConfig) -> float:
    return forward_operations(VisionTower(config.vision), _image(config))


def _flow(config: JanusFlowConfig) -> float:
    """Count the generation encoder and decoder: one image's forward pass."""
    flow, hidden, grid = config.flow, config.language.hidden_size, config.vision.grid
    time, skip = torch.zeros(1, hidden), torch.zeros(1, flow.width, grid, grid)
    decoder = forward_operations(FlowDecoder(flow, hidden), torch.zeros(1, config.image_tokens, flow.width), skip, time)
    return _encoder(config) + decoder


def _encoder(config: JanusFlowConfig) -> float:
    """Count the generation encoder's forward pass with the time embedding's."""
    flow, hidden, side = config.flow, config.language.hidden_size, config.latent_size
    encoder = FlowEncoder(flow, hidden)
    time = forward_operations(encoder.time_embed, torch.zeros(1, flow.width))
    return time + forward_operations(encoder, torch.zeros(1, flow.latent_channels, side, side), torch.zeros(1, hidden))


def _through_latents(encoder: LatentEncoder, config: JanusFlowConfig) -> float:
    """Count reading one image through a VAE and ConvNeXt blocks, which learn always, as the VAE does where it is the encoder's own."""
    vae: AutoencoderKL = AutoencoderKL.from_config(encoder.vae_config)  # pyright: ignore[reportAssignmentType, reportArgumentType]
    layers = [vae.encoder] if vae.quant_conv is None else [vae.encoder, vae.quant_conv]
    pixels = forward_operations(nn.Sequential(*layers), _image(config))
    return (_LEARNING if encoder.own else 1) * pixels + _LEARNING * _encoder(config)


def _image(config: JanusFlowConfig) -> Tensor:
    return torch.zeros(1, 3, config.vision.image_size, config.vision.image_size)
