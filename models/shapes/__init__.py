"""The embedded model: a small JanusFlow trained by this repository on the synthetic world of coloured shapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError
from jfeval.models.janusflow.settings import Solver, SystemSettings

if TYPE_CHECKING:
    from jfeval.models.janusflow.adapter import JanusFlowSystem

NAME = "janusflow-shapes"
WEIGHTS = Path(__file__).resolve().parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Settings(SystemSettings):
    """How the embedded model is run."""

    guidance_scale: float = 6.0
    """Classifier-free guidance w."""
    guidance_from: float = 0.08
    """Guidance acts at times from here ..."""
    guidance_until: float = 0.41
    """... to here. This model's pictures are decided by then; later guidance costs time and changes nothing."""
    num_steps: int = 9
    """Steps of the solver."""
    solver: Solver = "adams"
    """With it 9 steps score what 12 of euler's do."""
    time_shift: float = 3.0
    """Steps lean towards the noise, where this model decides what is where."""
    device: str = "cpu"
    """cpu, cuda, or auto. The CPU is the default, so that the same command gives the same images everywhere."""


def load(settings: Settings) -> "JanusFlowSystem":
    """Load the embedded model; its weights come with the package."""
    from jfeval.models.janusflow.adapter import load_system

    if not (WEIGHTS / "config.json").is_file():
        raise UserError(f"the embedded weights are missing from {WEIGHTS}; train them with: jfeval train --recipe shapes")
    return load_system(NAME, WEIGHTS, settings)
