"""AdamW, and Muon for hidden matrices where a training asks for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.training.sharding import like, whole

if TYPE_CHECKING:
    from jfeval.models.training.loop import LoopSettings


class Optimizers:
    """AdamW, and Muon where a training asks for it, stepped and stored as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return every group of every part; each keeps its rate's ``scale``."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, rate: float) -> None:
        """Set every group's rate to its own scale times `rate`."""
        for group in self.param_groups:
            group["lr"] = rate * group["scale"]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the parameters."""
        for part in self.parts:
            part.step()

    def state_dict(self, collect: Callable[[Tensor], Tensor] = whole) -> dict[str, Any]:
        """Return what a resumed training needs; ``collect`` turns a tensor of the state, which may be divided, into what is stored."""
        found: dict[str, Any] = {}
        for number, part in enumerate(self.parts):
            stored = part.state_dict()
            state = {i: {k: collect(v) if isinstance(v, Tensor) else v for k, v in held.items()} for i, held in stored["state"].items()}
            found[str(number)] = {**stored, "state": state}
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, divided as the parameters are. Rates, decay and betas stay as this training has them.

        Raises:
            UserError: It is of other parameters, or of another optimiser.
        """
        sizes = [[len(group["params"]) for group in part.param_groups] for part in self.parts]
        found = [[len(group["params"]) for group in stored["param_groups"]] for stored in state.values()]
        if found != sizes:
            raise UserError(
                f"the checkpoint's optimiser updates groups of {found} tensors, and this training groups of {sizes}: loop.optimizer, or "
                "what is frozen, has changed"
            )
        for number, part in enumerate(self.parts):
            parameters = [p for group in part.param_groups for p in group["params"]]
            stored = state[str(number)]
            held = {
                i: {k: like(v, parameters[i]) if isinstance(v, Tensor) and v.shape == parameters[i].shape else v for k, v in values.items()}
                for i, values in stored["state"].items()
            }
            groups = [{**own, "params": was["params"]} for own, was in zip(part.param_groups, stored["param_groups"], strict=True)]
            part.load_state_dict({"state": held, "param_groups": groups})


def make_optimizer(
    settings: "LoopSettings", groups: Sequence[tuple[float, Sequence[nn.Parameter]]], matrices: Sequence[nn.Parameter] = ()
) -> Optimizers:
    """Build the optimiser, with weight decay on matrices and kernels only.

    Args:
        settings: Which optimiser, and its rates.
        groups: (learning rate scale, parameters) pairs.
        matrices: Those of the parameters that are hidden matrices, which muon updates where the settings ask for it.

    Source: Loshchilov and Hutter, arXiv 1711.05101 (AdamW); Jordan et al., "Muon", 2024; Liu et al., arXiv 2502.16982 (update scale).
    """
    orthogonal = {id(p) for p in matrices} if settings.optimizer == "muon" else set()
    adamw, muon = [], []
    for scale, parameters in groups:
        trainable = [p for p in parameters if p.requires_grad]
        plain = [p for p in trainable if id(p) not in orthogonal]
        for decay, chosen in (
            (settings.weight_decay, [p for p in plain if p.ndim > 1]),
            (0.0, [p for p in plain if p.ndim <= 1]),
        ):
            if chosen:
                adamw.append({"params": chosen, "weight_decay": decay, "scale": scale})
        if hidden := [p for p in trainable if id(p) in orthogonal]:
            muon.append({"params": hidden, "weight_decay": settings.weight_decay, "scale": scale * settings.matrix_scale})
    parts: list[torch.optim.Optimizer] = []
    if adamw:
        parts.append(torch.optim.AdamW(adamw, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True))
    if muon:
        parts.append(torch.optim.Muon(muon, lr=settings.learning_rate, adjust_lr_fn="match_rms_adamw"))
    if not parts:
        raise UserError("the objective trains no parameter")
    return Optimizers(parts)
