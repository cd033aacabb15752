"""The gradients of one update: several batches, dealt out among the processes.

An update's loss is the mean of its batches' losses. Where batches hold samples of several kinds in changing numbers, an objective scales
its parts so that this mean weighs each batch by its samples of the kind; see `ratios.Scale`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

from jfeval.models.training.data import StepRng
from jfeval.models.training.progress import Size
from jfeval.models.training.ranks import Ranks
from jfeval.models.training.sharding import Loss, moved

if TYPE_CHECKING:
    from jfeval.models.training.loop import LoopSettings, Objective


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What one process learned from in one update."""

    parts: dict[str, float]
    """Named parts of the loss, as shares of the mean over all batches of the update."""
    ids: list[str]
    size: Size


def forward_backward(objective: "Objective[Any]", loss_of: Loss, settings: "LoopSettings", step: int, device: str, ranks: Ranks) -> Learnt:
    """Accumulate this process's share of the gradients of one update."""
    parts: dict[str, float] = {}
    ids: list[str] = []
    tokens, operations = 0, 0.0
    count_tokens: Callable[[Any], int] = getattr(objective, "tokens", lambda _: 0)
    count_operations: Callable[[Any], float] = getattr(objective, "operations", lambda _: 0.0)
    for micro in range(step * settings.accumulate + ranks.rank, (step + 1) * settings.accumulate, ranks.size):
        batch = objective.batch(micro, StepRng(settings.seed, micro))
        ids.extend(objective.ids(batch))
        tokens += count_tokens(batch)
        operations += count_operations(batch)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            loss, named = loss_of(moved(batch, device))
        (loss / (settings.accumulate // ranks.size)).backward()  # the processes' gradients are averaged
        for key, value in {"loss": loss.detach(), **named}.items():
            parts[key] = parts.get(key, 0.0) + float(value) / settings.accumulate
    return Learnt(parts=parts, ids=ids, size=Size(len(ids), tokens, operations))


def joined(learned: Sequence[Learnt]) -> Learnt:
    """Put together what the processes learned from."""
    if len(learned) == 1:
        return learned[0]
    parts: dict[str, float] = {}
    for one in learned:
        for key, value in one.parts.items():
            parts[key] = parts.get(key, 0.0) + value
    size = reduce(Size.plus, (one.size for one in learned))
    return Learnt(parts=parts, ids=[name for one in learned for name in one.ids], size=size)
