"""The autoencoder of the generation side: diffusers' AutoencoderKL, small, trained on images of the training split.

Flat shapes need sharp edges and exact colours, so the loss is L1 + L2 + the L1 of the image's differences along both axes, and a KL
term so light that it only keeps the latents bounded. Noise on the latents while training makes the decoder forgive the small errors
of a flow model. At the end every latent channel is brought to mean 0 and variance 1 *inside* the 1x1 convolutions around the
latents, which changes no reconstruction, and `scaling_factor` is measured (1.0 but for sampling), so that the published decode
``z / scaling_factor`` holds as it stands.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.training.checks import not_negative, positive
from jfeval.models.training.data import Sampler, Scenes, StepRng, seeded
from jfeval.models.training.loop import LoopSettings, fit
from jfeval.models.training.part import Part

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VaeSettings:
    """Sizes and loss of the autoencoder."""

    widths: tuple[int, ...] = (24, 48, 64)
    """Channels per resolution; each further entry halves the image, so three give latents of a quarter of the side."""
    layers_per_block: int = 1
    groups: int = 8
    """Groups of the group norms."""
    latent_channels: int = 4
    image_size: int = 64
    batch_size: int = 16
    l1: float = 1.0
    l2: float = 1.0
    edges: float = 1.0
    """Weights of the absolute, squared and edge errors, for pixels in [-1, 1]."""
    kl: float = 1e-5
    """Weight of the KL divergence per latent number."""
    latent_noise: float = 0.05
    """Standard deviation, relative to the latents' own, of the noise added before decoding while training."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=4000, learning_rate=2e-3, ema=0.999))
    test_images: int = 1000
    """Test images measured at the end."""

    def __post_init__(self) -> None:
        """Refuse sizes that diffusers would reject later, less clearly."""
        positive(self, "batch_size", "image_size", "latent_channels")
        not_negative(self, "l1", "l2", "edges", "kl", "latent_noise")
        if any(width % self.groups for width in self.widths):
            raise UserError(f"every width of {self.widths} must be a multiple of groups ({self.groups})")
        if self.image_size % 2 ** (len(self.widths) - 1):
            raise UserError(f"image_size {self.image_size} cannot be halved {len(self.widths) - 1} times")


def build_vae(settings: VaeSettings) -> AutoencoderKL:
    """Build the autoencoder with random weights drawn from the loop's seed."""
    levels = len(settings.widths)
    with seeded(settings.loop.seed):
        return AutoencoderKL(
            sample_size=settings.image_size,
            latent_channels=settings.latent_channels,
            block_out_channels=settings.widths,  # pyright: ignore[reportArgumentType] - diffusers annotates one-tuples
            down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
            up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
            layers_per_block=settings.layers_per_block,
            norm_num_groups=settings.groups,
            mid_block_add_attention=False,
        )


@dataclass(frozen=True, kw_only=True)
class VaeBatch:
    """Images and the noise their latents get."""

    ids: list[str]
    pixels: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    posterior_noise: Tensor
    extra_noise: Tensor
    """(B, C, h, w) standard normal, for the posterior sample and for the decoder's robustness."""


class VaeObjective:
    """Reconstruction with a light KL term; see the module's docstring."""

    def __init__(self, module: AutoencoderKL, scenes: Scenes, settings: VaeSettings) -> None:
        self.module, self.scenes, self.settings = module, scenes, settings
        self.sampler = Sampler(len(scenes), settings.batch_size, settings.loop.seed)
        side = settings.image_size // 2 ** (len(settings.widths) - 1)
        self.latent_shape = (settings.batch_size, settings.latent_channels, side, side)

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Train everything at one rate."""
        return [(1.0, list(self.module.parameters()))]

    def batch(self, step: int, rng: StepRng) -> VaeBatch:
        """Draw images and noise."""
        rows = self.sampler.indices(step)
        first, second = (torch.randn(self.latent_shape, generator=rng.torch) for _ in range(2))
        ids = [self.scenes.ids[i] for i in rows]
        return VaeBatch(ids=ids, pixels=self.scenes.pixels(rows), posterior_noise=first, extra_noise=second)

    def ids(self, batch: VaeBatch) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def loss(self, batch: VaeBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the weighted loss and its parts."""
        s = self.settings
        posterior = self.module.encode(batch.pixels).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        latents = mean + (0.5 * logvar).exp() * batch.posterior_noise
        latents = latents + s.latent_noise * mean.detach().std() * batch.extra_noise
        error = self.module.decode(latents).sample.float() - batch.pixels  # pyright: ignore[reportAttributeAccessIssue]
        l1, l2 = error.abs().mean(), error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        total = s.l1 * l1 + s.l2 * l2 + s.edges * edges + s.kl * kl
        return total, {"l1": l1.detach(), "edges": edges.detach(), "kl": kl.detach()}


@torch.no_grad()
def encode_mean(vae: AutoencoderKL, scenes: Scenes, rows: Sequence[int] | np.ndarray, batch_size: int = 64) -> Tensor:
    """Return the posterior means (N, C, h, w) of scenes, in float32 and unscaled."""
    pieces = [np.asarray(rows)[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return torch.cat([vae.encode(scenes.pixels(piece)).latent_dist.mean for piece in pieces])  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def standardize(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Shift and scale the latent channels inside the 1x1 convolutions on both sides, leaving every reconstruction as it was.

    Args:
        vae: Changed in place.
        mean: (C,) present mean of each latent channel.
        std: (C,) present standard deviation of each.
    """
    before, after = vae.quant_conv, vae.post_quant_conv
    if before is None or after is None or before.bias is None or after.bias is None:
        raise ValueError("this autoencoder has no 1x1 convolutions with biases around its latents")
    channels = mean.numel()
    before.weight[:channels] /= std.view(-1, 1, 1, 1)
    before.bias[:channels] = (before.bias[:channels] - mean) / std
    before.bias[channels:] -= 2.0 * std.log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std.view(1, -1, 1, 1)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Return reconstructions of (B, 3, H, W) in [-1, 1] as uint8 (B, 3, H, W), through the posterior mean."""
    out = vae.decode(vae.encode(pixels).latent_dist.mean).sample  # pyright: ignore[reportAttributeAccessIssue]
    return to_uint8(out)


def to_uint8(pixels: Tensor) -> Tensor:
    """Round pixels in [-1, 1] to uint8."""
    return pixels.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def measure(vae: AutoencoderKL, scenes: Scenes, count: int) -> dict[str, float]:
    """Measure reconstructions of the first `count` scenes: PSNR of the mean squared error in dB, and errors in 255ths."""
    squared, absolute, worst = [], [], []
    for start in range(0, min(count, len(scenes)), 50):
        rows = np.arange(start, min(start + 50, count, len(scenes)))
        pixels = scenes.pixels(rows)
        error = (reconstruct(vae, pixels).float() - to_uint8(pixels).float()).flatten(1)
        squared += error.square().mean(1).tolist()
        absolute += error.abs().mean(1).tolist()
        worst += error.abs().quantile(0.99, dim=1).tolist()
    mse = float(np.mean(squared))
    return {
        "images": float(len(squared)),
        "psnr_db": 10.0 * math.log10(255.0**2 / max(mse, 1e-12)),
        "mean_absolute_error_255": float(np.mean(absolute)),
        "p99_absolute_error_255": float(np.mean(worst)),
    }


def contact_sheet(vae: AutoencoderKL, scenes: Scenes, path: Path, columns: int = 12, rows: int = 4, scale: int = 2) -> None:
    """Draw pairs of rows, originals above their reconstructions, as one PNG."""
    strips = []
    for row in range(rows):
        chosen = np.arange(row * columns, (row + 1) * columns) % len(scenes)
        pixels = scenes.pixels(chosen)
        for images in (to_uint8(pixels), reconstruct(vae, pixels)):
            strips.append(torch.cat(list(images), dim=2))
    sheet = torch.cat(strips, dim=1).permute(1, 2, 0).numpy()
    Image.fromarray(sheet.repeat(scale, 0).repeat(scale, 1)).save(path)


def train_vae(settings: VaeSettings, part: Part) -> dict[str, float]:
    """Train the autoencoder and write it in diffusers' form, with its measurements on the test split."""
    scenes = Scenes.open_train(part.inputs["data"])
    vae = build_vae(settings)
    log.info("vae: %d parameters", sum(p.numel() for p in vae.parameters()))
    result = fit(part.name, VaeObjective(vae, scenes, settings), settings.loop, part.folder, signature=part.hash)
    probe = np.linspace(0, len(scenes) - 1, min(2000, len(scenes))).astype(np.int64)
    latents = encode_mean(vae, scenes, probe)
    standardize(vae, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
    std = float(encode_mean(vae, scenes, probe).std())
    vae.register_to_config(scaling_factor=1.0 / std)
    vae.save_pretrained(part.folder / "vae", safe_serialization=True)
    test = Scenes(part.inputs["data"], "test")
    numbers = measure(vae, test, settings.test_images)
    contact_sheet(vae, test, part.folder / "reconstructions.png")
    return {**numbers, "latent_std": std, "parameters": float(sum(p.numel() for p in vae.parameters())), "seconds": result.seconds}
