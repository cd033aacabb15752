"""GenEval's detector in mmdetection 3.x itself, as a second backend: slower and harder to install, and what the port is measured by.

Needs the extra ``mmdet`` in an environment of its own (`tox -e mmdet` builds one): its compiled parts follow torch's versions with delay.
Source: mmdetection 3.3.0, mmdet/apis/inference.py, init_detector and inference_detector;
configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jfeval.benchmarks.scorers.detector import Instances
from jfeval.benchmarks.scorers.mask2former import check_instance_model, label_weights
from jfeval.benchmarks.scorers.mask2former_names import some, to_mmdet3
from jfeval.benchmarks.scorers.pickles import read_checkpoint
from jfeval.errors import UserError
from jfeval.schema import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG = "mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py"
"""The instance model's configuration in mmdetection's folder of configurations, which an installation carries along."""


class MmdetDetector:
    """Finds objects in pictures, one picture at a time.

    Args:
        model: mmdetection's network with its weights.
        weights: What the weights are, for the identity.
    """

    name = "mask2former"

    def __init__(self, model: Any, weights: JsonObject) -> None:  # noqa: ANN401  mmdetection's class, whose module need not be there
        self.model, self.weights = model, weights

    def identity(self) -> JsonObject:
        """Return what can change a detection."""
        import mmdet  # pyright: ignore[reportMissingImports]

        return {"detector": self.name, "backend": f"mmdet {mmdet.__version__}", **self.weights}

    def detect(self, images: "Sequence[Image]") -> list[Instances]:
        """Find the best objects of each picture, at its own size, in order."""
        from mmdet.apis import inference_detector  # pyright: ignore[reportMissingImports]

        found = []
        for image in images:
            blue_first = np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
            seen = inference_detector(self.model, blue_first).pred_instances.cpu()
            order = seen.scores.argsort(descending=True, stable=True)
            parts = (seen.scores, seen.labels, seen.bboxes, seen.masks)
            scores, labels, boxes, masks = (part[order].numpy() for part in parts)
            found.append(Instances(scores=scores, labels=labels, boxes=boxes, masks=masks.astype(bool)))
        return found


def load_mmdet(path: Path, *, device: str = "cpu") -> MmdetDetector:
    """Load a checkpoint of either generation into mmdetection 3.x, whole or not at all.

    mmdetection's own loading passes over names that it does not know, so that a file of 2.x gives a detector that sees almost nothing;
    here names of 2.x are translated first.

    Raises:
        UserError: mmdetection is not installed, or the checkpoint is of another model or not whole.
    """
    try:
        from mmdet.apis import init_detector  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"detector=mmdet:FILE needs mmdetection 3.x, which is not here ({error}); `tox -e mmdet` builds an environment with it. "
            "detector=FILE runs the same weights without it"
        ) from error
    checkpoint = read_checkpoint(path)
    try:
        state, generation = to_mmdet3(checkpoint.state)
        check_instance_model(state, checkpoint.meta)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    model = init_detector(str(find_config()), None, device=device)
    resize_whole_numbers(model.cfg)
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise UserError(f"{path}: tensors of Mask2Former have another size: {str(error)[:300]}") from error
    missing = [name for name in missing if not name.endswith("relative_position_index")]
    for what, names in (("are missing", missing), ("are unknown", unknown)):
        if names:
            raise UserError(f"{path}: {len(names)} tensors of Mask2Former {what}: {some(names)}; a part of a detector is not loaded")
    return MmdetDetector(model.eval(), label_weights(path, checkpoint.sha256, generation))


def resize_whole_numbers(config: Any) -> None:  # noqa: ANN401  mmengine's class, whose module need not be there
    """Let pictures be resized as 8-bit numbers, as GenEval's own mmdetection 2.x does; 3.x's configuration makes them float32 before.

    That moves pixels by up to half a grey level and, with random weights, scores by 2e-4.
    """
    for step in config.test_dataloader.dataset.pipeline:
        if "to_float32" in step:
            step["to_float32"] = False


def find_config() -> Path:
    """Return the model's configuration file inside the installed mmdetection.

    Raises:
        UserError: The installation carries none.
    """
    import mmdet  # pyright: ignore[reportMissingImports]

    package = Path(str(mmdet.__file__)).parent
    for folder in (package / ".mim" / "configs", package.parent / "configs"):
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    raise UserError(f"the mmdetection in {package} carries no configs/{CONFIG}; install it from a wheel or a checkout that does")
