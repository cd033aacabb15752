"""The published checkpoint's tensor names, to and from ours.

All names are the published ones except inside the understanding tower, where transformers' SigLIP has names of its own and keeps
query, key and value apart.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jfeval.models.janusflow.model import JanusFlow

TOWER = "vision_und_enc_model.vision_tower."
POOL = f"{TOWER}attn_pool."
"""Published prefix of the attention-pool head, which has tensors but plays no part."""

_SAME = (
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.#.norm1.", "encoder.layers.#.layer_norm1."),
    ("blocks.#.norm2.", "encoder.layers.#.layer_norm2."),
    ("blocks.#.attn.proj.", "encoder.layers.#.self_attn.out_proj."),
    ("blocks.#.mlp.", "encoder.layers.#.mlp."),
    ("norm.", "post_layernorm."),
    ("attn_pool.latent", "head.probe"),
    ("attn_pool.proj.", "head.attention.out_proj."),
    ("attn_pool.norm.", "head.layernorm."),
    ("attn_pool.mlp.", "head.mlp."),
)
"""Beginnings of names inside the tower, published and transformers', of tensors that are the same in both; # is a block's number."""
_TO_INTERNAL = _SAME
_TO_PUBLISHED = tuple((ours, theirs) for theirs, ours in _SAME)


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """Replace the beginning of a name by the first pair that fits; a name that none fits stays as it is."""
    for old, new in pairs:
        if found := re.match(re.escape(old).replace(r"\#", r"(\d+)"), name):
            return new.replace("#", found[1] if found.re.groups else "") + name[found.end() :]
    return name


def to_internal(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published tensors to this package's names, splitting what the tower packs.

    The attention-pool head's query and key-value tensors must come together. Names that are not known are passed through, so that
    loading can report them.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in published.items():
        out.update(_tower_to_internal(name.removeprefix(TOWER), tensor) if name.startswith(TOWER) else [(name, tensor)])
    query = out.pop(f"{TOWER}head.attention.query", None), out.pop(f"{TOWER}head.attention.query_bias", None)
    for q, kind in zip(query, ("weight", "bias"), strict=True):
        name = f"{TOWER}head.attention.in_proj_{kind}"
        if q is not None and name in out:
            out[name] = torch.cat([q, out[name]])
        elif q is not None:
            out[f"{POOL}q.{kind}"] = q
    return out


def _tower_to_internal(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that one published tower tensor becomes."""
    packed = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
    pool = re.fullmatch(r"attn_pool\.(q|kv)\.(weight|bias)", name)
    if packed and len(tensor) % 3 == 0:
        for part, piece in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{TOWER}encoder.layers.{packed[1]}.self_attn.{part}_proj.{packed[2]}", piece
    elif pool and pool[1] == "q":
        yield f"{TOWER}head.attention.query{'_bias' if pool[2] == 'bias' else ''}", tensor
    elif pool:
        yield f"{TOWER}head.attention.in_proj_{pool[2]}", tensor
    elif name == "pos_embed" and tensor.ndim == 3 and len(tensor) == 1:
        yield f"{TOWER}embeddings.position_embedding.weight", tensor[0]
    else:
        yield TOWER + _renamed(name, _TO_INTERNAL), tensor


def to_published(internal: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename this package's tensors to the published names and pack what the published tower packs; inverts `to_internal`."""
    tower = {name.removeprefix(TOWER): t for name, t in internal.items() if name.startswith(TOWER)}
    out = {name: t for name, t in internal.items() if not name.startswith(TOWER)}
    for name, tensor in tower.items():
        attention = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
        if attention and attention[2] == "q":
            parts = [tower[f"encoder.layers.{attention[1]}.self_attn.{p}_proj.{attention[3]}"] for p in "qkv"]
            out[f"{TOWER}blocks.{attention[1]}.attn.qkv.{attention[3]}"] = torch.cat(parts)
        elif name == "embeddings.position_embedding.weight":
            out[f"{TOWER}pos_embed"] = tensor[None]
        elif match := re.fullmatch(r"head\.attention\.in_proj_(weight|bias)", name):
            q, kv = tensor[: len(tensor) // 3], tensor[len(tensor) // 3 :]
            out[f"{POOL}q.{match[1]}"], out[f"{POOL}kv.{match[1]}"] = q, kv
        elif not attention:
            out[TOWER + _renamed(name, _TO_PUBLISHED)] = tensor
    return out


def stored_tensors(model: "JanusFlow") -> dict[str, Tensor]:
    """Return the tensors that a checkpoint of ``model`` holds, under this package's names: a tied output layer is left out."""
    tensors = model.state_dict()
    if model.config.language.tie_word_embeddings:
        tensors.pop("language_model.lm_head.weight", None)
    return tensors


def published_shapes(model: "JanusFlow") -> dict[str, list[int]]:
    """List every published tensor name of ``model`` with its shape; works on the meta device, without any weights."""
    with torch.device("meta"):
        empty = {name: tensor.to("meta") for name, tensor in stored_tensors(model).items()}
        return {name: list(tensor.shape) for name, tensor in to_published(empty).items()}
