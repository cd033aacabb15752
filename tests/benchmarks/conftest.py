"""Image sets without a run: what a judge sees in pictures, handed over as the harness does."""

from pathlib import Path

import numpy as np
import pytest

from jfeval.schema import Judged, Judgement


@pytest.fixture(scope="session")
def see():
    """Judge one picture per sample and give what the harness hands to ``score_set``."""

    def judged(samples, pictures, judge):
        seen = {s.id: Judgement(sample_id=s.id, observations=judge.observe(s, [p])) for s, p in zip(samples, pictures, strict=True)}
        return Judged(samples=tuple(samples), read=seen.__getitem__, judge={"name": judge.name, **judge.identity()})

    return judged


class Means:
    """In the place of Inception: three features, the mean of each channel, and the weights it was given."""

    def __init__(self, weights, recipe, *, device="cpu"):
        self.weights, self.recipe = Path(weights), recipe

    def identity(self):
        return {"network": "means", "recipe": self.recipe}

    def features(self, images):
        rows = np.stack([np.asarray(image.convert("RGB"), np.float32).mean((0, 1)) for image in images])
        return rows + (1.0 if self.recipe == "clean" else 0.0), rows


@pytest.fixture
def means(monkeypatch):
    """Put `Means` in the place of Inception, which needs a package and weights."""
    monkeypatch.setattr("jfeval.benchmarks.photo_sets.Inception", Means)
    return Means
