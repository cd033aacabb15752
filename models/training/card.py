"""What a model learned from: a list that grows with every stage, and its place in the exported model's card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from jfeval.errors import UserError
from jfeval.models.training.ratios import KINDS

LEARNED_FILE = "learned_from.json"


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What one stage learned from."""

    stage: str
    updates: int
    samples: Mapping[str, int]
    """Samples of each kind that were drawn, over all updates; what was skipped is not among them."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Rows that could not be used, by source."""


def read_learned(folder: Path) -> list[Learned]:
    """Read what the stages up to the one in a folder learned from; empty where it was not noted.

    Raises:
        UserError: The file is damaged.
    """
    file = folder / LEARNED_FILE
    if not file.is_file():
        return []
    try:
        return [Learned(**entry) for entry in json.loads(file.read_text("utf-8"))]
    except (ValueError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); make the stage in {folder} anew") from error


def write_learned(folder: Path, learned: Sequence[Learned]) -> None:
    """Write the list beside a stage's weights."""
    (folder / LEARNED_FILE).write_text(json.dumps([asdict(each) for each in learned], indent=1) + "\n", "utf-8")


def card(learned: Sequence[Learned]) -> str:
    """Return a model card: for every stage how many samples of each kind it saw, and in which ratio."""
    lines = [
        "# A JanusFlow trained by jfeval",
        "",
        "Training data, by stage: samples of each kind, with their realised share of the stage.",
        "",
    ]
    lines += [f"| stage | updates | {' | '.join(KINDS)} | rows skipped |", f"|---|---|{'---|' * (len(KINDS) + 1)}"]
    for each in learned:
        total = max(1, sum(each.samples.values()))
        kinds = [f"{each.samples.get(kind, 0):,} ({each.samples.get(kind, 0) / total:.2%})" for kind in KINDS]
        skipped = ", ".join(f"{_plain(source)} {count:,}" for source, count in sorted(each.skipped.items())) or "none"
        lines.append(f"| {_plain(each.stage)} | {each.updates:,} | {' | '.join(kinds)} | {skipped} |")
    if not learned:
        lines.append(f"| not recorded | {' | ' * len(KINDS)} | |")
    lines += ["", "Kinds: conversations about an image, images to draw with their captions, and text.", ""]
    return "\n".join(lines)


def _plain(name: str) -> str:
    """Return a name that cannot break a table."""
    return "".join(letter if letter.isalnum() or letter in " _-./:" else "?" for letter in name)[:80]
