"""SEED-Bench by likelihood through a whole run: losses are asked, stored and scored; models that cannot weigh are told so."""

import pytest

from jfeval.benchmarks.seed import SeedLikelihood
from jfeval.errors import UserError
from jfeval.models.base import Weighs
from jfeval.plan import make_plan
from jfeval.runner import TooManyFailures, run
from jfeval.scoring import score
from jfeval.settings import RunSettings


class Knows:
    """Finds the right option least surprising."""

    name = "knows"

    def __init__(self, right, losses=4):
        self.right, self.losses = right, losses

    def identity(self):
        return {"weights": "0" * 64}

    def option_losses(self, requests):
        return [[float(option != self.right[r.question, r.options]) for option in r.options][: self.losses] for r in requests]


class Talks:
    name = "talks"

    def identity(self):
        return {"weights": "0" * 64}

    def answer(self, requests):
        return ["A" for _ in requests]


@pytest.fixture(scope="module")
def bench():
    return SeedLikelihood()


def plan_for(bench, out):
    settings = RunSettings(benchmark="seed-likelihood", edition="shapes", model="x", out=out, limit=14, batch_size=4)
    return make_plan(settings, bench)


def right_options(plan):
    rows = [sample for _, sample in plan.rows]
    return {(s.request.question, s.request.options): s.request.options["ABCD".index(s.reference["answer"])] for s in rows}


def test_a_run_stores_losses_and_scores_them(bench, tmp_path):
    plan = plan_for(bench, tmp_path / "run")
    model = Knows(right_options(plan))
    assert isinstance(model, Weighs)
    store = run(plan, bench, lambda: model)
    metrics = score(store, bench)
    (accuracy,) = (metric for metric in metrics if metric.headline)
    assert (accuracy.name, accuracy.n, accuracy.protocol) == ("accuracy", 14, "official")
    assert accuracy.value == 1
    assert all(output.text.startswith("[") for output in store.outputs().values())
    assert all(len(sample.request.options) == 4 for sample in store.samples())


def test_a_model_without_losses_is_told(bench, tmp_path):
    with pytest.raises(UserError, match="needs a model that says how likely given answers are"):
        run(plan_for(bench, tmp_path / "run"), bench, Talks)


def test_losses_that_are_missing_fail_their_sample(bench, tmp_path):
    plan = plan_for(bench, tmp_path / "run")
    with pytest.raises(TooManyFailures, match="returned 3 losses of options for 4 requests"):
        run(plan, bench, lambda: Knows(right_options(plan), losses=3))
