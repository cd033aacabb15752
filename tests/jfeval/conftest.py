import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).with_name("stubs.py")
_SPEC = importlib.util.spec_from_file_location("jfeval_test_stubs", _PATH)
_STUBS = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _STUBS
_SPEC.loader.exec_module(_STUBS)


@pytest.fixture
def stubs():
    return _STUBS


@pytest.fixture
def registered(monkeypatch):
    """The painter and its benchmarks under names, as a plug-in would bring them."""
    from jfeval import registry

    models = {**registry.MODELS, "painter": "jfeval_test_stubs:load_painter"}
    benchmarks = {**registry.BENCHMARKS, "bright": "jfeval_test_stubs:Bright"}
    monkeypatch.setitem(registry._TABLES, "model", models)
    monkeypatch.setitem(registry._TABLES, "benchmark", benchmarks)
