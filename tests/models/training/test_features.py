"""Features of a frozen encoder, kept on disk: the same losses without running it, and never another encoder's."""

import json

import numpy as np
import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training.data import StepRng
from jfeval.models.training.features import FEATURES_FILE, FeaturesSettings, cache_features
from jfeval.models.training.janusflow_objective import StageSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.part import Part
from jfeval.models.training.stages import alignment_head, scenes_objective, stage_processor

MIXTURE = MixtureSettings(generation=3, understanding=2, text=1, prompt_tokens=80, conversation_tokens=120, text_tokens=60)
SETTINGS = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), mixture=MIXTURE, freeze=("vision",))


@pytest.fixture(scope="module")
def features(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    inputs = {"data": made / "data", "contrastive": made / "contrastive"}
    found = cache_features(FeaturesSettings(batch_size=5, dtype="float32"), Part(name="features", folder=folder, inputs=inputs))
    rows = json.loads((made / "data" / "done.json").read_text())["results"]["train_scenes"]
    assert found == {"features": float(rows), "tokens": 16.0, "width": 16.0}
    return folder


def objective(made, tmp_path, settings=SETTINGS, **inputs):
    model = JanusFlow.from_pretrained(made / "stage1")
    inputs = {"data": made / "data", "latents": made / "latents", **inputs}
    part = Part(name="stage", folder=tmp_path, inputs=inputs)
    processor = stage_processor(made / "tokenizer", model)
    return scenes_objective(model, alignment_head(model, settings, part), None, None, processor, settings, part)


def test_losses_and_gradients_are_those_of_the_encoder(made, features, tmp_path):
    plain, kept = objective(made, tmp_path), objective(made, tmp_path, features=features)
    found = []
    for each in (plain, kept):
        batch = each.batch(0, StepRng(0, 0))
        total, parts = each.loss(batch)
        total.backward()
        gradient = each.model.vision_und_enc_aligner.weight.grad
        found.append((float(total.detach()), {k: float(v) for k, v in parts.items()}, gradient))
    assert batch.flow.features.shape == (3, 16, 16)
    assert batch.understanding.features.shape == (2, 1, 16, 16)
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-3, abs=1e-4)
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-2, atol=1e-4)
    assert kept.operations(batch) < plain.operations(batch)


def test_the_encoder_is_not_run(made, features, tmp_path, monkeypatch):
    kept = objective(made, tmp_path, features=features)
    monkeypatch.setattr(kept.model.vision_und_enc_model, "forward", None)
    kept.loss(kept.batch(0, StepRng(0, 0)))


def test_features_of_something_else_are_refused(made, features, tmp_path):
    with pytest.raises(UserError, match="holds features of a frozen contrastive encoder"):
        objective(made, tmp_path, StageSettings(loop=SETTINGS.loop, mixture=MIXTURE), features=features)
    stored = np.load(features / FEATURES_FILE)
    np.save(tmp_path / FEATURES_FILE, stored[::-1])
    with pytest.raises(UserError, match="another encoder or other images"):
        objective(made, tmp_path, features=tmp_path)
    np.save(tmp_path / FEATURES_FILE, stored[:5])
    with pytest.raises(UserError, match=r"have shape \(5, 16, 16\), this stage needs \(24, 16, 16\)"):
        objective(made, tmp_path, features=tmp_path)
