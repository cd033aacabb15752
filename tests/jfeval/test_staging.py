"""One stage at a time, and judging beside generation."""

import threading
import time

import pytest

from jfeval.engine import Engine
from jfeval.errors import UserError
from jfeval.locks import Share, is_held, single_writer
from jfeval.plan import make_plan
from jfeval.runner import run
from jfeval.scoring import score
from jfeval.staging import judge_beside
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
