"""JanusFlow: one causal language model that reads images through SigLIP and draws them by rectified flow.

Shapes: B batch, T tokens, P prompt tokens, D width, N image tokens, C latent channels, h and w latent pixels.
Flow: z at t = 0 is noise, at t = 1 data; the model predicts the velocity dz/dt = data - noise.
Source: JanusFlow, arXiv 2411.07975, section 3; the published checkpoint's configuration and tensor names.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.activations import ACT2FN

from jfeval.errors import unknown
from jfeval.models.janusflow.cache import CACHE_ARGUMENT, KeyValueCache
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.recompute import Recomputing
from jfeval.models.janusflow.uvit import ConvNeXtBlock, FlowDecoder, FlowEncoder, RMSNorm
from jfeval.models.janusflow.vision import VisionTower


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """Prompts of different lengths, padded on the left so that what follows starts in the same column."""

    ids: Tensor
    """Token ids (B, P)."""
    valid: Tensor
    """(B, P) bool: which columns may be attended to."""
    positions: Tensor
    """(B, P): each token's rotary position; a prompt starts at 0 whatever the padding."""

    @classmethod
    def from_lists(cls, prompts: list[list[int]], *, pad_id: int, device: torch.device | str = "cpu") -> Self:
        """Pad token lists on the left.

        Raises:
            ValueError: A prompt has no token.
        """
        if not prompts or not all(prompts):
            raise ValueError("every prompt needs at least one token")
        longest = max(map(len, prompts))
        ids = torch.tensor([[pad_id] * (longest - len(p)) + p for p in prompts], device=device)
        columns = torch.arange(longest, device=device)
        offsets = torch.tensor([longest - len(p) for p in prompts], device=device)[:, None]
        return cls(ids=ids, valid=columns >= offsets, positions=(columns - offsets).clamp(min=0))

    def unconditional(self, pad_id: int, rows: Tensor | None = None) -> Self:
        """Return the batch without its prompts: the first token kept, the others replaced by padding and masked, positions unchanged.

        Args:
            pad_id: The padding token.
            rows: (B,) bool, which rows to change; None changes all. Training drops a tenth of the prompts this way.

        Source: the published inference script; paper section 3.2 (prompts dropped with probability 0.1).
        """
        first = self.valid & (self.positions == 0)
        drop = torch.ones_like(first) if rows is None else rows[:, None].expand_as(first)
        hide = drop & ~first
        return replace(self, ids=self.ids.masked_fill(hide, pad_id), valid=self.valid & ~hide)

    def then(self, other: "PromptBatch") -> Self:
        """Stack two batches of the same padded length, this one first."""
        return replace(
            self,
            ids=torch.cat([self.ids, other.ids]),
            valid=torch.cat([self.valid, other.valid]),
            positions=torch.cat([self.positions, other.positions]),
        )


def causal_mask(valid: Tensor, queries: int) -> Tensor:
    """Build the attention mask of the last ``queries`` columns.

    Args:
        valid: (B, K) bool: columns that hold something.
        queries: Q, how many of the last columns ask.

    Returns:
        (B, 1, Q, K) bool, True where attention is allowed: itself, and every valid column before it. Padding sees only itself, which
        keeps its softmax finite.
    """
    keys = valid.shape[1]
    rows = torch.arange(keys - queries, keys, device=valid.device)[:, None]
    columns = torch.arange(keys, device=valid.device)[None]
    return ((columns < rows) & valid[:, None, None, :]) | (columns == rows)


class JanusFlow(Recomputing):
    """The model without its tokenizer and its VAE; `JanusFlowPipeline` holds all three."""

    def __init__(self, config: JanusFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.language_model = LlamaForCausalLM(llama_config(config))
        self.vision_und_enc_model = VisionTower(config.vision)
        self.add_own_parts()

    def add_own_parts(self) -> None:
        """Create, at their initial values, what JanusFlow adds to a language model and an understanding encoder.

        Time modulation starts as the identity, and the learned begin-of-image vector at the scale of token embeddings.
        """
        config = self.config
        d, width = config.language.hidden_size, config.flow.width
        self.vision_und_enc_aligner = nn.Linear(config.vision.width, d)
        self.beg_of_und_embed = nn.Parameter(torch.zeros(1, d))
        self.vision_gen_enc_model = FlowEncoder(config.flow, d)
        self.vision_gen_enc_aligner = nn.Linear(width, d)
        self.vision_gen_dec_aligner_norm = RMSNorm(d, config.language.rms_norm_eps)
        self.vision_gen_dec_aligner = nn.Linear(d, width)
        self.vision_gen_dec_model = FlowDecoder(config.flow, d)
        nn.init.normal_(self.beg_of_und_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, ConvNeXtBlock):
                nn.init.zeros_(module.cond_embeds_mapper.weight)
                if module.cond_embeds_mapper.bias is not None:
                    nn.init.zeros_(module.cond_embeds_mapper.bias)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, revision: str = "", dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> Self:
        """Load a checkpoint in the published form; the peak of memory stays near the size of the weights.

        Args:
            path: A folder with ``config.json`` and weights, or a hub id ``owner/name``.
            revision: The commit of a hub id, 40 hexadecimal digits.
            dtype: Type to convert the weights to; None keeps the stored ones.
            device: Where to put them.

        Raises:
            jfeval.errors.UserError: The folder, its configuration or its tensors do not fit; names and shapes are listed.
        """
        from jfeval.models.hub import local_folder
        from jfeval.models.janusflow.checkpoint import load_weights

        folder = local_folder(path, revision)
        config = JanusFlowConfig.from_file(folder)
        with torch.device("meta"):
            model = cls(config)
        load_weights(model, folder, dtype=dtype, device=device)
        return model.eval()

    def save_pretrained(
        self, path: str | Path, *, format: Literal["published"] = "published", dtype: torch.dtype | None = None, shard_bytes: int = 0
    ) -> None:
        """Write ``config.json`` and weights.

        Args:
            path: The folder to write.
            format: ``published``: names and packing of the published checkpoint, the unused attention-pool head included.
            dtype: Type to convert the weights to; None keeps them as they are, bit for bit.
            shard_bytes: Largest file; 0 for 5 GB.
        """
        from jfeval.models.janusflow.checkpoint import SHARD_BYTES, save_weights

        if format != "published":
            raise unknown("checkpoint format", format, ["published"])
        save_weights(self, Path(path), dtype=dtype, shard_bytes=shard_bytes or SHARD_BYTES)
        text = json.dumps(self.config.to_published(), indent=1) + "\n"
        (Path(path) / "config.json").write_text(text, encoding="utf-8")

    def restore_frequencies(self, device: torch.device | str) -> None:
        """Compute the rotary frequencies anew, in float32."""
        llama = self.language_model.model
        llama.rotary_emb = type(llama.rotary_emb)(config=llama.config).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert the model, except that the rotary frequencies stay float32: in bfloat16 distant positions would be confused.

        Differs: the published script converts them with the rest.
        """
        super()._apply(fn, recurse)
        frequencies = self.language_model.model.rotary_emb.inv_freq
        if frequencies.dtype != torch.float32:
            self.restore_frequencies(frequencies.device)
        return self

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Switch activation checkpointing of every block, transformer or ConvNeXt; see `Recomputing.recompute`."""
        for module in self.modules():
            if isinstance(module, Recomputing):
                module.recompute = enabled

    def compile_velocity(self) -> None:
        """Compile `velocity` for drawing: one compilation per batch size, and one for prompts of any length after the second length.

        On a GPU this takes away most of the time between kernels. Results change by float rounding only.
        """
        self.velocity = torch.compile(self.velocity)  # pyright: ignore[reportAttributeAccessIssue] - the same signature

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.beg_of_und_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.beg_of_und_embed.dtype

    # The language model.

    def embed(self, ids: Tensor) -> Tensor:
        """Embed token ids (B, T) as (B, T, D)."""
        return self.language_model.get_input_embeddings()(ids)

    def backbone(
        self, embeds: Tensor, positions: Tensor, mask: Tensor, *, cache: KeyValueCache | None = None, collect: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the language model's blocks and final norm.

        Args:
            embeds: (B, T, D).
            positions: (B, T) rotary positions.
            mask: (B, 1, T, prefix + T) bool, see `causal_mask`.
            cache: Prefix to attend to, extended unless frozen.
            collect: k > 0 also returns the hidden states after block k, which representation alignment reads.

        Returns:
            Outputs (B, T, D) and the collected states (B, T, D) or None.
        """
        llama = self.language_model.model
        rotary = llama.rotary_emb(embeds, position_ids=positions)
        if llama.config._attn_implementation == "eager":  # adds its mask instead of selecting by it
            mask = torch.zeros(mask.shape, dtype=embeds.dtype, device=mask.device).masked_fill(~mask, torch.finfo(embeds.dtype).min)
        hidden, collected = embeds, None
        for depth, layer in enumerate(llama.layers, start=1):
            hidden = self.through(layer, hidden, attention_mask=mask, position_embeddings=rotary, **{CACHE_ARGUMENT: cache})
            if depth == collect:
                collected = hidden
        return llama.norm(hidden), collected

    def logits(self, hidden: Tensor) -> Tensor:
        """Project outputs (..., D) to the vocabulary (..., V)."""
        return self.language_model.lm_head(hidden)

    # Understanding.

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """Embed images (B, 3, S, S) as (B, 1 + N, D): the learned begin-of-image vector, then the aligned patch features."""
        return self.embed_features(self.vision_und_enc_model(pixel_values.to(self.dtype)))

    def embed_features(self, features: Tensor) -> Tensor:
        """Embed the encoder's features of images (B, N, E) as `embed_images` does."""
        aligned = self.vision_und_enc_aligner(features.to(self.dtype))
        begin = self.beg_of_und_embed.expand(len(aligned), 1, -1)
        return torch.cat([begin, aligned], dim=1)

    def embed_conversation(
        self,
        ids: Tensor,
        image_positions: Tensor,
        pixel_values: Tensor,
        image_mask: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Embed tokens and put the images' embeddings in their places.

        Args:
            ids: (B, T); what stands at image positions does not matter.
            image_positions: (B, T) bool, 1 + N positions per image.
            pixel_values: (B, images, 3, S, S).
            image_mask: (B, images, 1 + N) bool; False drops what pads a row with fewer images.
            features: (B, images, N, E), the encoder's features where they are known; the pixels are then not looked at.

        Returns:
            (B, T, D). The arguments are left unchanged and gradients reach every part, the begin-of-image vector included.
            Differs: the published script detaches that vector and edits the ids in place.
        """
        batch, images = pixel_values.shape[:2]
        flat = self.embed_images(pixel_values.flatten(0, 1)) if features is None else self.embed_features(features.flatten(0, 1))
        visual = flat.unflatten(0, (batch, images))
        chosen = visual[image_mask] if image_mask is not None else visual.flatten(0, 2)
        embeds = self.embed(ids.clamp(min=0))
        places = image_positions[..., None].expand_as(embeds)
        return embeds.masked_scatter(places, chosen.to(embeds.dtype))

    # Generation.

    def encode_prompt(self, prompt: PromptBatch) -> KeyValueCache:
        """Compute the prompts' keys and values once.

        Raises:
            ValueError: Prompt and image exceed the language model's context.
        """
        context, tokens = self.config.language.max_position_embeddings, prompt.ids.shape[1]
        if tokens + 1 + self.config.image_tokens > context:
            raise ValueError(
                f"a prompt of {tokens} tokens and an image of {self.config.image_tokens} exceed the model's context of {context}"
            )
        cache = KeyValueCache()
        self.backbone(self.embed(prompt.ids), prompt.positions, causal_mask(prompt.valid, prompt.ids.shape[1]), cache=cache)
        return cache.freeze()

    def velocity(
        self, z: Tensor, t: Tensor, prompt: PromptBatch, *, cache: KeyValueCache | None = None, collect: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Predict dz/dt.

        The language model reads ``prompt | time | image``: the time embedding takes the place of the begin-of-generation token, and the
        image's tokens follow in raster order. Attention is causal throughout.

        Args:
            z: Latents (B, C, h, w).
            t: Times (B,) in [0, 1].
            prompt: The prompts (B, P), without the start tag.
            cache: What `encode_prompt` returned for the same prompts; None computes the prompts anew, as training does.
            collect: See `backbone`; the states of the image's tokens are returned.

        Returns:
            Velocity (B, C, h, w) in the weights' type, and the collected states (B, N, D) or None.
        """
        t_emb = self.vision_gen_enc_model.embed_time(t)
        skip = self.vision_gen_enc_model(z.to(self.dtype), t_emb)
        image = self.vision_gen_enc_aligner(skip.flatten(2).transpose(1, 2))
        embeds = torch.cat([t_emb[:, None], image], dim=1)
        fresh = embeds.shape[1]
        positions = prompt.positions[:, -1:] + 1 + torch.arange(fresh, device=z.device)
        valid = torch.cat([prompt.valid, prompt.valid.new_ones(len(z), fresh)], dim=1)
        if cache is None:
            embeds = torch.cat([self.embed(prompt.ids), embeds], dim=1)
            positions = torch.cat([prompt.positions, positions], dim=1)
        hidden, collected = self.backbone(embeds, positions, causal_mask(valid, embeds.shape[1]), cache=cache, collect=collect)
        image_out = hidden[:, -image.shape[1] :]
        out = self.vision_gen_dec_aligner(self.vision_gen_dec_aligner_norm(image_out))
        velocity = self.vision_gen_dec_model(out, skip, t_emb)
        return velocity, None if collected is None else collected[:, -image.shape[1] :]


def llama_config(config: JanusFlowConfig) -> LlamaConfig:
    """Return the language model's sizes in transformers' words.

    Raises:
        UserError: transformers has no such activation.
    """
    values = asdict(config.language)
    if values["hidden_act"] not in ACT2FN:
        raise unknown("hidden_act", values["hidden_act"], ACT2FN)
    theta = values.pop("rope_theta")
    return LlamaConfig(
        **values,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
