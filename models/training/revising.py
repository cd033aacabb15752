"""What becomes of a part whose settings changed: its training goes on under the new ones, or its folder is set aside.

Nothing that was trained is deleted.
"""

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jfeval.models.training.checkpoints import CHECKPOINTS_FOLDER, adopt, complete, foreign
from jfeval.models.training.part import Part

log = logging.getLogger(__name__)

DONE_FILE = "done.json"
ACCEPTED_FILE = "accepted.json"
"""In a part's folder: from which checkpoints its training went on under changed settings, and which."""
_ABSENT = "(absent)"


def _changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(k for k in old.keys() | new.keys() if old.get(k, _ABSENT) != new.get(k, _ABSENT))


def _is_input(key: str) -> bool:
    return key.startswith("inputs.")


def changes(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    """Say which keys of a part's identity differ, stored -> asked."""
    lines = []
    for key in _changed_keys(old, new):
        before, after = (str(side.get(key, _ABSENT))[:60] for side in (old, new))
        lines.append(f"{name}.{key}: " + ("that part was made anew" if _is_input(key) else f"{before} -> {after}"))
    return "; ".join(lines)


def can_go_on(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a part has a checkpoint, and is of the same kind and has the same inputs as before."""
    other = any(key == "kind" or _is_input(key) for key in _changed_keys(old, new))
    return not other and bool(complete(folder / CHECKPOINTS_FOLDER))


def go_on(part: Part, changed: str) -> None:
    """Let a part's training go on from its last checkpoint under its present settings, and note it in the part's folder.

    The part is no longer done. What follows may be repeated after a crash at any moment.

    Args:
        part: The part.
        changed: What `changes` said; empty where somebody else's checkpoints were put there.
    """
    folder = part.folder / CHECKPOINTS_FOLDER
    others = foreign(folder, part.hash)
    if not others:
        return
    (part.folder / DONE_FILE).unlink(missing_ok=True)
    entry = {"checkpoint": others[-1].name, "changed": changed or "a checkpoint that was put there"}
    if (noted := accepted(part.folder))[-1:] != [entry]:
        (part.folder / ACCEPTED_FILE).write_text(json.dumps([*noted, entry], indent=1) + "\n", "utf-8")
    for checkpoint in others:
        adopt(checkpoint, part.hash)
    log.info("%s goes on from %s under other settings: %s", part.name, others[-1], entry["changed"])


def accepted(folder: Path) -> list[dict[str, str]]:
    """Return under which changes a part's training went on; empty for a part that was made in one go."""
    file = folder / ACCEPTED_FILE
    return json.loads(file.read_text("utf-8")) if file.is_file() else []


def set_aside(folder: Path) -> Path:
    """Rename a part's folder to NAME.before-1, or the next number that is free; return the new place."""
    places = (folder.with_name(f"{folder.name}.before-{number}") for number in itertools.count(1))
    place = next(path for path in places if not path.exists())
    folder.rename(place)
    log.info("%s is kept as %s", folder, place)
    return place
