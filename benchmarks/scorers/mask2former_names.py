"""mmdetection's Mask2Former, tensor by tensor, as transformers publishes the same network.

Both generations of mmdetection are read: 2.x numbers its attentions, 3.x names them. transformers' side is the form of its own published
checkpoints, which every version of it loads.

Source: mmdetection 2.27.0 and 3.3.0, mmdet/models (names); mmcv 1.7.1, mmcv/cnn/bricks/transformer.py, operation_order (which of 2.x's
attentions is which); transformers 5.23, models/mask2former/convert_mask2former_original_pytorch_checkpoint_to_pytorch.py (target names).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from jfeval.errors import UserError

_OLD = re.compile(r"(encoder|decoder)\.layers\.\d+\.(attentions\.\d|ffns\.0)\.")
_NEW = re.compile(r"(encoder|decoder)\.layers\.\d+\.(self_attn|cross_attn|ffn)\.")
_PIXELS = "model.pixel_level_module"
_SWIN = f"{_PIXELS}.encoder.encoder.layers"
_PIXEL_DECODER = f"{_PIXELS}.decoder"
_DECODER = "model.transformer_module"
_LAYER = f"{_DECODER}.decoder.layers"

_RENAMED: tuple[tuple[str, str], ...] = (
    (r"backbone\.patch_embed\.projection\.", f"{_PIXELS}.encoder.embeddings.patch_embeddings.projection."),
    (r"backbone\.patch_embed\.norm\.", f"{_PIXELS}.encoder.embeddings.norm."),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.norm1\.", rf"{_SWIN}.\1.blocks.\2.layernorm_before."),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.norm2\.", rf"{_SWIN}.\1.blocks.\2.layernorm_after."),
    (
        r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.relative_position_bias_table",
        rf"{_SWIN}.\1.blocks.\2.attention.self.relative_position_bias_table",
    ),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.proj\.", rf"{_SWIN}.\1.blocks.\2.attention.output.dense."),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.", rf"{_SWIN}.\1.blocks.\2.intermediate.dense."),
    (r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.ffn\.layers\.1\.", rf"{_SWIN}.\1.blocks.\2.output.dense."),
    (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.conv\.", rf"{_PIXEL_DECODER}.input_projections.\1.0."),
    (r"panoptic_head\.pixel_decoder\.input_convs\.(\d+)\.gn\.", rf"{_PIXEL_DECODER}.input_projections.\1.1."),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.self_attn\.", rf"{_PIXEL_DECODER}.encoder.layers.\1.self_attn."),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.ffn\.layers\.0\.0\.", rf"{_PIXEL_DECODER}.encoder.layers.\1.fc1."),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.ffn\.layers\.1\.", rf"{_PIXEL_DECODER}.encoder.layers.\1.fc2."),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.norms\.0\.", rf"{_PIXEL_DECODER}.encoder.layers.\1.self_attn_layer_norm."),
    (r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\.norms\.1\.", rf"{_PIXEL_DECODER}.encoder.layers.\1.final_layer_norm."),
    (r"panoptic_head\.pixel_decoder\.level_encoding\.weight", f"{_PIXEL_DECODER}.level_embed"),
    (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.conv\.", f"{_PIXEL_DECODER}.adapter_1.0."),
    (r"panoptic_head\.pixel_decoder\.lateral_convs\.0\.gn\.", f"{_PIXEL_DECODER}.adapter_1.1."),
    (r"panoptic_head\.pixel_decoder\.output_convs\.0\.conv\.", f"{_PIXEL_DECODER}.layer_1.0."),
    (r"panoptic_head\.pixel_decoder\.output_convs\.0\.gn\.", f"{_PIXEL_DECODER}.layer_1.1."),
    (r"panoptic_head\.pixel_decoder\.mask_feature\.", f"{_PIXEL_DECODER}.mask_projection."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.self_attn\.attn\.out_proj\.", rf"{_LAYER}.\1.self_attn.out_proj."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.cross_attn\.attn\.", rf"{_LAYER}.\1.cross_attn."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.ffn\.layers\.0\.0\.", rf"{_LAYER}.\1.fc1."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.ffn\.layers\.1\.", rf"{_LAYER}.\1.fc2."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.0\.", rf"{_LAYER}.\1.cross_attn_layer_norm."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.1\.", rf"{_LAYER}.\1.self_attn_layer_norm."),
    (r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.norms\.2\.", rf"{_LAYER}.\1.final_layer_norm."),
    (r"panoptic_head\.transformer_decoder\.post_norm\.", f"{_DECODER}.decoder.layernorm."),
    (r"panoptic_head\.query_embed\.", f"{_DECODER}.queries_embedder."),
    (r"panoptic_head\.query_feat\.", f"{_DECODER}.queries_features."),
    (r"panoptic_head\.level_embed\.", f"{_DECODER}.level_embed."),
    (r"panoptic_head\.cls_embed\.", "class_predictor."),
)
"""How a name of mmdetection 3.x begins, and what transformers has in that place; tensors are the same."""

Named: TypeAlias = Iterator[tuple[str, Tensor]]


def to_mmdet3(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Name tensors as mmdetection 3.x does.

    Returns:
        The tensors, and the generation, 2 or 3, whose names they had.

    Raises:
        UserError: Names of both generations, or of neither.
    """
    old = sum(bool(_OLD.search(name)) for name in state)
    new = sum(bool(_NEW.search(name)) for name in state)
    if old and new:
        raise UserError(f"{old} tensors are named as in mmdetection 2.x (attentions.0) and {new} as in 3.x (self_attn): two files in one?")
    if not old and not new:
        raise UserError("no tensor is named as in mmdetection's Mask2Former, of generation 2.x (attentions.0) or 3.x (self_attn)")
    if new:
        return dict(state), 3
    return {_renamed_to_3(name): tensor for name, tensor in state.items()}, 2


def _renamed_to_3(name: str) -> str:
    first, second = ("cross_attn", "self_attn") if ".transformer_decoder.layers." in name else ("self_attn", "attentions.1")
    if ".transformer_decoder.layers." in name or ".pixel_decoder.encoder.layers." in name:
        return name.replace("attentions.1", second).replace("attentions.0", first).replace("ffns.0", "ffn")
    return name


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name and shape the tensors of mmdetection 3.x as transformers' published checkpoints have them.

    Tables of positions (``relative_position_index``), which follow from the window, are left out.

    Raises:
        UserError: Tensors have no counterpart; lists them.
    """
    made: dict[str, Tensor] = {}
    unmapped: list[str] = []
    for name, tensor in state.items():
        if name.endswith("relative_position_index"):
            continue
        parts = dict(_converted(name, tensor))
        made |= parts
        unmapped += [] if parts else [name]
    if unmapped:
        raise UserError(f"{len(unmapped)} tensors of the checkpoint have no place in Mask2Former with a Swin backbone: {some(unmapped)}")
    return made


def some(names: Sequence[str], shown: int = 8) -> str:
    """Write the first few of some names, and how many more there are."""
    listed = ", ".join(name[:120] if name.isprintable() else ascii(name)[:120] for name in names[:shown])
    return listed + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _converted(name: str, tensor: Tensor) -> Named:
    """Yield what one tensor becomes: nothing where it has no counterpart."""
    for pattern, convert in _SPECIAL:
        if found := pattern.fullmatch(name):
            yield from convert(found, tensor)
            return
    for pattern, target in _RULES:
        if found := pattern.match(name):
            yield found.expand(target) + name[found.end() :], tensor
            return


def _query_key_value(found: re.Match[str], tensor: Tensor) -> Named:
    stage, block, kind = found.groups()
    for name, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
        yield f"{_SWIN}.{stage}.blocks.{block}.attention.self.{name}.{kind}", part.clone()


def _packed(found: re.Match[str], tensor: Tensor) -> Named:
    layer, kind = found.groups()
    for name, part in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
        yield f"{_LAYER}.{layer}.self_attn.{name}.{kind}", part.clone()


def _downsample(found: re.Match[str], tensor: Tensor) -> Named:
    """Reorder the four neighbours that are joined: mmdetection's unfold has channels outermost, transformers joins whole neighbours."""
    stage, tail = found.groups()
    neighbours = tensor.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]]
    yield f"{_SWIN}.{stage}.downsample.{tail}", neighbours.transpose(-1, -2).flatten(-2).contiguous()


def _stage_norm(found: re.Match[str], tensor: Tensor) -> Named:
    yield f"{_PIXELS}.encoder.hidden_states_norms.stage{int(found[1]) + 1}.{found[2]}", tensor


def _mask_head(found: re.Match[str], tensor: Tensor) -> Named:
    yield f"{_DECODER}.decoder.mask_predictor.mask_embedder.{int(found[1]) // 2}.0.{found[2]}", tensor


_SPECIAL: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Tensor], Named]], ...] = (
    (re.compile(r"backbone\.stages\.(\d+)\.blocks\.(\d+)\.attn\.w_msa\.qkv\.(weight|bias)"), _query_key_value),
    (re.compile(r"backbone\.stages\.(\d+)\.downsample\.(reduction\.weight|norm\.weight|norm\.bias)"), _downsample),
    (re.compile(r"backbone\.norm(\d)\.(weight|bias)"), _stage_norm),
    (re.compile(r"panoptic_head\.transformer_decoder\.layers\.(\d+)\.self_attn\.attn\.in_proj_(weight|bias)"), _packed),
    (re.compile(r"panoptic_head\.mask_embed\.([024])\.(weight|bias)"), _mask_head),
)
_RULES = tuple((re.compile(pattern), target) for pattern, target in _RENAMED)
