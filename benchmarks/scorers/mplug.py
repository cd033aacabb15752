"""mPLUG for visual question answering: the network behind DPG-Bench's judge, under the published checkpoint's tensor names.

An image goes through a CLIP vision transformer, a question through BERT; a fusion encoder lets the text look at the image and, every few
layers, lets both attend to each other and adds what the image half learned (the skip connection); a BERT decoder writes the answer.

Source: Li et al., "mPLUG" (arXiv 2205.12005), section 3; modelscope 1.40.2, models/multi_modal/mplug/modeling_mplug.py and clip/clip.py.
Differs: only what answers a question is here: no training, no momentum twins, no text half of CLIP. Beams share their question's keys and
values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jfeval.errors import UserError

_PADDED = -10000.0
"""Added to the attention logits of padded text. Source: as above, BertModel.get_extended_attention_mask."""
_CLIP_EPS = 1e-5
_VISUAL_NORM_EPS = 1e-12
_HEAD_WIDTH = 64
"""Width of a head of CLIP's vision transformer."""


@dataclass(frozen=True, kw_only=True)
class MplugConfig:
    """Sizes, under the names of config.yaml and config_bert.json."""

    image_res: int
    clip_vision_patch_size: int
    clip_vision_width: int
    clip_vision_layers: int
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    text_encoder_layers: int
    text_decode_layers: int
    fusion_layers: int
    stride_layer: int

    def __post_init__(self) -> None:
        """Check what the network is built from."""
        if self.hidden_size % self.num_attention_heads or self.clip_vision_width % _HEAD_WIDTH:
            raise UserError(
                f"mPLUG: width {self.hidden_size} does not divide into {self.num_attention_heads} heads, "
                f"or {self.clip_vision_width} into heads of {_HEAD_WIDTH}"
            )
        if not 1 <= self.fusion_layers <= self.num_hidden_layers or self.stride_layer < 1 or self.image_res % self.clip_vision_patch_size:
            raise UserError("mPLUG: fusion_layers, stride_layer or image_res of the configuration do not fit the other sizes")


class Mplug(nn.Module):
    """Image and question in, states for the decoder, and logits of an answer's next word out."""

    def __init__(self, config: MplugConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = _Holder(visual=_Vision(config))
        self.large = config.clip_vision_width != config.hidden_size
        if self.large:
            self.visn_fc = nn.Linear(config.clip_vision_width, config.hidden_size)
            self.visn_layer_norm = nn.LayerNorm(config.hidden_size, eps=_VISUAL_NORM_EPS)
        self.text_encoder = _Bert(config, config.text_encoder_layers, cross=False)
        self.fusion_encoder = _Holder(encoder=_Layers(config, config.num_hidden_layers, cross=True))
        self.text_decoder = _Holder(bert=_Bert(config, config.text_decode_layers, cross=True), cls=_Holder(predictions=_Head(config)))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels ``(B, 3, R, R)`` into states ``(B, patches + 1, D)``."""
        states = self.visual_encoder.visual(pixels)
        return self.visn_layer_norm(self.visn_fc(states)) if self.large else states

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Turn token ids ``(B, T)`` with their mask (1 for text, 0 for padding) into states ``(B, T, D)``."""
        return self.text_encoder(ids, _bias(mask, _PADDED, self.dtype))

    def fuse(self, image: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Let text states ``(B, T, D)`` and image states ``(B, N, D)`` look at each other; returns both."""
        config, padded = self.config, _bias(mask, _PADDED, self.dtype)
        both = torch.cat([padded.new_zeros(*padded.shape[:3], image.shape[1]), padded], dim=-1)
        length = image.shape[1]
        first = config.num_hidden_layers - config.fusion_layers
        for index, layer in enumerate(self.fusion_encoder.encoder.layer[first:]):
            if index and index % config.stride_layer == 0:
                states = layer.feed_forward(layer.attention(torch.cat([image, text], dim=1), bias=both))
                image, text = image + states[:, :length], states[:, length:]
            else:
                seen = layer.attention(text, bias=padded)
                text = layer.feed_forward(layer.crossattention(seen, layer.crossattention.memory(image)))
        return image, text

    def remember(self, image: Tensor, text: Tensor, mask: Tensor) -> "Memory":
        """Compute what every word of an answer looks at: keys and values of the fused states, once for each question."""
        states = torch.cat([image, text], dim=1)
        seen = torch.cat([mask.new_ones(image.shape[:2]), mask], dim=1)
        layers = [layer.crossattention.memory(states) for layer in self.text_decoder.bert.encoder.layer]
        return Memory(layers=layers, bias=_bias(seen, torch.finfo(self.dtype).min, self.dtype))

    def next_logits(self, ids: Tensor, memory: "Memory") -> Tensor:
        """Return the logits ``(Q, K, t, V)`` of K beginnings of an answer ``(Q, K, t)`` to each of Q questions."""
        questions, beams, length = ids.shape
        bert = self.text_decoder.bert
        states = bert.embeddings(ids.reshape(-1, length))
        causal = torch.full((length, length), _PADDED, dtype=self.dtype, device=ids.device).triu(1)
        for layer, kept in zip(bert.encoder.layer, memory.layers, strict=True):
            seen = layer.attention(states, bias=causal).reshape(questions, beams * length, -1)
            states = layer.feed_forward(layer.crossattention(seen, kept, bias=memory.bias)).reshape(questions * beams, length, -1)
        return self.text_decoder.cls.predictions(states).reshape(questions, beams, length, -1)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' type."""
        return self.text_encoder.embeddings.word_embeddings.weight.dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Keys and values of each decoder layer ``(Q, heads, N + T, D / heads)``, and the bias of padded places."""

    layers: list[tuple[Tensor, Tensor]]
    bias: Tensor

    def of(self, questions: Tensor) -> "Memory":
        """Keep some of the questions."""
        return Memory(layers=[(k[questions], v[questions]) for k, v in self.layers], bias=self.bias[questions])


def _bias(mask: Tensor, value: float, dtype: torch.dtype) -> Tensor:
    """Turn a mask ``(B, T)`` into what is added to logits, ``(B, 1, 1, T)``."""
    return (1.0 - mask[:, None, None, :].to(dtype)) * value


class _Holder(nn.Module):
    """A level of names."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)

    if TYPE_CHECKING:  # what a level holds is known by the checkpoint's names only

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401


class _Attention(nn.Module):
    """Multi-head attention with its output projection, residual and normalisation after it."""

    def __init__(self, config: MplugConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.add_module("self", _Holder(query=nn.Linear(width, width), key=nn.Linear(width, width), value=nn.Linear(width, width)))
        self.output = _Holder(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps))

    @property
    def _maps(self) -> "_Holder":
        return cast("_Holder", self.get_submodule("self"))

    def memory(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of states."""
        maps = self._maps
        return self._split(maps.key(states)), self._split(maps.value(states))

    def forward(self, states: Tensor, memory: tuple[Tensor, Tensor] | None = None, bias: Tensor | None = None) -> Tensor:
        """Look from states at a memory, or at themselves."""
        keys, values = memory if memory is not None else self.memory(states)
        seen = F.scaled_dot_product_attention(self._split(self._maps.query(states)), keys, values, attn_mask=bias)
        return self.output.LayerNorm(self.output.dense(seen.transpose(1, 2).flatten(2)) + states)

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    def __init__(self, config: MplugConfig, *, cross: bool) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = _Attention(config)
        if cross:
            self.crossattention = _Attention(config)
        self.intermediate = _Holder(dense=nn.Linear(width, inner))
        self.output = _Holder(dense=nn.Linear(inner, width), LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps))

    def feed_forward(self, states: Tensor) -> Tensor:
        return self.output.LayerNorm(self.output.dense(F.gelu(self.intermediate.dense(states))) + states)


class _Layers(nn.Module):
    def __init__(self, config: MplugConfig, count: int, *, cross: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config, cross=cross) for _ in range(count))


class _Embeddings(nn.Module):
    def __init__(self, config: MplugConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[-1]]
        return self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])


class _Bert(nn.Module):
    def __init__(self, config: MplugConfig, count: int, *, cross: bool) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config, count, cross=cross)

    def forward(self, ids: Tensor, bias: Tensor) -> Tensor:
        states = self.embeddings(ids)
        for layer in cast("Sequence[_Layer]", self.encoder.layer):
            states = layer.feed_forward(layer.attention(states, bias=bias))
        return states


class _Head(nn.Module):
    """From the decoder's states to words."""

    def __init__(self, config: MplugConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.transform = _Holder(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=config.layer_norm_eps))
        self.decoder = nn.Linear(width, config.vocab_size, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.decoder(self.transform.LayerNorm(F.gelu(self.transform.dense(states)))) + self.bias


class _Vision(nn.Module):
    """CLIP's vision transformer with all of its tokens, normalised and not projected."""

    def __init__(self, config: MplugConfig) -> None:
        super().__init__()
        width, patch = config.clip_vision_width, config.clip_vision_patch_size
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((config.image_res // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width, eps=_CLIP_EPS)
        self.transformer = _Holder(resblocks=nn.ModuleList(_Block(width) for _ in range(config.clip_vision_layers)))
        self.ln_post = nn.LayerNorm(width, eps=_CLIP_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        states = torch.cat([self.class_embedding.expand(len(patches), 1, -1), patches], dim=1)
        states = self.ln_pre(states + self.positional_embedding)
        for block in self.transformer.resblocks:
            states = block(states)
        return self.ln_post(states)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=_CLIP_EPS)
        self.attn = nn.MultiheadAttention(width, width // _HEAD_WIDTH, batch_first=True)
        self.ln_2 = nn.LayerNorm(width, eps=_CLIP_EPS)
        self.mlp = _Holder(c_fc=nn.Linear(width, 4 * width), c_proj=nn.Linear(4 * width, width))

    def forward(self, states: Tensor) -> Tensor:
        normed = self.ln_1(states)
        states = states + self.attn(normed, normed, normed, need_weights=False)[0]
        inner = self.mlp.c_fc(self.ln_2(states))
        return states + self.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))
