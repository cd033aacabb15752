"""Writes into a wheel which commit it was built from, so that runs of an installed jfeval can tell; `jfeval.provenance` reads it."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuiltFrom(BuildHookInterface):
    """Adds the file to a wheel that is built in a checkout; a wheel that is built elsewhere has none."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Ask git, and add the answer to what the wheel contains."""
        del version
        sys.path.insert(0, self.root)
        from jfeval.provenance import BUILT_FROM, git_state

        state = git_state(Path(self.root) / "jfeval")
        self._folder = tempfile.TemporaryDirectory()
        if state:
            file = Path(self._folder.name) / BUILT_FROM
            file.write_text(json.dumps(state) + "\n", encoding="utf-8")
            build_data["force_include"][str(file)] = f"jfeval/{BUILT_FROM}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was added to the wheel."""
        del version, build_data, artifact_path
        self._folder.cleanup()
