from importlib.metadata import EntryPoint

import pytest

from jfeval import registry
from jfeval.errors import UserError


@pytest.fixture
def plugged(stubs, monkeypatch):
    points = {
        "jfeval.models": [
            EntryPoint("painter", "jfeval_test_stubs:load_painter", "jfeval.models"),
            EntryPoint("broken", "jfeval_no_such_module:load", "jfeval.models"),
            EntryPoint("folder", "jfeval_test_stubs:load_painter", "jfeval.models"),
        ],
        "jfeval.benchmarks": [EntryPoint("bright", "jfeval_test_stubs:Bright", "jfeval.benchmarks")],
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: points[group])


def test_plugged_in_names_stand_after_built_in_ones(plugged):
    assert registry.list_models() == [*registry.MODELS, "broken", "painter"]
    assert registry.list_benchmarks() == [*registry.BENCHMARKS, "bright"]


def test_a_plugged_in_model_and_benchmark_load(plugged):
    model = registry.load_model("painter", num_steps=3)
    assert model.settings.num_steps == 3
    assert registry.load_benchmark("bright").protocols == ("strict", "kind")


def test_a_built_in_name_cannot_be_taken_over(plugged):
    assert registry.describe("folder").summary.startswith("Your own images")


def test_a_plug_in_that_does_not_import_is_named(plugged):
    with pytest.raises(UserError, match="model 'broken' is registered as 'jfeval_no_such_module:load' but cannot be imported"):
        registry.load_model("broken")


def test_settings_are_checked_without_loading(plugged):
    with pytest.raises(UserError, match="did you mean 'guidance_scale'"):
        registry.model_settings("painter", {"guidance": 3})
    with pytest.raises(UserError, match="unknown model 'paint'; did you mean 'painter'"):
        registry.model_settings("paint")


def test_a_factory_of_another_form_is_refused(registered, stubs, monkeypatch):
    monkeypatch.setattr(stubs, "load_painter", lambda path, size: None)
    with pytest.raises(UserError, match="must take one argument annotated with a dataclass"):
        registry.load_model("painter")


def test_every_built_in_name_can_be_described():
    for name in (*registry.MODELS, *registry.BENCHMARKS):
        assert registry.describe(name).summary, name


def test_a_model_may_be_named_with_its_place():
    assert registry.split_place("hf:llava-hf/llava-1.5-7b-hf") == ("hf", {"path": "llava-hf/llava-1.5-7b-hf"})
    assert registry.split_place("diffusers:C:/models/sd") == ("diffusers", {"path": "C:/models/sd"})
    assert registry.split_place("janusflow-shapes") == ("janusflow-shapes", {})
