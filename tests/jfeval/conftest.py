import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # workers are other processes, and import the stubs by name

import jfeval_test_stubs


@pytest.fixture
def stubs():
    return jfeval_test_stubs


@pytest.fixture
def registered(monkeypatch):
    """The painter and its benchmarks under names, as a plug-in would bring them."""
    from jfeval import registry

    models = {**registry.MODELS, "painter": "jfeval_test_stubs:load_painter"}
    benchmarks = {**registry.BENCHMARKS, "bright": "jfeval_test_stubs:Bright", "questions": "jfeval_test_stubs:Questions"}
    monkeypatch.setitem(registry._TABLES, "model", models)
    monkeypatch.setitem(registry._TABLES, "benchmark", benchmarks)
