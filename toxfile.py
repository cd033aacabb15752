"""Lets all tox environments live in one folder: torch is several gigabytes, and one copy is enough.

tox rebuilds an environment's folder when another environment's name is written in it. The runner below writes one name for all;
what is installed is still compared, so a changed dependency rebuilds the folder as usual.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tox.plugin import impl
from tox.tox_env.info import Info
from tox.tox_env.python.virtual_env.runner import VirtualEnvRunner
from tox.tox_env.register import ToxEnvRegister


class _SharedInfo(Info):
    @contextmanager
    def compare(self, value: Any, section: str, sub_section: str | None = None) -> Iterator[tuple[bool, Any | None]]:  # noqa: ANN401 - tox's own signature
        if section == "ToxEnv":
            value = {**value, "name": "shared"}
        with super().compare(value, section, sub_section) as result:
            yield result


class SharedVirtualEnvRunner(VirtualEnvRunner):
    """A virtual environment that several tox environments share."""

    @staticmethod
    def id() -> str:
        """Name this runner as tox.ini refers to it."""
        return "shared-virtualenv"

    @property
    def cache(self) -> Info:
        """Open the record of what the folder holds."""
        return _SharedInfo(self.env_dir)


@impl
def tox_register_tox_env(register: ToxEnvRegister) -> None:
    """Register the runner."""
    register.add_run_env(SharedVirtualEnvRunner)
