"""One stage at a time, and judging beside generation."""

import threading
import time
from functools import partial

import pytest

from jfeval.cli_options import take_engine
from jfeval.engine import Engine
from jfeval.errors import UserError
from jfeval.locks import Share, is_held, single_writer
from jfeval.plan import make_plan
from jfeval.runner import run
from jfeval.scoring import score
from jfeval.staging import judge_beside, judged_beside
from jfeval.store import Store

GENERATE, JUDGE = Engine(stage="generate"), Engine(stage="judge")


def results(store):
    return {path.name: path.read_bytes() for path in store.path.glob("results/*/*")}


def test_stages_one_by_one_give_what_one_run_gives(stubs, tmp_path):
    whole = stubs.run_and_score(tmp_path / "whole")
    bench = stubs.Bright()
    plan = make_plan(stubs.settings_for(tmp_path / "parts"), bench)
    drawn = run(plan, bench, stubs.Painter, engine=GENERATE)
    assert (len(drawn.outputs()), drawn.record().judge_fingerprint, bench.light.seen) == (24, "", [])
    calls = []
    run(plan, bench, lambda: stubs.Painter(calls=calls), engine=GENERATE)
    assert calls == []
    judged = judge_beside(plan, bench, engine=JUDGE)
    assert len(bench.light.seen) == 24
    score(judged, bench)
    assert results(judged) == results(whole)
    assert judged.record().counts.complete


@pytest.mark.parametrize("engines", [[GENERATE, JUDGE], [Engine(share=Share(index=i, of=2)) for i in (1, 2)]])
def test_what_failed_in_a_whole_run_is_tried_again_by_its_parts(stubs, tmp_path, engines):
    out = tmp_path / "run"
    bad = stubs.Bright(judge=stubs.BrightJudge(bad=["0-3", "0-12"]))
    failed = stubs.run_and_score(out, bench=bad, model=stubs.Painter(bad=["picture 5 of 0", "picture 20 of 0"]), max_failures=0.2)
    assert failed.record().counts.failed == 4
    bench = stubs.Bright()
    plan = make_plan(stubs.settings_for(out), bench)
    for engine in engines:
        if engine is JUDGE:
            judge_beside(plan, bench, engine=engine, retry_failed=True)
        else:
            run(plan, bench, stubs.Painter, engine=engine, retry_failed=True)
    assert Store(out).record().counts.failed == 0
    calls = []
    store = stubs.run_and_score(out, model=stubs.Painter(calls=calls))
    assert store.record().counts.complete
    assert calls == []
    assert results(store) == results(stubs.run_and_score(tmp_path / "whole"))


def test_judging_goes_on_beside_generation_and_ends_with_it(stubs, tmp_path):
    drawing = threading.Event()

    class Watching(stubs.BrightJudge):
        def observe(self, sample, images):
            self.beside = getattr(self, "beside", 0) + drawing.is_set()
            return super().observe(sample, images)

    bench, out = stubs.Bright(judge=Watching()), tmp_path / "run"
    plan = make_plan(stubs.settings_for(out), bench)

    def draw():
        drawing.set()
        run(plan, bench, lambda: stubs.Painter(delay=0.4), engine=GENERATE)
        drawing.clear()

    thread = threading.Thread(target=draw)
    thread.start()
    while not (Store(out).exists() and is_held(out, "stage-generate") and Store(out).outputs()):
        time.sleep(0.02)
    store = judge_beside(plan, bench, engine=JUDGE, every=0.05)
    thread.join()
    assert bench.light.beside > 0
    assert len(store.judgements()) == 24
    score(store, bench)
    assert results(store) == results(stubs.run_and_score(tmp_path / "whole"))


def test_nothing_to_judge_and_other_settings_are_named(stubs, tmp_path):
    bench = stubs.Bright()
    plan = make_plan(stubs.settings_for(tmp_path / "run"), bench)
    with pytest.raises(UserError, match="holds no run to judge; start `jfeval run --stage generate`"):
        judge_beside(plan, bench, engine=JUDGE)
    run(plan, bench, stubs.Painter, engine=GENERATE)
    with pytest.raises(UserError, match="seed: 0 -> 5"):
        judge_beside(make_plan(stubs.settings_for(tmp_path / "run", seed=5), bench), bench, engine=JUDGE)


def test_a_whole_run_excludes_its_stages_and_these_do_not_exclude_each_other(tmp_path):
    with single_writer(tmp_path, GENERATE.part), single_writer(tmp_path, JUDGE.part):
        assert is_held(tmp_path, "stage-generate")
        with pytest.raises(UserError, match="being written"), single_writer(tmp_path):
            pass
        with pytest.raises(UserError, match="being written"), single_writer(tmp_path, JUDGE.part):
            pass
    assert not is_held(tmp_path, "stage-generate")
    assert Engine(stage="judge", share=Share(index=1, of=2)).part == "stage-judge-share-1-of-2"
    with pytest.raises(UserError, match="no shards to be scored"):
        Engine(stage="score", share=Share(index=1, of=2))
    with pytest.raises(UserError, match="unknown stage 'judged'; did you mean 'judge'"):
        Engine(stage="judged")


def test_stages_from_the_command_line(registered, stubs, tmp_path):
    from click.testing import CliRunner

    from jfeval.cli import main

    def invoke(*more):
        fixed = ["run", "--benchmark", "bright", "--model", "painter", "--no-report", "--out", str(tmp_path / "run")]
        return CliRunner().invoke(main, [*fixed, *more], catch_exceptions=False)

    drawn = invoke("--stage", "generate")
    assert drawn.exit_code == 0, drawn.output
    assert "stage generate is done" in drawn.stdout
    assert "The same command without --shard and --stage does what is missing, and scores" in drawn.stdout
    assert "no finished sample to score" in invoke("--stage", "score").stderr
    assert "stage judge is done" in invoke("--stage", "judge").stdout
    scored = invoke("--stage", "score")
    assert scored.exit_code == 0, scored.output
    assert "complete: 24 of 24 prompts" in scored.stdout
    assert invoke().stdout == scored.stdout


# both stages by one command


class Waiting:
    """A painter that draws on only when something that it drew was judged, and may then be stopped.

    Args:
        painter: Draws.
        seen: Says whether enough has happened.
        stopped: Raise as a keyboard does, instead of the fourth batch.
    """

    name = "painter"

    def __init__(self, painter, seen, *, stopped=False):
        self.painter, self.seen, self.stopped = painter, seen, stopped
        self.identity = painter.identity

    def generate(self, jobs):
        if len(self.painter.calls) == 3:
            deadline = time.monotonic() + 240
            while not self.seen():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if self.stopped:
                raise KeyboardInterrupt
        return self.painter.generate(jobs)


@pytest.fixture
def often(monkeypatch):
    """Look every twentieth of a second."""
    monkeypatch.setattr("jfeval.runner.judged_beside", partial(judged_beside, every=0.05))


BESIDE = Engine(judge_beside=True)


def test_one_command_judges_in_a_worker_while_it_draws_and_ends_in_the_same_bytes(stubs, tmp_path, often):
    out = tmp_path / "run"
    model = Waiting(stubs.Painter(), lambda: Store(out).judgements(), stopped=True)
    with pytest.raises(KeyboardInterrupt):
        stubs.run_and_score(out, model=model, engine=BESIDE)
    drawn, judged = Store(out).outputs(), Store(out).judgements()
    assert len(drawn) == 12
    assert 0 < len(judged) <= 12
    bench = stubs.Bright()
    store = stubs.run_and_score(out, bench=bench, engine=BESIDE)
    assert {name: store.outputs()[name] for name in drawn} == drawn
    assert {name: store.judgements()[name] for name in judged} == judged
    assert set(bench.light.seen).isdisjoint(judged)
    assert store.record().provenance["engine"]["judge_beside"] is True
    assert results(store) == results(stubs.run_and_score(tmp_path / "whole"))


def test_a_judge_that_fails_beside_costs_no_picture(stubs, tmp_path, often, caplog):
    out, bench = tmp_path / "run", stubs.Homebound()
    model = Waiting(stubs.Painter(), lambda: "ended early" in caplog.text)
    store = stubs.run_and_score(out, bench=bench, model=model, engine=BESIDE)
    assert "judging beside generation ended early (UserError: the lamp cannot be moved)" in caplog.text
    assert len(bench.light.seen) == 24
    assert results(store) == results(stubs.run_and_score(tmp_path / "whole"))


def test_judging_beside_is_of_whole_runs_on_one_machine_and_has_a_place_of_its_own():
    for other in ({"stage": "judge"}, {"executor": "ray"}):
        with pytest.raises(UserError, match="run --stage generate, and beside it --stage judge"):
            Engine(judge_beside=True, **other)
    engine = take_engine({"workers": 2, "judge_beside": True, "item_timeout": 5.0})
    with engine.open(dict) as drawing, engine.open_beside(dict) as judging:
        assert (drawing._first, drawing._most, drawing._of) == (0, 2, 3)
        assert (judging._first, judging._most, judging._of) == (2, 1, 3)
    assert take_engine({"judge_beside": True, "item_timeout": 5.0}).alone
    assert not engine.sole_writer
