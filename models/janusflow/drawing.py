"""Drawing as a person calls it from Python: prompts in, pictures out."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jfeval.errors import UserError, unknown
from jfeval.models.janusflow.settings import SamplerSettings
from jfeval.models.memory import in_batches

if TYPE_CHECKING:
    from jfeval.models.janusflow.pipeline import JanusFlowPipeline

OutputType = Literal["pil", "np", "pt", "latent"]
OUTPUT_TYPES: tuple[OutputType, ...] = ("pil", "np", "pt", "latent")

DRAW_OPTIONS = ("num_images_per_prompt", "generator", "latents", "output_type", "batch_size", "progress", "callback")
"""Names of `draw`'s own keyword arguments."""

OnStep = Callable[[int, float, Tensor], object]
"""Called after every step with its index, its time and the batch's latents (B, C, h, w)."""


@dataclass(frozen=True, kw_only=True)
class DrawnImages:
    """What was drawn, all pictures of the first prompt first."""

    images: list[Image.Image] | np.ndarray | Tensor
    """pil: a list; np: float32 (B, H, W, 3) in [0, 1]; pt: float32 (B, 3, H, W) in [0, 1]; latent: float32 (B, C, h, w), scaled latents."""


def sampler_settings(values: dict[str, object]) -> SamplerSettings:
    """Build sampler settings from keyword arguments.

    Raises:
        UserError: There is no such setting, or its value is out of range.
    """
    names = [f.name for f in fields(SamplerSettings)]
    for name in values:
        if name not in names:
            raise unknown("setting of the sampler", name, names)
    return SamplerSettings(**values)  # pyright: ignore[reportArgumentType]


def starting_noise(
    count: int, shape: tuple[int, ...], generator: torch.Generator | Sequence[torch.Generator] | None, latents: Tensor | None
) -> Tensor:
    """Return noise (B, C, h, w) in float32: what was given, or drawn from one generator, or from one per picture."""
    if latents is not None:
        if tuple(latents.shape) != (count, *shape):
            raise UserError(f"latents have shape {tuple(latents.shape)}; {count} pictures need {(count, *shape)}")
        return latents.float()
    if generator is None or isinstance(generator, torch.Generator):
        device = generator.device if generator is not None else "cpu"
        return torch.randn((count, *shape), generator=generator, device=device).cpu()
    if len(generator) != count:
        raise UserError(f"{len(generator)} generators for {count} pictures; give one for each, or a single one")
    return torch.stack([torch.randn(shape, generator=g, device=g.device).cpu() for g in generator])


def draw(
    pipeline: "JanusFlowPipeline",
    prompt: str | Sequence[str],
    settings: SamplerSettings,
    *,
    num_images_per_prompt: int = 1,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    latents: Tensor | None = None,
    output_type: OutputType = "pil",
    batch_size: int = 8,
    progress: bool | None = None,
    callback: OnStep | None = None,
) -> DrawnImages:
    """Draw pictures of prompts. The noise is drawn before anything is batched, so the pictures do not depend on the batch size.

    Args:
        pipeline: A loaded model.
        prompt: One prompt or several.
        settings: The recipe.
        num_images_per_prompt: Pictures of each prompt.
        generator: Source of the noise: one for all, or one per picture; None takes torch's own.
        latents: Noise to start from (B, C, h, w) instead.
        output_type: See `DrawnImages`.
        batch_size: Pictures at a time; halved where memory runs out.
        progress: Show a bar; None shows one on a terminal.
        callback: See `OnStep`.

    Raises:
        UserError: An argument does not fit; names it.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise UserError("there is no prompt to draw")
    if num_images_per_prompt < 1 or batch_size < 1:
        raise UserError(f"num_images_per_prompt and batch_size must be at least 1, not {num_images_per_prompt} and {batch_size}")
    if output_type not in OUTPUT_TYPES:
        raise unknown("output_type", output_type, OUTPUT_TYPES)
    rows = [pipeline.prompt_ids(text) for text in prompts for _ in range(num_images_per_prompt)]
    z = starting_noise(len(rows), pipeline.latent_shape, generator, latents)
    with _Bar(progress, len(rows) * settings.num_steps) as bar:

        def one_batch(place: slice) -> list[Image.Image] | Tensor:
            def on_step(step: int, t: float, state: Tensor, _: object) -> None:
                bar.advance(len(state))
                if callback is not None:
                    callback(step, t, state)

            drawn = pipeline.integrate(rows[place], z[place], settings, on_step)
            if output_type == "latent":
                return drawn.cpu()
            return pipeline.decode(drawn) if output_type == "pil" else pipeline.decode_pixels(drawn).cpu()

        batches = in_batches(len(rows), batch_size, one_batch)
    if output_type == "pil":
        return DrawnImages(images=[image for batch in batches for image in batch])  # pyright: ignore[reportArgumentType]
    joined = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    return DrawnImages(images=joined.permute(0, 2, 3, 1).numpy() if output_type == "np" else joined)


class _Bar:
    """A progress bar over pictures times steps, or nothing."""

    def __init__(self, wanted: bool | None, total: int) -> None:
        self._bar = None
        if sys.stderr.isatty() if wanted is None else wanted:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("drawing", total=total)

    def __enter__(self) -> "_Bar":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int) -> None:
        """Count steps of pictures as done."""
        if self._bar is not None:
            self._bar.advance(self._task, steps)
