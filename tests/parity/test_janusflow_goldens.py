from pathlib import Path

import pytest

from jfeval.models.janusflow.goldens import SUITES

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "janusflow"
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no recorded goldens at {GOLDENS}")


def sets():
    folders = [GOLDENS, *sorted(p for p in GOLDENS.rglob("*") if p.is_dir())] if GOLDENS.is_dir() else []
    return [(folder, suite) for folder in folders for suite in SUITES if suite.recognise(folder)]


def test_sets_are_found():
    assert {suite.name for _, suite in sets()} == {suite.name for suite in SUITES}


@pytest.mark.parametrize(("folder", "suite"), sets(), ids=lambda value: getattr(value, "name", str(value)))
def test_recorded_set(folder, suite):
    result = suite.check(folder)
    assert result.status == "ok", result
