"""A pipeline of diffusers from its folder, or from the hub to a folder."""

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jfeval.errors import UserError
from jfeval.models.adapters.loading import attempt, load_whole

INDEX = "model_index.json"
_KIND = "a diffusers pipeline"


def fetch_pipeline(name: str, revision: str, offline: bool) -> Path:
    """Fetch what diffusers itself loads of a repository: each component's weights once, neither single-file forms nor half-precision twins.

    Args:
        name: The hub id.
        revision: The commit.
        offline: Whether to take it from what is on this machine.
    """
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    return Path(DiffusionPipeline.download(name, revision=revision, local_files_only=offline, safety_checker=None))


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401 - one of diffusers' many classes
    """Load a pipeline folder without safety checker, without watermark and without code from the folder.

    Raises:
        UserError: It does not load, a component is not whole, or it does not draw from text alone.
    """
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline
    from diffusers.utils.import_utils import is_accelerate_available

    if not (folder / INDEX).is_file():
        raise UserError(f"{folder} holds no {INDEX}; expected the folder of a whole diffusers pipeline")
    index: Any = attempt(folder, _KIND, lambda: DiffusionPipeline.load_config(str(folder), local_files_only=True))
    options = {"local_files_only": True, "dtype": dtype}
    switches = {**_switches(index), **_networks(folder, index, options)}
    switches["low_cpu_mem_usage"] = is_accelerate_available()  # its default, which without accelerate is taken back with a warning
    pipeline: Any = attempt(folder, _KIND, lambda: DiffusionPipeline.from_pretrained(str(folder), **options, **switches))
    parameters = inspect.signature(pipeline.__call__).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if "prompt" not in parameters or "generator" not in parameters or [name for name in needed if name != "prompt"]:
        raise UserError(f"{type(pipeline).__name__} in {folder} does not draw from a prompt alone")
    return pipeline


def _switches(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what leaves finished pictures as they are: no safety checker, and no watermark, which SDXL adds where a package for it is."""
    import diffusers

    found: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False} if "safety_checker" in index else {}
    made = getattr(diffusers, str(index.get("_class_name")), None)
    if made is not None and "add_watermarker" in inspect.signature(made.__init__).parameters:
        found["add_watermarker"] = False
    return found


def _networks(folder: Path, index: Mapping[str, Any], options: dict[str, Any]) -> dict[str, nn.Module]:
    """Load the pipeline's networks by themselves, because diffusers does not say of what it only warned.

    A component without a configuration is no network, or left to diffusers, which refuses it.
    """
    from diffusers.models.modeling_utils import ModelMixin
    from diffusers.pipelines.pipeline_loading_utils import simple_get_class_obj
    from diffusers.utils.import_utils import is_accelerate_available

    found = {}
    for name, stated in index.items():
        path = folder / name
        if name == "safety_checker" or not isinstance(stated, list | tuple) or None in stated or not (path / "config.json").is_file():
            continue
        made: Any = attempt(path, _KIND, partial(simple_get_class_obj, *stated))
        if issubclass(made, nn.Module):
            loads: Any = made.from_pretrained  # pyright: ignore[reportAttributeAccessIssue] - both libraries' networks have it
            light = {"low_cpu_mem_usage": is_accelerate_available()} if issubclass(made, ModelMixin) else {}
            found[name] = load_whole(path, made.__name__, partial(loads, path, **options, **light))
    return found
