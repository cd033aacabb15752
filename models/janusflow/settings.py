"""Settings of a JanusFlow: how images are drawn, and how the model is run. Imports no torch, so that they are checked at once."""

from dataclasses import dataclass, fields
from typing import Literal, Self

from jfeval.errors import UserError
from jfeval.models.placing import check_device

Solver = Literal["euler", "midpoint", "heun", "adams"]


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How an image is drawn; part of every generated number's recipe."""

    num_steps: int = 30
    """Steps of the solver. Source of the default: paper section 4.3."""
    guidance_scale: float = 2.0
    """w in v = w v_cond - (w - 1) v_uncond; 1 means no guidance. The paper states 2 for FID and nothing for GenEval and DPG-Bench."""
    guidance_from: float = 0.0
    """Guidance acts at times from here ..."""
    guidance_until: float = 1.0
    """... to here; elsewhere the prompt's own velocity is followed. The paper guides always. Source: arXiv 2404.07724, section 3."""
    time_shift: float = 1.0
    """s in t = u / (u + s (1 - u)) for evenly spaced u: above 1 more steps fall near the noise, where layout is decided.
    Source: Esser et al., arXiv 2403.03206, equation 23, written for time that rises towards data. The paper's steps are even (1)."""
    solver: Solver = "euler"
    """euler, as published; midpoint and heun evaluate the velocity twice per step; adams once, and uses the step before."""
    state_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of latents, times and step sizes; the published script keeps all three in bfloat16."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise UserError(f"num_steps must be at least 1, not {self.num_steps}")
        if not 0 <= self.guidance_scale <= 100:
            raise UserError(f"guidance_scale must lie between 0 and 100, not {self.guidance_scale}")
        if not 0 <= self.guidance_from <= self.guidance_until <= 1:
            raise UserError(
                f"guidance_from and guidance_until must satisfy 0 <= from <= until <= 1, not {self.guidance_from} and {self.guidance_until}"
            )
        if not 0.01 <= self.time_shift <= 100:
            raise UserError(f"time_shift must lie between 0.01 and 100, not {self.time_shift}")

    @classmethod
    def of(cls, settings: "SamplerSettings") -> Self:
        """Return the sampler's part of settings that extend it."""
        return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})

    def times(self) -> list[float]:
        """Return the ``num_steps + 1`` times from 0 to 1 between which the solver steps."""
        even = [step / self.num_steps for step in range(self.num_steps + 1)]
        return [u / (u + self.time_shift * (1 - u)) for u in even]

    def guides(self, t: float) -> bool:
        """Tell whether guidance acts at time ``t``."""
        return self.guidance_scale != 1.0 and self.guidance_from <= t <= self.guidance_until


@dataclass(frozen=True, kw_only=True)
class SystemSettings(SamplerSettings):
    """How a loaded JanusFlow is run: the sampler's settings and the machine's."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..., or auto: a GPU where there is one."""
    compile: bool = False
    """Draw through torch.compile: about a minute before the first picture, then faster, most of all on a GPU. Float rounding only."""
    start_tag: Literal["generation_start", "image_start"] = "generation_start"
    """Tag that ends a prompt to be drawn; the published scripts disagree. Its last token is dropped, so single-token tags are equal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)
