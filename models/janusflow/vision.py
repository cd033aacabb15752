"""The understanding encoder: transformers' SigLIP vision tower, sized by `VisionConfig`.

Source: paper section 3.1. Two details of the published tower differ from transformers' defaults: the GELU is exact (erf), and the
output is every patch token after the final LayerNorm; the attention-pooling head has weights but plays no part.
"""

from typing import Literal, TypeAlias

from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from jfeval.models.janusflow.config import VisionConfig
from jfeval.models.janusflow.recompute import Recomputing

Output: TypeAlias = Literal["normed", "unnormed", "penultimate"]
"""Of the tower: its last block's, after or before the final LayerNorm, or that of the block before."""


def siglip_config(config: VisionConfig) -> SiglipVisionConfig:
    """Return the same tower in transformers' words."""
    return SiglipVisionConfig(
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]
    )


class VisionTower(Recomputing):
    """Reads images into patch features."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.vision_tower = SiglipVisionModel(siglip_config(config))

    def forward(self, pixel_values: Tensor, output: Output = "normed") -> Tensor:
        """Encode normalised pixels (B, 3, S, S) as features (B, tokens, width); the language model reads the ``normed`` ones."""
        tower = self.vision_tower
        hidden = tower.embeddings(pixel_values)
        blocks = list(tower.encoder.layers)
        for layer in blocks[:-1] if output == "penultimate" else blocks:
            hidden = self.through(layer, hidden, attention_mask=None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        return tower.post_layernorm(hidden) if output == "normed" else hidden
