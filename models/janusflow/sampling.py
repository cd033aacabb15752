"""Drawing latents: the flow's ordinary differential equation under classifier-free guidance.

Source: paper section 3.2 and appendix; the published inference script for guidance and the Euler steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow, PromptBatch

MAX_SEED = 2**63


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """How an image is drawn; part of every generated number's recipe."""

    num_steps: int = 30
    """Euler steps, uniform in t from 0. Source: paper section 4.3."""
    guidance_scale: float = 2.0
    """w in v = w v_cond - (w - 1) v_uncond; 1 means no guidance. The paper states 2 for FID and nothing for GenEval and DPG-Bench."""

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise UserError(f"num_steps must be at least 1, not {self.num_steps}")
        if not 0 <= self.guidance_scale <= 100:
            raise UserError(f"guidance_scale must lie between 0 and 100, not {self.guidance_scale}")


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw each image's noise from its own generator, on the CPU in float32, so that it does not depend on batch or device.

    Args:
        seeds: One per image, 0 <= seed < 2**63.
        shape: (C, h, w).

    Returns:
        (B, C, h, w), standard normal.
    """
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample(
    model: JanusFlow,
    prompt: PromptBatch,
    z: Tensor,
    settings: SamplerSettings,
    *,
    pad_id: int,
    on_step: Callable[[int, float, Tensor, tuple[Tensor, Tensor | None]], None] | None = None,
) -> Tensor:
    """Integrate from noise to latents with Euler steps.

    The prompts' keys and values are computed once, and the state stays in float32 whatever the weights' type.
    Differs: the published script recomputes the prompt in every step and keeps state, time and step in bfloat16.

    Args:
        model: The model.
        prompt: One prompt per image; lengths may differ.
        z: Noise (B, C, h, w).
        settings: Steps and guidance.
        pad_id: Replaces the prompt in the unconditional rows.
        on_step: Called after each step with its index, its time, the new state and the two velocities (the second None at w = 1).

    Returns:
        Latents (B, C, h, w), float32.

    Raises:
        FloatingPointError: A latent is no longer finite; names the step.
    """
    w, steps = settings.guidance_scale, settings.num_steps
    z = z.to(model.device, torch.float32)
    guided = w != 1.0
    rows = prompt.then(prompt.unconditional(pad_id)) if guided else prompt
    cache = model.encode_prompt(rows)
    for step in range(steps):
        t = step / steps
        state = torch.cat([z, z]) if guided else z
        velocity, _ = model.velocity(state, state.new_full((len(state),), t), rows, cache=cache)
        conditional, unconditional = velocity.float().chunk(2) if guided else (velocity.float(), None)
        v = conditional if unconditional is None else w * conditional - (w - 1) * unconditional
        z = z + v / steps
        if not torch.isfinite(z).all():
            raise FloatingPointError(f"the latents are not finite after step {step + 1} of {steps} (t = {t:.3f})")
        if on_step:
            on_step(step, t, z, (conditional, unconditional))
    return z
