"""How much a number depends on who scores it: the same stored outputs under several protocols, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jfeval.schema import Metric, Score


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """One number under each protocol that has it."""

    name: str
    task: str
    found: Mapping[str, Metric]
    """By protocol; two or more."""

    @property
    def spread(self) -> float:
        """How far the largest value lies above the smallest."""
        values = [metric.value for metric in self.found.values()]
        return max(values) - min(values)


@dataclass(frozen=True, kw_only=True)
class Changed:
    """One answer that is right under one protocol and wrong under another."""

    sample_id: str
    index: int
    task: str
    right: tuple[str, ...]
    """Protocols under which it is right."""
    wrong: tuple[str, ...]
    """Protocols under which it is not wholly right."""


def side_by_side(numbers: Mapping[str, Sequence[Metric]]) -> list[SideBySide]:
    """Pair the numbers of several protocols; one that only a single protocol has is left out."""
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for protocol, metrics in numbers.items():
        for metric in metrics:
            found.setdefault((metric.name, metric.task), {})[protocol] = metric
    return [SideBySide(name=name, task=task, found=own) for (name, task), own in found.items() if len(own) > 1]


def changed_verdicts(verdicts: Mapping[str, Sequence[Score]]) -> tuple[list[Changed], int]:
    """List the answers whose verdict depends on the protocol, and count all answers.

    An answer with a score in several tasks (a question of several splits) is listed once. One that a protocol leaves out has no verdict
    under it.
    """
    right: dict[tuple[str, int], dict[str, float]] = {}
    tasks: dict[tuple[str, int], str] = {}
    for protocol, scores in verdicts.items():
        for score in scores:
            if "correct" in score.values:
                key = (score.sample_id, 0 if score.labels else score.index)  # what has labels is one text, however many tasks count it
                right.setdefault(key, {})[protocol] = score.values["correct"]
                tasks.setdefault(key, score.task)
    changed = [
        Changed(
            sample_id=sample_id,
            index=index,
            task=tasks[sample_id, index],
            right=tuple(name for name, value in own.items() if value == 1.0),
            wrong=tuple(name for name, value in own.items() if value != 1.0),
        )
        for (sample_id, index), own in right.items()
        if len(set(own.values())) > 1
    ]
    return changed, len(right)
