from jfeval import registry
from jfeval.last_model import LastModel
from jfeval.registry import load_model


def test_a_model_is_loaded_once_for_all_settings_of_its_sampler():
    models = LastModel()
    first = models.load("janusflow-shapes", num_steps=2, guidance_scale=1.0)
    second = models.load("janusflow-shapes", num_steps=3, guidance_scale=1.0)
    assert second.pipeline is first.pipeline
    assert (first.sampler.num_steps, second.sampler.num_steps) == (2, 3)
    assert second.identity() == load_model("janusflow-shapes", num_steps=3, guidance_scale=1.0).identity()
    assert first.identity() != second.identity()
    assert models.load("janusflow-shapes", dtype="bfloat16").pipeline is not first.pipeline


def test_a_model_without_other_settings_is_loaded_anew_only_where_they_differ(registered, monkeypatch):
    loaded = []

    def build(name, settings):
        loaded.append(settings)
        return object()

    monkeypatch.setattr(registry, "build_model", build)
    models = LastModel()
    first = models.load("painter", guidance_scale=1.0)
    assert models.load("painter", guidance_scale=1.0) is first
    assert models.load("painter", guidance_scale=2.0) is not first
    assert len(loaded) == 2
