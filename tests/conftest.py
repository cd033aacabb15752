"""Both ways to start the command line; and how many tests were skipped, said at the end, none as well: a skip is easily overlooked."""

import sys
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter


@pytest.fixture(params=["module", "script"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """Return how the command line is started: as a module, and by the script that an installation puts beside the interpreter."""
    if request.param == "module":
        return [sys.executable, "-m", "jfeval"]
    script = Path(sys.executable).with_name("jfeval")
    if not script.is_file():
        pytest.skip(f"jfeval is not installed in {script.parent}; pip install .")
    return [str(script)]


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    terminalreporter.write_line(f"skipped tests: {len(terminalreporter.stats.get('skipped', []))}")
