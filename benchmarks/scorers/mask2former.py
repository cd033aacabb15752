"""Mask2Former with a Swin backbone, GenEval's detector: mmdetection's published weights in transformers' network.

What lies around the network is mmdetection's: OpenCV's resize before it, and after it the masks' two resizes and `detector.instances`.
Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py (which model); mmdetection 3.3.0, mmdet/apis/inference.py,
inference_detector, mmdet/models/detectors/maskformer.py, predict, mmdet/models/data_preprocessors/data_preprocessor.py.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jfeval.benchmarks.scorers.detector import Instances, instances
from jfeval.benchmarks.scorers.loading import load_quietly
from jfeval.benchmarks.scorers.mask2former_names import some, to_mmdet3, to_transformers
from jfeval.benchmarks.scorers.pickles import Checkpoint, read_checkpoint
from jfeval.benchmarks.scorers.resizing import resize_bilinear, size_within
from jfeval.errors import UserError
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

log = logging.getLogger(__name__)

CLASSES = 80
"""COCO's things; the checkpoint's class head has one more, "no object"."""
_PANOPTIC = 133
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of RGB in 0..255. Source: mmdetection 3.3.0, configs/mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py, data_preprocessor."""
_MULTIPLE = 32
_LEVELS, _POINTS = 3, 4
_UNUSED = (".swin.layernorm.", ".encoder.layernorm.", "criterion.empty_weight")
"""What transformers has beside mmdetection's tensors: a last norm that no output passes, and the weights of its loss."""
PUBLISHED = {
    "743b7d99": "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth, mmdetection 2.x",
    "c9d0c4f2": "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco_20220504_001756-c9d0c4f2.pth, mmdetection 3.x",
}
"""How the sha256 of the two published files begins: their names end in it.

Source: mmdetection 2.27.0, tools/model_converters/publish_model.py, process_checkpoint.
"""


class Mask2FormerDetector:
    """Finds objects in pictures.

    Args:
        model: transformers' network with its weights.
        weights: What the weights are, for the identity.
        device: Where the network runs.
        batch_size: Pictures of one size that go through it together.
    """

    name = "mask2former"

    def __init__(
        self, model: "Mask2FormerForUniversalSegmentation", weights: JsonObject, *, device: str = "cpu", batch_size: int = 4
    ) -> None:
        self.model = model.to(device).eval()  # pyright: ignore[reportArgumentType]
        self.weights = weights
        self.device = torch.device(device)
        self.batch_size = batch_size

    def identity(self) -> JsonObject:
        """Return what can change a detection."""
        return {"detector": self.name, "backend": "transformers", **self.weights, "dtype": str(self.model.dtype)}

    @torch.inference_mode()
    def detect(self, images: "Sequence[Image]") -> list[Instances]:
        """Find the best objects of each picture, at its own size, in order."""
        inputs = [pixels(image) for image in images]
        found: dict[int, Instances] = {}
        for batch in _alike([tuple(one.shape[-2:]) for one in inputs], self.batch_size):
            seen = self.model(pixel_values=torch.stack([padded(inputs[i]) for i in batch]).to(self.device))
            for i, classes, masks in zip(batch, seen.class_queries_logits, seen.masks_queries_logits, strict=True):
                found[i] = instances(classes, full_size(masks, tuple(inputs[i].shape[-2:]), (images[i].height, images[i].width)))
        return [found[i] for i in range(len(images))]


def pixels(image: "Image") -> Tensor:
    """Resize a picture into 1333x800 and normalise it: float32 ``(3, H, W)``."""
    picture = np.asarray(image.convert("RGB"))
    resized = torch.from_numpy(resize_bilinear(picture, *size_within(*picture.shape[:2]))).permute(2, 0, 1).float()
    return (resized - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


def padded(picture: Tensor) -> Tensor:
    """Pad a picture ``(3, H, W)`` with zeros below and to the right, to multiples of 32."""
    height, width = picture.shape[-2:]
    return F.pad(picture, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))


def full_size(masks: Tensor, resized: tuple[int, ...], original: tuple[int, int]) -> Tensor:
    """Bring mask logits ``(Q, h, w)`` to the picture's own size: to the padded input's, without the padding, to the original.

    Source: mmdetection 3.3.0, mmdet/models/dense_heads/mask2former_head.py, predict (as MaskFormerHead), and
    seg_heads/panoptic_fusion_heads/maskformer_fusion_head.py, predict.
    """
    height, width = resized
    up = (height + -height % _MULTIPLE, width + -width % _MULTIPLE)
    large = F.interpolate(masks[None], size=up, mode="bilinear", align_corners=False)[..., :height, :width]
    return F.interpolate(large, size=original, mode="bilinear", align_corners=False)[0]


def load_detector(path: Path, *, device: str = "cpu", batch_size: int = 4) -> Mask2FormerDetector:
    """Load mmdetection's checkpoint file, or a folder in transformers' form (the labelled fallback).

    Raises:
        UserError: It is missing, of another model, or not whole; names the signs.
    """
    if path.is_dir():
        return _from_folder(path, device=device, batch_size=batch_size)
    checkpoint = read_checkpoint(path)
    model, generation = convert(checkpoint, where=str(path))
    weights = label_weights(path, checkpoint.sha256, generation)
    return Mask2FormerDetector(model, weights, device=device, batch_size=batch_size)


def label_weights(path: Path, sha256: str, generation: int) -> JsonObject:
    """Say which weights a file holds, and warn where they are not the published ones."""
    published = PUBLISHED.get(sha256[:8], "")
    if not published:
        log.warning("%s is not one of the two published files: its sha256 begins with %s", path, sha256[:8])
    return {"weights_sha256": sha256, "generation": f"mmdetection {generation}.x", "published": published}


def convert(checkpoint: Checkpoint, *, where: str) -> "tuple[Mask2FormerForUniversalSegmentation, int]":
    """Build transformers' network with mmdetection's tensors, all of them.

    Returns:
        The network, and the generation of mmdetection, 2 or 3, that named the tensors.

    Raises:
        UserError: The checkpoint is of another model, or tensors are missing, unknown or of another size.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    try:
        state, generation = to_mmdet3(checkpoint.state)
        check_instance_model(state, checkpoint.meta)
        config = read_sizes(state)
        tensors = to_transformers(state)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    model, loaded = load_quietly(
        Mask2FormerForUniversalSegmentation,
        None,
        config=config,
        state_dict=tensors,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
    )
    check_whole(loaded, where=where)
    return model, generation


def check_whole(loaded: Mapping[str, object], *, where: str) -> None:
    """Refuse a network of which a part was not loaded, or weights of which a part was not used.

    Raises:
        UserError: Lists the tensors.
    """
    missing = sorted(name for name in _names(loaded, "missing_keys") if not any(part in name for part in _UNUSED))
    unknown = sorted(name for name in _names(loaded, "unexpected_keys") if not any(part in name for part in _UNUSED))
    sized = sorted(_names(loaded, "mismatched_keys"))
    for what, names in (("are missing", missing), ("are unknown", unknown), ("have another size", sized)):
        if names:
            raise UserError(f"{where}: {len(names)} tensors of Mask2Former {what}: {some(names)}; a part of a detector is not loaded")


def check_instance_model(state: Mapping[str, Tensor], meta: Mapping[str, object]) -> None:
    """Refuse the panoptic model, and other data sets' models, whose classes are not GenEval's.

    Raises:
        UserError: Names the signs.
    """
    head = state.get("panoptic_head.cls_embed.bias")
    if head is None:
        raise UserError("there is no panoptic_head.cls_embed.bias, which every Mask2Former of mmdetection has; MaskFormer is another model")
    classes, stated = len(head) - 1, meta.get("CLASSES")
    if isinstance(meta.get("dataset_meta"), dict):
        stated = meta["dataset_meta"].get("CLASSES", meta["dataset_meta"].get("classes"))  # pyright: ignore[reportAttributeAccessIssue]
    signs = [f"its class head tells {classes} classes"]
    signs += [f"its metadata lists {len(stated)}"] if isinstance(stated, list | tuple) else []
    if classes == _PANOPTIC:
        raise UserError(
            f"this is the panoptic model ({'; '.join(signs)}: 80 things and 53 kinds of stuff). GenEval needs the instance model with "
            f"{CLASSES}; with this one scores are near zero"
        )
    if classes != CLASSES:
        raise UserError(f"this is no model of COCO's {CLASSES} things: {'; '.join(signs)}")


def read_sizes(state: Mapping[str, Tensor]) -> "Mask2FormerConfig":
    """Read the network's sizes off the tensors of mmdetection 3.x.

    Raises:
        UserError: A tensor that tells a size is missing: another backbone, or a part of a checkpoint.
    """
    from transformers import Mask2FormerConfig, SwinConfig

    head, pixel = "panoptic_head", "panoptic_head.pixel_decoder.encoder.layers"
    try:
        tables = [state[f"backbone.stages.{i}.blocks.0.attn.w_msa.relative_position_bias_table"] for i in range(4)]
        width = len(state["backbone.patch_embed.projection.weight"])
        queries, hidden = state[f"{head}.query_embed.weight"].shape
        swin = SwinConfig(
            patch_size=state["backbone.patch_embed.projection.weight"].shape[-1],
            embed_dim=width,
            depths=[_count(state, f"backbone.stages.{i}.blocks.") for i in range(4)],
            num_heads=[table.shape[1] for table in tables],
            window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
            mlp_ratio=len(state["backbone.stages.0.blocks.0.ffn.layers.0.0.bias"]) / width,
            drop_path_rate=0.0,
            out_features=["stage1", "stage2", "stage3", "stage4"],  # pyright: ignore[reportCallIssue] - a base class takes it
        )
        return Mask2FormerConfig(
            backbone_config=swin,  # pyright: ignore[reportArgumentType]
            num_labels=len(state[f"{head}.cls_embed.bias"]) - 1,  # pyright: ignore[reportCallIssue] - a base class takes it
            num_queries=queries,
            hidden_dim=hidden,
            feature_size=hidden,
            mask_feature_size=len(state[f"{head}.pixel_decoder.mask_feature.bias"]),
            num_attention_heads=len(state[f"{pixel}.0.self_attn.attention_weights.bias"]) // (_LEVELS * _POINTS),
            encoder_layers=_count(state, f"{pixel}."),
            encoder_feedforward_dim=len(state[f"{pixel}.0.ffn.layers.0.0.bias"]),
            decoder_layers=_count(state, f"{head}.transformer_decoder.layers.") + 1,
            dim_feedforward=len(state[f"{head}.transformer_decoder.layers.0.ffn.layers.0.0.bias"]),
        )
    except KeyError as error:
        raise UserError(f"{error.args[0]} is missing: another backbone than Swin, or not the whole checkpoint") from error


def _from_folder(path: Path, *, device: str, batch_size: int) -> Mask2FormerDetector:
    """Load transformers' own form, such as facebook/mask2former-swin-small-coco-instance: same network, other weights, other scores."""
    import hashlib

    from transformers import Mask2FormerForUniversalSegmentation

    weights = path / "model.safetensors"
    if not weights.is_file() or not (path / "config.json").is_file():
        raise UserError(f"{path} holds no Mask2Former in transformers' form: config.json and model.safetensors are needed")
    try:
        model, loaded = load_quietly(
            Mask2FormerForUniversalSegmentation, path, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} cannot be loaded as Mask2Former: {str(error).splitlines()[0][:200]}") from error
    check_whole(loaded, where=str(path))
    if model.config.num_labels != CLASSES:
        raise UserError(f"{path} tells {model.config.num_labels} classes; GenEval's detector tells COCO's {CLASSES} things (instance)")
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    log.warning("%s has other weights than GenEval's detector: numbers are labelled as a fallback's, and not GenEval's", path)
    label: JsonObject = {"weights_sha256": digest, "fallback": "not GenEval's weights: transformers' checkpoint of the same network"}
    return Mask2FormerDetector(model, label, device=device, batch_size=batch_size)


def _alike(sizes: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Put the places of equal sizes together, at most so many in one batch."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, size in enumerate(sizes):
        by_size.setdefault(size, []).append(place)
    return [places[start : start + most] for places in by_size.values() for start in range(0, len(places), most)]


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _names(loaded: Mapping[str, object], key: str) -> list[str]:
    """Read one list of transformers' report; its entries are names, or begin with one."""
    found = loaded.get(key) or ()
    return [one if isinstance(one, str) else str(one[0]) for one in found]  # pyright: ignore[reportGeneralTypeIssues, reportIndexIssue]
