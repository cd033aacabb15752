"""The published checkpoint's tensor names, to and from ours.

All names are the published ones except inside the understanding tower, where transformers' SigLIP has names of its own and keeps
query, key and value apart.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.models.janusflow.model import JanusFlow

TOWER = "vision_und_enc_model.vision_tower."

_RENAMES = (
    (r"patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"norm\.", "post_layernorm."),
    (r"attn_pool\.latent$", "head.probe"),
    (r"attn_pool\.proj\.", "head.attention.out_proj."),
    (r"attn_pool\.norm\.", "head.layernorm."),
    (r"attn_pool\.mlp\.", "head.mlp."),
)
"""Published name inside the tower -> transformers' name, for tensors that are the same in both."""


def to_internal(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published tensors to this package's names, splitting what the tower packs.

    Names that are not known are passed through, so that loading can report them.
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
            out[f"{TOWER}attn_pool.q.{kind}"] = q
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
        yield TOWER + _renamed(name, _RENAMES), tensor


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
            out[f"{TOWER}attn_pool.q.{match[1]}"], out[f"{TOWER}attn_pool.kv.{match[1]}"] = q, kv
        elif not attention:
            out[TOWER + _renamed(name, _INVERSE)] = tensor
    return out


_INVERSE = (
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
    (r"post_layernorm\.", "norm."),
    (r"head\.probe$", "attn_pool.latent"),
    (r"head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"head\.layernorm\.", "attn_pool.norm."),
    (r"head\.mlp\.", "attn_pool.mlp."),
)


def _renamed(name: str, rules: Sequence[tuple[str, str]]) -> str:
    """Apply the first rule that fits; a name that none fits stays as it is."""
    for pattern, replacement in rules:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return name


def published_shapes(model: "JanusFlow") -> dict[str, list[int]]:
    """List every published tensor name of ``model`` with its shape; works on the meta device, without any weights."""
    return {name: list(tensor.shape) for name, tensor in to_published(model.state_dict()).items()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint folder: ``model.safetensors``, its shards, or ``pytorch_model*.bin``.

    Raises:
        UserError: No weights are found, or a file is truncated or of another kind; names the file.
    """
    files = sorted(path.glob("model*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not files:
        raise UserError(f"no weights in {path}: expected model.safetensors, model-*.safetensors or pytorch_model*.bin")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            part = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True, map_location="cpu")
        except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read as weights, it is truncated or of another kind: {error}") from error
        tensors.update(part)
    return tensors


def load_weights(model: "JanusFlow", path: Path) -> None:
    """Copy a published checkpoint's weights into ``model``.

    Raises:
        UserError: Tensors are missing, unexpected or of another shape; all are listed by their published names.
    """
    published = read_tensors(path)
    expected = published_shapes(model)
    found = {name: list(tensor.shape) for name, tensor in published.items()}
    problems = [f"missing    {name} {shape}" for name, shape in expected.items() if name not in found]
    problems += [f"unexpected {name} {shape}" for name, shape in found.items() if name not in expected]
    problems += [
        f"mis-shaped {name}: expected {shape}, found {found[name]}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        raise UserError(
            f"the weights in {path} do not fit its config.json ({len(problems)} of {len(expected)} tensors):\n  "
            + "\n  ".join(problems[:40])
            + (f"\n  ... and {len(problems) - 40} more" if len(problems) > 40 else "")
        )
    model.load_state_dict(to_internal(published))
