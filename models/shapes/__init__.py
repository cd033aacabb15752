"""The embedded model: a small JanusFlow trained by this repository on the synthetic world of coloured shapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jfeval.errors import UserError

if TYPE_CHECKING:
    from jfeval.models.janusflow.adapter import JanusFlowSystem

NAME = "janusflow-shapes"
WEIGHTS = Path(__file__).resolve().parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the embedded model is run."""

    guidance_scale: float = 5.0
    """Classifier-free guidance w."""
    num_steps: int = 20
    """Euler steps."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; the sampler's state is float32 either way."""
    device: str = "cpu"
    """cpu, cuda, or auto. The CPU is the default, so that the same command gives the same images everywhere."""

    def __post_init__(self) -> None:
        from jfeval.models.janusflow.adapter import check_device
        from jfeval.models.janusflow.sampling import SamplerSettings

        check_device(self.device)
        SamplerSettings(num_steps=self.num_steps, guidance_scale=self.guidance_scale)


def load(settings: Settings) -> "JanusFlowSystem":
    """Load the embedded model; its weights come with the package."""
    from jfeval.models.janusflow.adapter import load_system

    if not (WEIGHTS / "config.json").is_file():
        raise UserError(f"the embedded weights are missing from {WEIGHTS}; train them with: jfeval train --recipe shapes")
    return load_system(
        NAME,
        WEIGHTS,
        guidance_scale=settings.guidance_scale,
        num_steps=settings.num_steps,
        dtype=settings.dtype,
        device=settings.device,
    )
