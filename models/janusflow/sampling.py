"""Drawing latents: the flow's ordinary differential equation under classifier-free guidance.

Time runs from 0 (noise) to 1 (data), so the equation is integrated forwards: dz/dt = v(z, t).
Source: paper section 3.2 and appendix; the published inference script for guidance and the Euler steps.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.settings import SamplerSettings, Solver

MAX_SEED = 2**63

Field = Callable[[Tensor, float], Tensor]
"""A velocity v(z, t)."""

StepCallback = Callable[[int, float, Tensor, tuple[Tensor, Tensor | None]], Any]
"""Called after each step with its index, its time, the new latents and the step's last two velocities: with the prompt, and without
(None where guidance did not act)."""


def noise(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Draw each image's noise from its own generator, on the CPU in float32, so that it does not depend on batch or device.

    Args:
        seeds: One per image, 0 <= seed < 2**63.
        shape: (C, h, w).

    Returns:
        (B, C, h, w), standard normal.
    """
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class Stepper:
    """Takes the steps of one integration by one solver, in the type of the latents.

    A step from t to t + h is, for Euler, ``z + h v(z, t)``; midpoint ``z + h v(z + h/2 v(z, t), t + h/2)``; Heun
    ``z + h/2 (v(z, t) + v(z + h v(z, t), t + h))``; Adams ``z + h ((1 + r/2) v(z, t) - r/2 v')``, where v' is the velocity of the step
    before, h' its length and r = h / h'. Adams is of second order at Euler's cost; its first step is Euler's.

    Source of Adams: the Adams-Bashforth formula of two steps, for steps of unequal length.
    """

    def __init__(self, field: Field, solver: Solver) -> None:
        self._field, self._solver = field, solver
        self._before: tuple[Tensor, float] | None = None

    def __call__(self, z: Tensor, t: float, until: float) -> Tensor:
        """Take one step from time ``t`` to ``until``."""
        field, h = self._field, torch.tensor(until - t, dtype=z.dtype, device=z.device)
        first = field(z, t)
        if self._solver == "midpoint":
            return z + h * field(z + h / 2 * first, (t + until) / 2)
        if self._solver == "heun":
            return z + h / 2 * (first + field(z + h * first, until))
        before, self._before = self._before, (first, until - t)
        if self._solver == "adams" and before is not None:
            r = (until - t) / before[1]
            return z + h * ((1 + r / 2) * first - r / 2 * before[0])
        return z + h * first


class GuidedVelocity:
    """The velocity that is integrated: the model's, with prompts' keys and values computed once, under guidance.

    The unconditional row keeps its prompt's first token and positions, so it depends on the prompt's length; no two lengths share one.
    """

    def __init__(self, model: JanusFlow, prompt: PromptBatch, settings: SamplerSettings, *, pad_id: int) -> None:
        self.model, self.settings, self.count = model, settings, len(prompt.ids)
        self.guided = settings.guidance_scale != 1.0
        self.prompt = prompt
        self.rows = prompt.then(prompt.unconditional(pad_id)) if self.guided else prompt
        self.cache = model.encode_prompt(self.rows)
        self.conditional_cache = self.cache.first(self.count)
        self.parts: tuple[Tensor, Tensor | None] | None = None
        """The conditional and unconditional velocities of the last evaluation (the second None without guidance)."""

    def __call__(self, z: Tensor, t: float) -> Tensor:
        """Evaluate at latents (B, C, h, w) and time ``t``, in the type of ``z``."""
        scaled = torch.tensor(1000 * t, dtype=z.dtype).item() / 1000  # in bfloat16 the published script rounds 1000 t
        w = self.settings.guidance_scale
        if not self.settings.guides(t):
            times = z.new_full((self.count,), scaled, dtype=torch.float32)
            velocity, _ = self.model.velocity(z, times, self.prompt, cache=self.conditional_cache)
            self.parts = velocity.to(z.dtype), None
            return self.parts[0]
        both = torch.cat([z, z])
        velocity, _ = self.model.velocity(both, both.new_full((len(both),), scaled, dtype=torch.float32), self.rows, cache=self.cache)
        conditional, unconditional = velocity.to(z.dtype).chunk(2)
        self.parts = conditional, unconditional
        return w * conditional - (w - 1) * unconditional


@torch.no_grad()
def sample(
    model: JanusFlow,
    prompt: PromptBatch,
    z: Tensor,
    settings: SamplerSettings,
    *,
    pad_id: int,
    on_step: StepCallback | None = None,
) -> Tensor:
    """Integrate from noise to latents.

    The prompts' keys and values are computed once, which is exact: attention is causal and the prompt comes first.
    Differs: the published script recomputes the prompt in every step.

    Args:
        model: The model.
        prompt: One prompt per image; lengths may differ.
        z: Noise (B, C, h, w).
        settings: Steps, guidance, solver and the state's type.
        pad_id: Replaces the prompt in the unconditional rows.
        on_step: See `StepCallback`.

    Returns:
        Latents (B, C, h, w), float32.

    Raises:
        FloatingPointError: A latent is no longer finite; names the step.
    """
    z = z.to(model.device, getattr(torch, settings.state_dtype))
    field = GuidedVelocity(model, prompt, settings, pad_id=pad_id)
    times = settings.times()
    finite, advance = [], Stepper(field, settings.solver)
    for step, (t, until) in enumerate(pairwise(times)):
        z = advance(z, t, until)
        finite.append(torch.isfinite(z).all())
        if on_step and field.parts:
            on_step(step, t, z, field.parts)
    bad = (~torch.stack(finite)).nonzero()
    if len(bad):  # looked at once, at the end: a GPU need not wait in every step
        step = int(bad[0])
        raise FloatingPointError(f"the latents are not finite after step {step + 1} of {settings.num_steps} (t = {times[step]:.3f})")
    return z.float()
