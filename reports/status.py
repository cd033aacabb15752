"""How whole a run is: what must be said beside every number of a run that is not."""

from dataclasses import dataclass
from typing import Literal

from jfeval.schema import RunRecord


@dataclass(frozen=True, kw_only=True)
class Status:
    """How whole a run is. Only a complete run may be ranked."""

    kind: Literal["complete", "limited", "partial", "failed"]
    mark: str = ""
    """A few words for the run's row; empty for a complete run."""
    explanation: str = ""
    """A sentence for the banner."""

    @property
    def complete(self) -> bool:
        """True when nothing was left out and nothing failed."""
        return self.kind == "complete"


def status(record: RunRecord) -> Status:
    """Say how whole a run is; of several flaws the gravest gives the kind, and all are named."""
    counts = record.counts
    if counts.complete and record.finished_at:
        return Status(kind="complete")
    kind: Literal["limited", "partial", "failed"] = "partial"
    marks, sentences = [], []
    if counts.asked < counts.available:
        kind = "limited"
        marks.append(f"limited: {counts.asked} of {counts.available}")
        sentences.append(f"Only {counts.asked} of the benchmark's {counts.available} samples were asked for.")
    if counts.finished < counts.asked and (counts.asked - counts.finished > counts.failed or not record.finished_at):
        kind = "partial"
        marks.append(f"partial: {counts.finished} of {counts.asked} finished")
        sentences.append(f"Only {counts.finished} of the {counts.asked} samples asked for have been finished; the same command goes on.")
    if counts.failed:
        kind = "failed"
        marks.append(f"failed: {counts.failed} of {counts.asked}")
        sentences.append(f"{counts.failed} of the {counts.asked} samples asked for failed.")
    if not record.finished_at and counts.finished >= counts.asked:
        kind = "partial"
        marks.append("partial: not scored to the end")
        sentences.append("Everything asked for has come back, but the run has not ended; the same command goes on.")
    if not marks:
        marks.append("partial: counts do not agree")
        sentences.append("The run's counts do not agree with each other.")
    return Status(kind=kind, mark="; ".join(marks), explanation=" ".join(sentences))
