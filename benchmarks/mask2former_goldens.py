"""Mask2Former's golden set: what mmdetection's own network makes of random weights, by transformers' network with the same ones."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.errors import UserError
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_file

if TYPE_CHECKING:
    from torch import Tensor

_BACKBONE, _CLASSES, _MASKS, _SCORES = 1e-4, 1e-4, 1e-3, 1e-4
_FIELDS = ("pixel_seed", "backbone_last", "class_logits", "mask_logits", "scores", "labels", "boxes")
_META = ("weights_salt", "model", "input")
_PLAIN = ("query_embed", "query_feat", "level_embed", "pixel_decoder.level_encoding")


def check_mask2former(folder: Path) -> GoldenResult:
    """Rebuild the weights, convert them by name, and compare features, logits and objects."""
    import torch

    from jfeval.benchmarks.scorers.detector import instances
    from jfeval.benchmarks.scorers.mask2former import convert, full_size
    from jfeval.benchmarks.scorers.pickles import Checkpoint

    meta, arrays, tally = json_file(folder / "meta.json"), _arrays(folder / "forward.npz"), Tally()
    tally.fields("forward.npz", arrays, _FIELDS)
    tally.fields("meta.json", meta, _META)
    shapes = json_file(folder / "mmdet3_state_dict_shapes.json")
    state = draw_weights({name: tuple(shape) for name, shape in shapes.items()}, str(meta["weights_salt"]))
    model, generation = convert(Checkpoint(state=state, meta={}, sha256=""), where=str(meta["model"]))
    tally.equal("generation", 3, generation)
    shape = tuple(meta["input"])
    given = torch.randn(shape, generator=torch.Generator().manual_seed(int(arrays["pixel_seed"])))
    with torch.inference_mode():
        seen = model.eval()(pixel_values=given, output_hidden_states=True)
    tally.close("backbone_last", arrays["backbone_last"], seen.encoder_hidden_states[-1], _BACKBONE)
    tally.close("class_logits", arrays["class_logits"], seen.class_queries_logits[0], _CLASSES)
    tally.close("mask_logits", arrays["mask_logits"], seen.masks_queries_logits[0, :, ::2, ::2], _MASKS)
    found = instances(seen.class_queries_logits[0], full_size(seen.masks_queries_logits[0], shape[-2:], shape[-2:]))
    tally.close("scores", arrays["scores"], found.scores, _SCORES)
    recorded = list(zip(arrays["scores"], arrays["labels"], arrays["boxes"].tolist(), strict=True))
    free = list(zip(found.scores, found.labels, found.boxes.tolist(), strict=True))
    for score, label, box in recorded:
        same = [i for i, other in enumerate(free) if abs(other[0] - score) <= _SCORES and (other[1], other[2]) == (label, box)]
        if same:
            free.pop(same[0])
        else:
            tally.differ(f"no object of label {label}, score {score:.5f} and box {box}")
    return tally.result(len(recorded), numeric=True)


def draw_weights(shapes: dict[str, tuple[int, ...]], salt: str) -> "dict[str, Tensor]":
    """Draw mmdetection's weights by their names, as the recording did; its tables of positions, which are no weights, are left out."""
    import torch

    state = {}
    for name, shape in shapes.items():
        if name.endswith("relative_position_index"):
            continue
        drawn = np.random.default_rng(zlib.crc32(f"{salt}:{name}".encode())).standard_normal(shape, dtype=np.float32)
        if "norm" in name or ".gn." in name:
            drawn = drawn * np.float32(0.1) + np.float32(name.endswith("weight"))
        elif len(shape) < 2:
            drawn = drawn * np.float32(0.1)
        elif "relative_position_bias_table" not in name and name not in {f"panoptic_head.{plain}.weight" for plain in _PLAIN}:
            drawn = drawn * np.float32(1.2 / np.sqrt(np.prod(shape[1:])))
        state[name] = torch.from_numpy(np.asarray(drawn, dtype=np.float32))
    return state


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="mask2former", recognise=has_any("forward.npz", "mmdet3_state_dict_shapes.json"), check=check_mask2former),
)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
