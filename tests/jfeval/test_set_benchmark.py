"""Benchmarks whose numbers are of a whole set: what was seen is read from the store, each protocol has its own judge."""

import pytest

from jfeval.errors import UserError
from jfeval.judging import judge_again
from jfeval.schema import Metric, Score
from jfeval.scoring import score


@pytest.fixture
def spread(stubs):
    """A benchmark of the stubs' world that reports the spread of brightness, looked at in one of two units."""

    class UnitJudge(stubs.BrightJudge):
        def __init__(self, unit, seen):
            super().__init__(bad=["0-3"])
            self.unit, self.log = unit, seen

        def identity(self):
            return {**super().identity(), "unit": self.unit}

        def observe(self, sample, images):
            self.log.append((self.unit, 1))
            return tuple({"value": one["light"] * self.unit} for one in super().observe(sample, images))

        def observe_many(self, work):
            if any(sample.id == "0-3" for sample, _ in work):
                raise ValueError("not together")
            self.log.append((self.unit, len(work)))
            return [tuple({"value": one["light"] * self.unit} for one in super(UnitJudge, self).observe(*item)) for item in work]

    class Spread(stubs.Bright):
        protocols = ("plain", "tenfold")

        def __init__(self):
            super().__init__()
            self.seen, self.passes, self.broken = [], 0, False

        def protocols_of(self, edition):
            return self.protocols

        def judge_under(self, edition, protocol):
            if self.broken:
                raise UserError("the weights are not here")
            return UnitJudge(10 if protocol == "tenfold" else 1, self.seen)

        def score_set(self, judged, *, protocol):
            assert judged.judge["unit"] == (10 if protocol == "tenfold" else 1)
            values = []
            for _ in range(2):  # as often as it likes
                values = [seen["value"] for sample in judged.samples for seen in judged.read(sample.id).observations]
            scores = [Score(sample_id=s.id, task=s.task, cluster=s.id, values={"n": 1.0}) for s in judged.samples]
            spread = max(values) - min(values)
            return scores, [Metric(name="spread", protocol=protocol, value=spread, n=len(values), clusters=len(scores), headline=True)]

    return Spread()


def test_the_whole_set_is_handed_over_and_failures_are_left_out(stubs, spread, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", bench=spread)
    (metric,) = store.metrics()
    judged = [j for j in store.judgements().values() if not j.error]
    values = [seen["value"] for j in judged for seen in j.observations]
    assert metric.value == max(values) - min(values) > 0
    assert metric.n == len(values)
    assert [one.sample_id for one in store.scores()] == [s.id for s in store.samples() if s.id != "0-3"]
    assert store.record().counts.failed == 1


def test_outputs_are_judged_together_where_that_works_and_one_by_one_where_not(stubs, spread, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", bench=spread)
    together = [size for _, size in spread.seen if size > 1]
    assert together
    assert sum(size for _, size in spread.seen) == len(store.samples())
    assert store.judgement_errors()["0-3"]


def test_each_protocol_has_its_own_judge_and_what_both_saw_is_kept(stubs, spread, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", bench=spread)
    looked = len(spread.seen)
    for protocol in ("tenfold", "plain", "tenfold"):
        judge_again(store, spread, protocol)
        score(store, spread, protocol=protocol)
    assert store.metrics("tenfold")[0].value == pytest.approx(10 * store.metrics("plain")[0].value)
    assert {unit for unit, _ in spread.seen[looked:]} == {10}
    assert len(spread.seen) == 2 * looked


def test_a_judge_that_is_not_here_is_not_needed_for_what_was_seen(stubs, spread, tmp_path, caplog):
    store = stubs.run_and_score(tmp_path / "run", bench=spread)
    before = store.metrics()
    spread.broken = True
    assert judge_again(store, spread, "plain") == []
    assert "the weights are not here" in caplog.text
    score(store, spread)
    assert store.metrics() == before
    with pytest.raises(UserError, match="the weights are not here"):
        judge_again(store, spread, "tenfold")
