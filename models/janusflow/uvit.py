"""The generation encoder and decoder: latents to language-model width, and back to a velocity.

Both are shallow ConvNeXt networks joined by one long skip around the language model. Attribute names are those of the published
checkpoint. Shapes: B batch, C channels, h and w latent pixels, H = h / patch and W = w / patch tokens, D language-model width.

Source: paper section 3.1; Woo et al., ConvNeXt V2, arXiv 2301.00808 (block and global response norm); the published tensor names.
"""

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from jfeval.models.janusflow.config import FlowConfig
from jfeval.models.janusflow.recompute import Recomputing

TIME_SCALE = 1000.0
"""The sinusoid is taken of 1000 t, t in [0, 1]. Source: the published inference script."""


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (..., width)."""
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)


class GlobalResponseNorm(nn.Module):
    """Lets channels compete by their energy over the image: ``weight * x * g(x) + bias + x``.

    ``g`` is a channel's L2 norm over the image, divided by the mean of these norms over channels.
    Source: arXiv 2301.00808, section 3 and equation 3. Weight and bias start at 0, so the layer starts as the identity.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` (B, H, W, C)."""
        energy = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
        response = (energy / (energy.mean(dim=-1, keepdim=True) + self.eps)).to(x.dtype)
        return self.weight * (x * response) + self.bias + x


class ConvNeXtBlock(nn.Module):
    """A ConvNeXt V2 block whose output, residual included, is scaled and shifted by the time embedding."""

    def __init__(self, width: int, time_width: int, *, eps: float, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=7, padding=3, groups=width, bias=bias)
        self.norm = RMSNorm(width, eps)
        self.channelwise_linear_1 = nn.Linear(width, 4 * width, bias=bias)
        self.channelwise_norm = GlobalResponseNorm(4 * width)
        self.channelwise_linear_2 = nn.Linear(4 * width, width, bias=bias)
        self.cond_embeds_mapper = nn.Linear(time_width, 2 * width, bias=bias)

    def forward(self, x: Tensor, t_emb: Tensor) -> Tensor:
        """Map ``x`` (B, C, H, W) under ``t_emb`` (B, D) to the same shape."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.channelwise_norm(F.gelu(self.channelwise_linear_1(y)))
        x = x + self.channelwise_linear_2(y).permute(0, 3, 1, 2)
        scale, shift = self.cond_embeds_mapper(F.silu(t_emb))[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class MidBlock(Recomputing):
    """A stack of ConvNeXt blocks at one resolution."""

    def __init__(self, blocks: int, width: int, time_width: int, *, eps: float, bias: bool) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(ConvNeXtBlock(width, time_width, eps=eps, bias=bias) for _ in range(blocks))

    def forward(self, x: Tensor, t_emb: Tensor) -> Tensor:
        """Apply the blocks in turn."""
        for block in self.res_blocks:
            x = self.through(block, x, t_emb)
        return x


class FlowEncoder(nn.Module):
    """Latents to features at token resolution, and the time embedding that everything else shares."""

    def __init__(self, config: FlowConfig, hidden_size: int) -> None:
        super().__init__()
        self.time_proj = Timesteps(config.width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embed = TimestepEmbedding(config.width, hidden_size)
        self.in_conv = nn.Conv2d(config.latent_channels, config.width, kernel_size=config.patch, stride=config.patch)
        self.mid_block = MidBlock(config.encoder_blocks, config.width, hidden_size, eps=config.norm_eps, bias=config.bias)

    def embed_time(self, t: Tensor) -> Tensor:
        """Embed times ``t`` (B,) in [0, 1], 0 noise and 1 data, as (B, D)."""
        return self.time_embed(self.time_proj(t.float() * TIME_SCALE).to(self.in_conv.weight.dtype))

    def forward(self, z: Tensor, t_emb: Tensor) -> Tensor:
        """Encode latents ``z`` (B, C, h, w) as features (B, width, H, W), which are also the long skip."""
        return self.mid_block(self.in_conv(z), t_emb)


class UnpatchConv(nn.Module):
    """Norm, 1x1 convolution and pixel shuffle: features at token resolution to latent pixels."""

    def __init__(self, width: int, out_channels: int, patch: int, *, eps: float, bias: bool) -> None:
        super().__init__()
        self.norm = RMSNorm(width, eps)
        self.unpatch_conv = nn.Conv2d(width, out_channels * patch**2, kernel_size=1, bias=bias)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, width, H, W) to (B, out_channels, H * patch, W * patch)."""
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(self.unpatch_conv(x), self.patch)


class FlowDecoder(nn.Module):
    """Language-model outputs, joined with the long skip, to a velocity."""

    def __init__(self, config: FlowConfig, hidden_size: int) -> None:
        super().__init__()
        joined = 2 * config.width
        self.input_norm = RMSNorm(config.width, config.norm_eps)
        self.mid_block = MidBlock(config.decoder_blocks, joined, hidden_size, eps=config.norm_eps, bias=config.bias)
        self.out_convs = nn.ModuleList([UnpatchConv(joined, config.latent_channels, config.patch, eps=config.norm_eps, bias=config.bias)])

    def forward(self, x: Tensor, skip: Tensor, t_emb: Tensor) -> Tensor:
        """Decode.

        Args:
            x: Projected language-model outputs (B, H * W, width), raster order.
            skip: The encoder's features (B, width, H, W).
            t_emb: Time embedding (B, D).

        Returns:
            Velocity (B, C, h, w).
        """
        x = self.input_norm(x).transpose(1, 2).reshape(skip.shape)
        x = self.mid_block(torch.cat([x, skip], dim=1), t_emb)
        for out in self.out_convs:
            x = out(x)
        return x
