"""Continuing sequences token by token: the likeliest token, or one drawn from the nucleus."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.cache import KeyValueCache
from jfeval.models.janusflow.model import JanusFlow, causal_mask


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0 takes the likeliest token; otherwise logits are divided by it. Source: the published README decodes greedily, the demo at 0.1."""
    top_p: float = 1.0
    """Draw from the smallest set of likeliest tokens that together have this probability. Source: the published demo uses 0.95."""
    seed: int = 0
    """Seeds the request's own generator, so that what is drawn does not depend on the batch."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UserError(f"temperature must lie between 0 and 100, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must lie in (0, 1], not {self.top_p}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must lie in [0, 2**63), not {self.seed}")


class Chooser:
    """Chooses each row's next token by its own rule and its own generator."""

    def __init__(self, rules: Sequence[Decoding]) -> None:
        self.rules = list(rules)
        self.generators = [torch.Generator().manual_seed(rule.seed) for rule in rules]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        self.rules, self.generators = [self.rules[i] for i in rows], [self.generators[i] for i in rows]

    def __call__(self, logits: Tensor) -> Tensor:
        """Choose tokens (B,) from logits (B, V).

        Raises:
            FloatingPointError: Logits are not finite.
        """
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the logits are not finite; the weights hold NaN, or the model's type overflows: try dtype=float32")
        tokens = logits.argmax(dim=-1)
        drawn = [i for i, rule in enumerate(self.rules) if rule.temperature > 0]
        if drawn:
            tokens[drawn] = self._draw(logits[drawn].float().cpu(), drawn).to(tokens.device)
        return tokens

    def _draw(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Draw from each row's nucleus by inverting its cumulative distribution at one uniform number."""
        temperature, top_p = (torch.tensor([[getattr(self.rules[i], name)] for i in rows]) for name in ("temperature", "top_p"))
        probabilities, order = (logits / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        mass = probabilities.masked_fill(before >= top_p, 0.0).cumsum(dim=-1)
        uniform = torch.stack([torch.rand(1, generator=self.generators[i]) for i in rows])
        place = torch.searchsorted(mass, uniform * mass[:, -1:], right=True).clamp(max=(mass < mass[:, -1:]).sum(dim=-1, keepdim=True))
        return order.gather(1, place)[:, 0]


@torch.no_grad()
def continue_rows(
    model: JanusFlow,
    hidden: Tensor,
    *,
    cache: KeyValueCache,
    valid: Tensor,
    positions: Tensor,
    choose: Chooser,
    limits: Sequence[int],
    stop_id: int | None,
) -> Iterator[list[tuple[int, int]]]:
    """Continue sequences that a first pass has put into a cache; finished rows are dropped once half are.

    Args:
        model: The model.
        hidden: Output at each sequence's last token (B, D).
        cache: Open; holds all columns of ``valid``.
        valid: (B, K) bool: columns that hold something.
        positions: (B, 1) position of each last token.
        choose: Picks tokens.
        limits: Most new tokens of each row.
        stop_id: Ends a row; it is not part of the result. None never stops.

    Yields:
        After each step, (row, token) of every row that goes on. An iteration that is abandoned costs nothing further.

    Raises:
        FloatingPointError: Logits are not finite; names the step.
    """
    rows, count = list(range(len(hidden))), 0
    while rows:
        try:
            tokens = choose(model.logits(hidden))
        except FloatingPointError as error:
            raise FloatingPointError(f"at new token {count + 1}: {error}") from error
        count += 1
        listed = tokens.tolist()
        alive = [i for i, row in enumerate(rows) if row >= 0 and listed[i] != stop_id and count <= limits[row]]
        yield [(rows[i], listed[i]) for i in alive]
        alive = [i for i in alive if count < limits[rows[i]]]
        if not alive:
            return
        if 2 * len(alive) <= len(rows):
            cache = cache.rows(alive)
            choose.keep(alive)
            tokens, valid, positions, rows = tokens[alive], valid[alive], positions[alive], [rows[i] for i in alive]
        else:
            rows = [row if i in set(alive) else -1 for i, row in enumerate(rows)]
        positions = positions + 1
        valid = torch.cat([valid, valid.new_ones(len(valid), 1)], dim=1)
        hidden = model.backbone(model.embed(tokens[:, None]), positions, causal_mask(valid, 1), cache=cache)[0][:, -1]
