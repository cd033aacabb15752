import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from jfeval import asking, files, folder, runner, shards
from jfeval.errors import DISK_ERRORS, UserError
from jfeval.locks import single_writer
from jfeval.runner import TooManyFailures
from jfeval.scoring import score
from jfeval.store import Store


def results(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("results/*/*"))}


def test_a_run_ends_with_scores_counts_and_a_record(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run")
    record = store.record()
    assert record.counts.complete
    assert (record.counts.available, record.counts.asked) == (24, 24)
    assert len(store.scores()) == 48
    assert record.finished_at
    assert record.provenance["images"] == 48
    assert set(record.provenance["seconds"]) == {"load", "generate", "judge", "score"}
    assert [metric.name for metric in store.metrics() if metric.headline] == ["overall"]


def test_running_again_computes_nothing_and_changes_no_result(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run")
    before = results(tmp_path / "run")
    calls, judge = [], stubs.BrightJudge()
    stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(judge=judge), model=stubs.Painter(calls=calls))
    assert calls == []
    assert judge.seen == []
    assert results(tmp_path / "run") == before


def test_batch_size_and_limit_change_no_image(stubs, tmp_path):
    whole = stubs.run_and_score(tmp_path / "a", batch_size=64).outputs()
    small = stubs.run_and_score(tmp_path / "b", batch_size=1, limit=5).outputs()
    assert len(small) == 5
    assert all(whole[key].images == output.images for key, output in small.items())


def test_a_limited_run_can_be_widened_and_draws_only_what_is_missing(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", limit=6)
    assert not store.record().counts.complete
    calls = []
    store = stubs.run_and_score(tmp_path / "run", model=stubs.Painter(calls=calls))
    assert store.record().counts.complete
    assert sum(len(call) for call in calls) == 2 * 18
    assert results(tmp_path / "run") == results(stubs.run_and_score(tmp_path / "other").path)


def test_another_fingerprint_is_refused_with_the_changed_keys(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run")
    with pytest.raises(UserError, match=r"model_identity.recipe.num_steps: 30 -> 7[\s\S]*--overwrite"):
        stubs.run_and_score(tmp_path / "run", model=stubs.Painter(stubs.PainterSettings(num_steps=7)))
    with pytest.raises(UserError, match="rows: 24 -> 30"):
        stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(rows=30), model="never loaded")


def test_overwrite_starts_anew(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run")
    calls = []
    stubs.run_and_score(tmp_path / "run", model=stubs.Painter(stubs.PainterSettings(num_steps=7), calls=calls), overwrite=True)
    assert sum(len(call) for call in calls) == 48


@pytest.mark.parametrize("why", ["cannot be loaded", "draws for another judge"])
def test_overwrite_deletes_nothing_before_the_model_is_known_to_do(stubs, tmp_path, why):
    class Large(stubs.Painter):
        image_size = 16

    store = stubs.run_and_score(tmp_path / "run")
    before, outputs = results(tmp_path / "run"), store.outputs()
    (tmp_path / "run" / "report.html").write_text("report")
    judge = stubs.BrightJudge()
    judge.image_size = 8
    load = stubs.refuse if why == "cannot be loaded" else Large
    with pytest.raises(UserError, match=r"no such weights|draws 16x16"):
        stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(judge=judge), load=load, overwrite=True)
    assert (results(tmp_path / "run"), Store.open(tmp_path / "run").outputs()) == (before, outputs)
    assert (tmp_path / "run" / "report.html").read_text() == "report"
    calls = []
    stubs.run_and_score(tmp_path / "run", model=stubs.Painter(calls=calls), overwrite=True)
    assert sum(len(call) for call in calls) == 48
    assert not (tmp_path / "run" / "report.html").exists()


def test_overwrite_replaces_a_run_whose_record_is_damaged(stubs, tmp_path):
    out = tmp_path / "run"
    stubs.run_and_score(out)
    before = results(out)
    for name in ("run.json", "inputs.json", "shards/local.sqlite"):
        (out / name).write_text("{")
    stubs.run_and_score(out, overwrite=True)
    assert results(out) == before
    assert [path.name for path in (out / "shards").iterdir()] == ["local.sqlite"]


def test_overwrite_never_deletes_a_folder_that_is_no_run(stubs, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        stubs.run_and_score(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_failing_sample_costs_itself_only(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", model=stubs.Painter(bad=["picture 5 of 0"]), max_failures=0.1)
    counts = store.record().counts
    assert (counts.finished, counts.failed) == (23, 1)
    assert not counts.complete
    assert store.outputs()["0-5"].error == "RuntimeError: paint ran out"
    assert "0-5" not in {item.sample_id for item in store.scores()}


def test_failed_samples_are_tried_again_only_when_asked(stubs, tmp_path):
    bad = stubs.Painter(bad=["picture 5 of 0"])
    stubs.run_and_score(tmp_path / "run", model=bad, max_failures=0.1)
    assert stubs.run_and_score(tmp_path / "run", max_failures=0.1).record().counts.failed == 1
    assert stubs.run_and_score(tmp_path / "run", retry_failed=True).record().counts.complete


def test_too_many_failures_stop_the_run_and_name_samples(stubs, tmp_path):
    prompts = [f"picture {i} of 0" for i in range(24)]
    with pytest.raises(TooManyFailures, match="0-0: RuntimeError: paint ran out"):
        stubs.run_and_score(tmp_path / "run", model=stubs.Painter(bad=prompts))
    assert len(Store(tmp_path / "run").outputs()) < 24


def test_a_model_that_returns_too_few_images_fails_those_samples(stubs, tmp_path):
    class Lazy(stubs.Painter):
        def generate(self, jobs):
            return super().generate(jobs)[:-1]

    with pytest.raises(TooManyFailures, match="returned 1 images for 2 requests"):
        stubs.run_and_score(tmp_path / "run", model=Lazy())


def test_a_judge_that_fails_on_a_sample_is_counted(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(judge=stubs.BrightJudge(bad=["0-3"])))
    assert store.record().counts.failed == 1
    assert store.judgements()["0-3"].error == "RuntimeError: the lamp is broken"


def test_another_judge_judges_anew_and_keeps_the_images(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run")
    calls, judge = [], stubs.BrightJudge(version=2)
    stubs.run_and_score(tmp_path / "run", bench=stubs.Bright(judge=judge), model=stubs.Painter(calls=calls))
    assert calls == []
    assert len(judge.seen) == 24


def test_scoring_again_under_another_protocol_needs_the_store_only(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run")
    strict = store.metrics()[0].value
    bench = stubs.Bright()
    bench.samples = bench.judge = None
    kind = score(store, bench, protocol="kind")
    assert kind[0].value > strict
    assert store.protocols() == ["kind", "strict"]
    assert store.metrics("strict")[0].value == strict
    with pytest.raises(UserError, match="did you mean 'strict'"):
        score(store, bench, protocol="strickt")


@pytest.mark.parametrize("damage", ["missing", "same length", "shorter"])
def test_a_damaged_image_is_drawn_again_when_it_is_needed(stubs, tmp_path, damage):
    out = tmp_path / "run"
    store = stubs.run_and_score(out)
    before = results(out)
    path = store.image_path(store.outputs()["0-7"].images[1])
    data = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(data[:-1] + b"\0" if damage == "same length" else data[:20])
    stubs.run_and_score(out, bench=stubs.Bright(judge=stubs.BrightJudge(version=2)))  # looks at every image
    assert path.read_bytes() == data
    assert results(out) == before


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_shard_is_set_aside_and_made_again(stubs, tmp_path, share):
    out = tmp_path / "run"
    stubs.run_and_score(out)
    before = results(out)
    shard = out / "shards" / "local.sqlite"
    data = shard.read_bytes()
    shard.write_bytes(data[: int(len(data) * share) + 50])
    stubs.run_and_score(out)
    assert results(out) == before
    assert (out / "shards" / "local.damaged1").exists()


def test_two_processes_cannot_write_one_run(stubs, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with single_writer(out), pytest.raises(UserError, match=f"another process .process {os.getpid()} on"):
        stubs.run_and_score(out)


def test_an_output_folder_that_cannot_be_is_said_before_the_model_loads(stubs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write the output folder"):
        stubs.run_and_score(tmp_path / "file" / "run", model="never loaded")


def test_too_little_space_is_said_before_generating(stubs, tmp_path, monkeypatch):
    usage = folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda path: replace_free(usage, 2**20))
    calls = []
    with pytest.raises(UserError, match="1 MiB free"):
        stubs.run_and_score(tmp_path / "run", model=stubs.Painter(calls=calls))
    assert calls == []


def replace_free(usage, free):
    return type(usage)(usage.total, usage.total - free, free)


@pytest.mark.parametrize("where", ["image", "row"])
def test_a_disk_that_fills_up_leaves_what_is_stored_usable(stubs, tmp_path, monkeypatch, where):
    out, count = tmp_path / "run", 0

    def full(*args, **kwargs):
        nonlocal count
        count += 1
        if count > (20 if where == "image" else 3):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*args, **kwargs)

    target, name = (Store, "add_image") if where == "image" else (shards.Shard, "add_outputs")
    original = getattr(target, name)
    with monkeypatch.context() as patch:
        patch.setattr(target, name, lambda self, *args: full(self, *args))
        with pytest.raises(UserError, match=r"No space left on device. (8|12) of 24 samples are stored and stay usable"):
            stubs.run_and_score(out)
    assert results(stubs.run_and_score(out).path) == results(stubs.run_and_score(tmp_path / "other").path)


def test_a_disk_that_is_full_at_any_write_loses_nothing(stubs, tmp_path, monkeypatch):
    writes, full_at = 0, None
    make = files.tempfile.mkstemp

    def mkstemp(**where):
        nonlocal writes
        writes += 1
        if writes == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return make(**where)

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)
    expected = results(stubs.run_and_score(tmp_path / "undisturbed").path)
    total = writes
    for moment in [*range(1, 8), *range(8, total - 8, total // 5), *range(total - 8, total + 1)]:
        out, writes, full_at = tmp_path / f"full{moment}", 0, moment
        with pytest.raises((UserError, OSError), match="No space left") as caught:
            stubs.run_and_score(out)
        assert isinstance(caught.value, UserError) or caught.value.errno in DISK_ERRORS
        stubs.run_and_score(out)
        assert results(out) == expected, moment


def test_sqlite_on_a_full_disk_is_the_same_error(tmp_path):
    with shards.Shard(tmp_path) as shard:
        shard._connection.execute("PRAGMA max_page_count=8")
        outputs = [asking.Output(sample_id=f"{i}", text="x" * 5000) for i in range(50)]
        with pytest.raises(OSError, match="full") as caught:
            shard.add_outputs("f", "b", outputs)
    assert caught.value.errno == errno.ENOSPC


def test_questions_are_answered_and_scored_without_a_judge(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", bench=stubs.Questions(rows=10))
    assert store.metrics()[0].value == 0.5
    assert store.samples() == stubs.Questions(rows=10).samples("shapes", seed=0)


def test_a_model_without_the_ability_is_refused(stubs, tmp_path):
    class Mute:
        name = "mute"
        identity = stubs.Painter.identity
        settings = stubs.PainterSettings()

    with pytest.raises(UserError, match="needs a model that draws images"):
        stubs.run_and_score(tmp_path / "run", model=Mute())


def test_nothing_stored_names_a_path_of_this_machine(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run")
    for path in (tmp_path / "run").rglob("*.json*"):
        assert str(tmp_path) not in path.read_text(), path
    assert json.loads((tmp_path / "run" / "run.json").read_text())["name"] == "run"


def test_a_moved_run_reads_the_same(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run")
    metrics, outputs = store.metrics(), store.outputs()
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = Store.open(tmp_path / "moved")
    assert (moved.metrics(), moved.outputs()) == (metrics, outputs)
    assert all(moved.read_image(sha) for output in outputs.values() for sha in output.images)


def test_judging_is_not_repeated_for_what_is_judged(stubs, tmp_path):
    out = tmp_path / "run"
    stubs.run_and_score(out, limit=6)
    judge = stubs.BrightJudge()
    stubs.run_and_score(out, bench=stubs.Bright(judge=judge))
    assert len(judge.seen) == 18


def test_the_record_of_a_run_that_stopped_says_so(stubs, tmp_path):
    class Stops(stubs.Painter):
        def generate(self, jobs):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().generate(jobs)

    with pytest.raises(KeyboardInterrupt):
        stubs.run_and_score(tmp_path / "run", model=Stops())
    store = Store.open(tmp_path / "run")
    assert len(store.outputs()) == 8
    assert not store.record().finished_at
    assert not replace(store.record().counts).complete
    assert runner.failure_summary(store).startswith("0 of 24")


def test_an_edition_that_cannot_be_judged_is_refused_before_the_model_loads(stubs, tmp_path):
    class Unjudged(stubs.Bright):
        def judge(self, edition):
            raise UserError(f"no judge for {edition}")

    plan = stubs.make_plan(stubs.settings_for(tmp_path / "run"), Unjudged())
    loaded = []
    with pytest.raises(UserError, match="no judge for shapes"):
        runner.run(plan, Unjudged(), lambda: loaded.append(1))
    assert loaded == []
