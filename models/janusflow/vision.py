"""The understanding encoder: transformers' SigLIP vision tower, sized by `VisionConfig`.

Source: paper section 3.1. Two details of the published tower differ from transformers' defaults: the GELU is exact (erf), and the
output is every patch token after the final LayerNorm; the attention-pooling head has weights but plays no part.
"""

from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from jfeval.models.janusflow.config import VisionConfig
from jfeval.models.janusflow.recompute import Recomputing


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

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode normalised pixels (B, 3, S, S) as features (B, tokens, width)."""
        tower = self.vision_tower
        hidden = tower.embeddings(pixel_values)
        for layer in tower.encoder.layers:
            hidden = self.through(layer, hidden, attention_mask=None)
        return tower.post_layernorm(hidden[0] if isinstance(hidden, tuple) else hidden)
