import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["charts", "html", "table", "text"])
def test_examples_in_docstrings_hold(name):
    result = doctest.testmod(import_module(f"jfeval.reports.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
