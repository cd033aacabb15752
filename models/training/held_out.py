"""What training must never see: the colour-shape pairs that a world keeps for measuring composition.

A world states them in its meta.json (``world.held_out_pairs``, a list of [colour, shape]); the data part of a recipe checks every
training scene, caption, question and text against them before anything is trained.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jfeval.errors import UserError


class HeldOut:
    """The pairs of one world, and the check that a row holds none of them."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = frozenset(pairs)
        words = "|".join(rf"{re.escape(color)}\s+{re.escape(shape)}" for color, shape in sorted(self.pairs))
        self._words = re.compile(rf"\b(?:{words})", re.IGNORECASE) if words else None

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "HeldOut":
        """Read the pairs a world states; none where it states none.

        Raises:
            UserError: where the entry is not a list of [colour, shape].
        """
        listed = (meta.get("world") or {}).get("held_out_pairs") or []
        if not all(isinstance(p, list) and len(p) == 2 and all(isinstance(w, str) for w in p) for p in listed):
            raise UserError(f"world.held_out_pairs in meta.json must be a list of [colour, shape], got {str(listed)[:200]}")
        return cls([(color, shape) for color, shape in listed])

    def in_text(self, text: str) -> str | None:
        """Return the first held-out pair that `text` names (``purple circles`` names ``purple circle``), or None."""
        found = self._words.search(text) if self._words else None
        return found.group() if found else None

    def in_row(self, row: Mapping[str, Any]) -> str | None:
        """Return the first held-out pair in a scene's objects, captions, questions or answers, or None."""
        for thing in row.get("objects") or ():
            if (thing.get("color"), thing.get("shape")) in self.pairs:
                return f"{thing['color']} {thing['shape']}"
        texts = [*(row.get("captions") or ()), *(t for q in row.get("questions") or () for t in (q["question"], q["answer"]))]
        return self.in_text("\n".join(texts))
