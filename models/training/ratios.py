"""How many samples of each kind a batch holds, where the ratio is given as shares and may change during a stage.

The counts are a pure function of the batch's number: after n batches every kind has been drawn within one sample of its share, however
small that is, so the realised ratio is the stated one without a random draw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from typing import NamedTuple

from jfeval.errors import UserError


class Counts(NamedTuple):
    """Samples of each kind."""

    understanding: int
    generation: int
    text: int


class Scale(NamedTuple):
    """How much a batch's mean loss of each kind counts: the samples of the kind it holds, over those of an average batch of its update.

    The mean over an update's batches of the scaled losses is then, by kind, the mean over batches weighted by their samples; where all
    hold equally many, every scale is 1.
    """

    understanding: float = 1.0
    generation: float = 1.0
    text: float = 1.0


ALIKE = Scale()
"""Every batch of an update counts alike."""

KINDS = Counts._fields
"""The kinds of training data, in the order in which the paper writes its ratios (Janus writes text before generation)."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Shares that hold from the end of the phase before to an update."""

    understanding: float = 0.0
    generation: float = 0.0
    text: float = 0.0
    until: int = 0
    """Number of updates after which the next phase begins; 0 for the last phase, which has no end."""

    def __post_init__(self) -> None:
        """Refuse shares that are no shares."""
        shares = self.shares
        if not (min(shares) >= 0 and abs(sum(shares) - 1.0) <= 1e-6):  # so that NaN is refused as well
            raise UserError(f"the shares understanding {shares[0]}, generation {shares[1]} and text {shares[2]} must be >= 0 and sum to 1")
        if self.until < 0:
            raise UserError(f"a phase's until must not be negative, not {self.until}")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Return the shares in the order of `KINDS`."""
        return self.understanding, self.generation, self.text


def check_phases(phases: Sequence[Phase], batch_size: int) -> None:
    """Check that phases follow one another and that a batch has room for their kinds.

    Raises:
        UserError: naming the phase.
    """
    ends = [phase.until for phase in phases]
    if ends[-1] != 0 or any(b <= a for a, b in pairwise([0, *ends[:-1]])):
        raise UserError(f"phases must end at rising updates, and the last one at 0 (no end); they end at {ends}")
    for phase in phases:
        if sum(share > 0 for share in phase.shares) == len(KINDS) and batch_size * max(phase.shares) < 2:
            raise UserError(f"a batch of {batch_size} cannot hold three kinds of data in the ratio {phase.shares}; make it larger")


class Schedule:
    """The counts of every batch under a sequence of phases."""

    def __init__(self, phases: Sequence[Phase], batch_size: int, accumulate: int = 1) -> None:
        """Prepare.

        Args:
            phases: At least one; see `Phase`.
            batch_size: Samples per batch.
            accumulate: Batches per update, which is the unit of `Phase.until`.
        """
        check_phases(phases, batch_size)
        self.phases, self.batch_size, self.accumulate = tuple(phases), batch_size, accumulate

    def before(self, batch: int) -> Counts:
        """Return how many samples of each kind the batches before number ``batch`` hold."""
        total, start = Counts(0, 0, 0), 0
        for phase in self.phases:
            end = phase.until * self.accumulate if phase.until else batch
            n = max(0, min(batch, end) - start)
            total = Counts(*(a + b for a, b in zip(total, _apportioned(n * self.batch_size, phase.shares), strict=True)))
            start = end
        return total

    def counts(self, batch: int) -> Counts:
        """Return how many samples of each kind batch number ``batch`` (from 0) holds; they sum to the batch size."""
        return Counts(*(b - a for a, b in zip(self.before(batch), self.before(batch + 1), strict=True)))

    def scale(self, batch: int) -> Scale:
        """Return how much batch number ``batch`` counts in its update."""
        first = batch - batch % self.accumulate
        update = (b - a for a, b in zip(self.before(first), self.before(first + self.accumulate), strict=True))
        return Scale(*(n * self.accumulate / total if total else 1.0 for n, total in zip(self.counts(batch), update, strict=True)))


class Fixed:
    """The same counts in every batch."""

    def __init__(self, counts: Counts) -> None:
        self.fixed = counts

    def before(self, batch: int) -> Counts:
        """Return how many samples of each kind the batches before number ``batch`` hold."""
        return Counts(*(batch * n for n in self.fixed))

    def counts(self, batch: int) -> Counts:  # noqa: ARG002 - the same for every batch
        """Return how many samples of each kind any batch holds."""
        return self.fixed

    def scale(self, batch: int) -> Scale:  # noqa: ARG002 - the same for every batch
        """Return that every batch counts alike."""
        return ALIKE


def _apportioned(total: int, shares: tuple[float, float, float]) -> Counts:
    """Divide ``total`` samples: each kind gets its share, rounded, and the kind of the largest share what is left.

    >>> _apportioned(512, (0.14, 0.80, 0.06))
    Counts(understanding=72, generation=409, text=31)
    """
    largest = max(range(len(shares)), key=lambda k: shares[k])
    counts = [floor(total * share + 0.5) for share in shares]
    counts[largest] = total - sum(n for k, n in enumerate(counts) if k != largest)
    return Counts(*counts)
