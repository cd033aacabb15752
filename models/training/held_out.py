"""What training must never see: the colour-shape pairs that a world keeps for measuring composition.

A world states them in its meta.json (``world.held_out_pairs``, a list of [colour, shape]); the data part of a recipe checks every
training scene, caption, question and text against them before anything is trained.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from jfeval.errors import UserError
from jfeval.pairs import pair_pattern

log = logging.getLogger(__name__)

KNOWN_FORMAT = "jfeval-shapes-"
"""A meta.json whose ``format`` begins so always states its pairs."""


class HeldOut:
    """The pairs of one world, and the check that a row holds none of them."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = frozenset(pairs)
        self._words = pair_pattern(self.pairs)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "HeldOut":
        """Read the pairs a world states; none, with a warning, where a world that is named states none.

        Raises:
            UserError: where the entry is not a list of [colour, shape], or is missing from a world of the known format.
        """
        world = meta.get("world")
        listed = world.get("held_out_pairs") if isinstance(world, Mapping) else None
        if not listed and str(meta.get("format")).startswith(KNOWN_FORMAT):
            raise UserError("meta.json states no world.held_out_pairs, as every world of its format does; write the data again")
        if listed is None and world:
            log.warning("meta.json names a world without world.held_out_pairs, so nothing is checked for pairs that training must not see")
        listed = [] if listed is None else listed
        if not isinstance(listed, list) or not all(
            isinstance(p, list) and len(p) == 2 and all(isinstance(w, str) for w in p) for p in listed
        ):
            raise UserError(f"world.held_out_pairs in meta.json must be a list of [colour, shape], got {str(listed)[:200]}")
        return cls([(color, shape) for color, shape in listed])

    def in_text(self, text: str) -> str | None:
        """Return the words by which `text` first names a held-out pair, or None; `jfeval.pairs.pair_pattern` says which forms are seen."""
        found = self._words.search(text)
        return found.group() if found else None

    def in_row(self, row: Mapping[str, Any]) -> str | None:
        """Return the first held-out pair in a scene's objects, captions, questions or answers, or None."""
        for thing in row.get("objects") or ():
            if (thing.get("color"), thing.get("shape")) in self.pairs:
                return f"{thing['color']} {thing['shape']}"
        texts = [*(row.get("captions") or ()), *(t for q in row.get("questions") or () for t in (q["question"], q["answer"]))]
        return self.in_text("\n".join(texts))
