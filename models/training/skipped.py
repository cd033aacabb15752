"""The rows of data sources that could not be used: each once, in a file that outlives a kill, so that a resumed training knows them."""

import json
import re
from pathlib import Path

SKIPPED_FILE = "skipped.jsonl"
"""In a stage's folder: one object per row, with its source, its number in the source's files from 0, and what was wrong."""


class Skipped:
    """Unusable rows by source and number; several processes may write one file."""

    def __init__(self, file: Path | None = None) -> None:
        """Read what was found before.

        Args:
            file: Where rows are noted; None keeps them in memory.
        """
        self.file = file
        self._rows: dict[tuple[str, int], str] = {}
        lines = file.read_text("utf-8").splitlines() if file is not None and file.is_file() else ()
        for line in lines:
            try:
                found = json.loads(line)
                self._rows.setdefault((found["source"], found["row"]), found["reason"])
            except (ValueError, KeyError, TypeError):
                continue  # a kill cut the line short: its row will be met again

    def __contains__(self, place: tuple[str, int]) -> bool:
        """Tell whether a source's row is known to be unusable."""
        return place in self._rows

    def add(self, source: str, row: int, error: Exception) -> str:
        """Note a row, and return the line that says so."""
        reason = re.sub(r" at 0x[0-9a-f]+", "", f"{type(error).__name__}: {str(error)[:200]}")  # the same in every process
        self._rows[source, row] = reason
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as opened:  # begins a line of its own, whatever a kill left before it
                opened.write("\n" + json.dumps({"source": source, "row": row, "reason": reason}))
        return self.of(source)[-1]

    def of(self, source: str) -> list[str]:
        """Return a line per row of one source: its name, the row's number and the reason, in the order in which they were met."""
        return [f"{source} row {row}: {reason}" for (name, row), reason in list(self._rows.items()) if name == source]
