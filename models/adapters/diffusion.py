"""Any text-to-image pipeline of diffusers: Stable Diffusion, SDXL, PixArt, SD3, Flux and the rest, by folder or hub id.

What the settings leave open is what the pipeline itself does in its call, and stands in the recipe with its value.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.adapters.pipelines import INDEX, fetch_pipeline, load_pipeline
from jfeval.models.hub import content_hash, local_folder
from jfeval.models.placing import Dtype, check_device, choose_device, choose_dtype
from jfeval.schema import ImageJob, JsonObject

_RECIPE = {"num_steps": "num_inference_steps", "guidance_scale": "guidance_scale", "negative_prompt": "negative_prompt"}
"""Our names of settings, and the pipelines'."""
_BINNED = (32, 64, 128)
"""Sides of latents for which PixArt-alpha's pipeline has a list of image sizes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A pipeline in diffusers' form and how to run it."""

    path: str = ""
    """Folder in diffusers' form (model_index.json), or a hub id OWNER/NAME with its revision."""
    revision: str = ""
    """Commit of a hub id, 40 hexadecimal digits."""
    num_steps: int | None = None
    """Steps of the sampler; none given: the pipeline's own number."""
    guidance_scale: float | None = None
    """Weight of the prompt; none given: the pipeline's own."""
    negative_prompt: str = ""
    """What to stay away from; empty for nothing."""
    size: int | None = None
    """Side of the image in pixels; none given: the pipeline's own."""
    dtype: Dtype = "auto"
    """Type of the weights; auto is bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..., or auto: a GPU where there is one."""

    def __post_init__(self) -> None:
        """Refuse what no pipeline can do."""
        if self.num_steps is not None and self.num_steps < 1:
            raise UserError(f"num_steps must be at least 1, not {self.num_steps}")
        if self.size is not None and (self.size < 8 or self.size % 8):
            raise UserError(f"size must be a multiple of 8 pixels, not {self.size}")
        check_device(self.device)


def load(settings: Settings) -> "DiffusionModel":
    """Load any text-to-image pipeline of diffusers, by folder or hub id: `--model diffusers:PATH`.

    Raises:
        UserError: No pipeline is named, or what is in the folder is none that draws from text.
    """
    if not settings.path:
        raise UserError("model 'diffusers' needs its pipeline: --model diffusers:FOLDER, or diffusers:OWNER/NAME --set revision=COMMIT")
    folder = local_folder(settings.path, settings.revision, form=f"a folder in diffusers' form ({INDEX})", fetch=fetch_pipeline)
    return DiffusionModel(folder, settings)


class DiffusionModel:
    """Draws with one loaded pipeline; every image has its own generator, on the CPU, so that noise is the same on every device.

    Args:
        folder: The pipeline.
        settings: Recipe, type and device.
    """

    name = "diffusers"

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, self.device)
        self.pipeline: Any = load_pipeline(folder, dtype).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.call = call_arguments(self.pipeline, settings)
        self._identity: JsonObject = {
            "model": self.name,
            "pipeline": type(self.pipeline).__name__,
            "weights": content_hash(folder),
            "dtype": str(dtype).removeprefix("torch."),
            "recipe": recipe(self.pipeline, self.call),
        }

    def identity(self) -> JsonObject:
        """Return pipeline, weights hash, dtype and the whole recipe."""
        return dict(self._identity)

    def generate(self, jobs: Sequence[ImageJob]) -> list[Image.Image]:
        """Draw one image per job."""
        generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
        call = {name: [value] * len(jobs) if name == "negative_prompt" else value for name, value in self.call.items()}
        return [image.convert("RGB") for image in self.pipeline([job.prompt for job in jobs], generator=generators, **call).images]


def call_arguments(pipeline: Any, settings: Settings) -> dict[str, Any]:  # noqa: ANN401 - one of diffusers' many classes
    """Return what the settings say beside the pipeline's own call, and the size in any case.

    Raises:
        UserError: The pipeline has no such setting, or would ignore it.
    """
    known = inspect.signature(pipeline.__call__).parameters
    given: dict[str, Any] = {name: value for key, name in _RECIPE.items() if (value := getattr(settings, key)) not in (None, "")}
    given |= _own_size(pipeline, known) if settings.size is None else {"height": settings.size, "width": settings.size}
    given |= _unsupported(pipeline, known)
    for name in given:
        if name not in known:
            raise UserError(f"{type(pipeline).__name__} has no setting {name}; leave it out")
    scale = "true_cfg_scale" if "true_cfg_scale" in known else "guidance_scale"
    value = given.get(scale, known[scale].default) if scale in known else None
    if "negative_prompt" in given and isinstance(value, int | float) and value <= 1:
        raise UserError(f"{type(pipeline).__name__} ignores a negative_prompt at {scale} {value}, which must exceed 1; leave it out")
    return given


def _own_size(pipeline: Any, known: Mapping[str, Any]) -> dict[str, int]:  # noqa: ANN401 - one of diffusers' many classes
    """Return the height and width in pixels that a pipeline's call takes where its signature leaves them open.

    Source: diffusers' pipelines: their default_sample_size, else the denoiser's sample_size, times the VAE's factor.
    """
    if any(name not in known or known[name].default is not None for name in ("height", "width")):
        return {}
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    side = getattr(pipeline, "default_sample_size", None) or getattr(getattr(denoiser, "config", None), "sample_size", None)
    if not side:
        return {}
    height, width = side if isinstance(side, list | tuple) else (side, side)
    factor = getattr(pipeline, "vae_scale_factor", 1)
    return {"height": height * factor, "width": width * factor}


def _unsupported(pipeline: Any, known: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - one of diffusers' many classes
    """Return switches of the PixArt family that are on by default and do nothing or fail here, off, so that the recipe says what is done.

    Source: diffusers' PixArtAlphaPipeline: sides are rounded to those of a list, which it has for three sizes of latents, and prompts are
    cleaned only where two packages are installed.
    """
    from diffusers.utils.import_utils import is_bs4_available, is_ftfy_available

    found: dict[str, Any] = {}
    if type(pipeline).__name__ == "PixArtAlphaPipeline" and pipeline.transformer.config.sample_size not in _BINNED:
        found["use_resolution_binning"] = False
    if "clean_caption" in known and not (is_bs4_available() and is_ftfy_available()):
        found["clean_caption"] = False
    return found


def recipe(pipeline: Any, call: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - one of diffusers' many classes
    """Return every setting of the call that is a plain value, those of the pipeline's own call included, its scheduler and what is off."""
    own = {name: p.default for name, p in inspect.signature(pipeline.__call__).parameters.items() if p.default is not p.empty}
    plain = {name: value for name, value in {**own, **call}.items() if isinstance(value, bool | int | float | str)}
    hidden = ("output_type", "return_dict", "num_images_per_prompt")
    off = {"safety_checker": "off", **({"watermark": "off"} if hasattr(pipeline, "watermark") else {})}
    return {**{name: value for name, value in plain.items() if name not in hidden}, "scheduler": type(pipeline.scheduler).__name__, **off}
