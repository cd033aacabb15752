"""Floating-point operations of learning from samples: what a budget states and what a training's speed is measured in.

One token costs twice the parameters it meets forwards, and as much again for each of the two products of the backward pass that are
needed, plus the attention's ``4 L T D`` forwards. Source: Chowdhery et al., arXiv 2204.02311, appendix B (``6 N + 12 L H Q T``). What is
computed a second time to save memory does not count: the share of a device's peak is that of the operations that the model needs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from jfeval.models.janusflow.model import JanusFlow


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
            aligned: Whether the features of drawn images are asked for.
            encodes: Whether the understanding encoder runs; False where its features are kept on disk.
        """
        sizes = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
        lang, vis, config = model.config.language, model.config.vision, model.config
        vocabulary = lang.vocab_size * lang.hidden_size
        passes_lm, passes_vision = 2 if "language" in freeze else 3, 1 if "vision" in freeze else 3
        seen = 0 if not encodes else vis.tokens * (2 * sizes["vision_und_enc_model"] + 4 * vis.depth * vis.tokens * vis.width)
        flow = 3 * 2 * config.image_tokens * (sizes["vision_gen_enc_model"] + sizes["vision_gen_dec_model"])
        return cls(
            token=passes_lm * 2.0 * (sizes["language_model"] - 2 * vocabulary),
            pair=passes_lm * 4.0 * lang.num_hidden_layers * lang.hidden_size,
            logit=passes_lm * 2.0 * vocabulary,
            read=passes_vision * float(seen),
            drawn=flow + (float(seen) if aligned else 0.0),
        )

    def language(self, tokens: int, *, logits: int = 0) -> float:
        """Return the cost of a run of tokens that attend to one another, of which some are looked up in the vocabulary."""
        return tokens * self.token + tokens * tokens * self.pair + logits * self.logit
