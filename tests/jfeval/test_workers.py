import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import click
import pytest

from jfeval.asking import Errand
from jfeval.cli_options import take_engine
from jfeval.engine import Engine
from jfeval.errors import UserError
from jfeval.executors.processes import in_processes
from jfeval.locks import Share, single_writer
from jfeval.plan import make_plan
from jfeval.runner import TooManyFailures
from jfeval.store import Store


def results(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("results/*/*"))}


def test_a_run_goes_on_with_more_workers_one_of_which_is_killed(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run", limit=6)
    known = set(Store(tmp_path / "run").outputs())
    load = partial(stubs.Mortal, "picture 17 of 0", tmp_path / "happened")
    store = stubs.run_and_score(tmp_path / "run", load=load, engine=Engine(workers=3))
    assert (tmp_path / "happened").exists()
    assert store.record().counts.complete
    assert store.record().provenance["engine"] == {"executor": "local", "workers": 3, "share": ""}
    assert known < set(store.outputs())
    assert results(tmp_path / "run") == results(stubs.run_and_score(tmp_path / "other").path)


def test_what_no_worker_survives_is_a_failed_batch_with_the_reason(stubs, tmp_path):
    load = partial(stubs.Mortal, "picture 5 of 0")
    store = stubs.run_and_score(tmp_path / "run", load=load, engine=Engine(workers=2), max_failures=0.5)
    failed = {key: output.error for key, output in store.outputs().items() if output.error}
    assert set(failed) == {"0-4", "0-5", "0-6", "0-7"}
    assert "2 worker processes ended while they worked on it (SIGKILL" in failed["0-5"]
    assert len(store.scores()) == 40


def test_a_worker_that_cannot_load_says_why(stubs, tmp_path):
    with pytest.raises(UserError, match="there are no such weights"):
        stubs.run_and_score(tmp_path / "run", load=stubs.refuse, engine=Engine(workers=2))


def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = (
        "import sys; from pathlib import Path; from functools import partial; import jfeval_test_stubs as stubs\n"
        "from jfeval.engine import Engine\n"
        "if __name__ == '__main__':\n"
        "    out = Path(sys.argv[1])\n"
        "    stubs.run_and_score(out / 'run', load=partial(stubs.Slow, out), engine=Engine(workers=2))\n"
    )
    (tmp_path / "driver.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen([sys.executable, tmp_path / "driver.py", tmp_path], env=environment, stderr=subprocess.DEVNULL)
    try:
        pids = wait_for(lambda: [int(path.name[3:]) for path in tmp_path.glob("pid*")])
        assert process.pid not in pids
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids))
    with single_writer(tmp_path / "run"):
        pass


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_pool_hands_out_everything_once_and_passes_errors_on(stubs):
    with in_processes(partial(partial, int, 1), workers=2) as pool:
        assert sorted(pool.each(stubs.square, [1, 2, 3], None)) == [(1, 2), (2, 5), (3, 10)]
        with pytest.raises(ValueError, match="-4"):
            list(pool.each(stubs.square, [-4], None))


def test_a_worker_that_hangs_is_replaced_after_its_time(stubs, tmp_path):
    with in_processes(partial(partial, str, tmp_path / "mark"), workers=2, item_timeout=6.0) as pool:
        got = dict(pool.each(stubs.stall, [1, 2, 3, 4], lambda _, reason: reason))
    assert {item: got[item] for item in (1, 2, 4)} == {1: 1, 2: 2, 4: 4}
    assert "no word in 6 seconds; --item-timeout" in got[3]


def test_how_long_to_wait_for_a_worker_can_be_said_wherever_there_are_workers():
    assert take_engine({"workers": 2, "item_timeout": 5.0}).item_timeout == 5.0
    assert take_engine({"executor": "ray", "item_timeout": 5.0}).item_timeout == 5.0
    with pytest.raises(click.UsageError, match="give --workers 2 or more"):
        take_engine({"item_timeout": 5.0})
    with pytest.raises(click.UsageError, match="--gpus is for --executor ray"):
        take_engine({"workers": 2, "gpus": 1.0})


# shares


def test_shares_of_a_run_are_merged_by_the_next_command(stubs, tmp_path):
    out = tmp_path / "run"
    for index in (2, 1, 3):
        calls = []
        stubs.run_and_score(out, model=stubs.Painter(calls=calls), engine=Engine(share=Share(index=index, of=3)))
        assert len(calls) == 2
    assert sorted(path.name for path in (out / "shards").iterdir()) == [f"share-{i}-of-3.sqlite" for i in (1, 2, 3)]
    assert not (out / "results").exists()
    calls, judge = [], stubs.BrightJudge()
    store = stubs.run_and_score(out, model=stubs.Painter(calls=calls), bench=stubs.Bright(judge=judge))
    assert (calls, judge.seen) == ([], [])
    assert store.record().counts.complete
    assert results(out) == results(stubs.run_and_score(tmp_path / "other").path)


def test_a_share_that_is_missing_is_made_by_the_next_command(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run", engine=Engine(share=Share(index=1, of=3)))
    calls = []
    stubs.run_and_score(tmp_path / "run", model=stubs.Painter(calls=calls))
    assert len(calls) == 4


def test_batches_do_not_depend_on_the_number_of_workers_or_shares(stubs, tmp_path):
    plan = make_plan(stubs.settings_for(tmp_path), stubs.Bright())
    for of in (1, 2, 5, 7):
        shares = [Share(index=i, of=of).choose(plan.batches) for i in range(1, of + 1)]
        assert sorted(batch.key for share in shares for batch in share) == sorted(batch.key for batch in plan.batches)


def test_shares_with_other_batches_are_refused(stubs, tmp_path):
    stubs.run_and_score(tmp_path / "run", engine=Engine(share=Share(index=1, of=2)))
    with pytest.raises(UserError, match="must agree"):
        stubs.run_and_score(tmp_path / "run", engine=Engine(share=Share(index=2, of=2)), batch_size=4)
    with pytest.raises(UserError, match="--overwrite"):
        stubs.run_and_score(tmp_path / "run", engine=Engine(share=Share(index=2, of=2)), overwrite=True)


def test_a_whole_run_and_a_share_of_it_exclude_each_other_and_other_shares_do_not(tmp_path):
    first, second = Share(index=1, of=2).name, Share(index=2, of=2).name
    with single_writer(tmp_path, first):
        with single_writer(tmp_path, second):
            pass
        for share in ("", first):
            with pytest.raises(UserError, match="being written by another process"), single_writer(tmp_path, share):
                pass
    with single_writer(tmp_path), pytest.raises(UserError, match="being written"), single_writer(tmp_path, second):
        pass


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "-1/4", "1/0", "1/2/3"])
def test_a_share_that_cannot_be_is_refused(text):
    with pytest.raises(UserError, match="shard"):
        Share.parse(text)


def test_a_damaged_shard_of_any_name_is_set_aside_and_made_again(stubs, tmp_path):
    out = tmp_path / "run"
    for index in (1, 2):
        stubs.run_and_score(out, engine=Engine(share=Share(index=index, of=2)))
    shard = out / "shards" / "share-2-of-2.sqlite"
    shard.write_bytes(shard.read_bytes()[:5000])
    stubs.run_and_score(out)
    assert (out / "shards" / "share-2-of-2.damaged1").exists()
    assert results(out) == results(stubs.run_and_score(tmp_path / "other").path)


# memory


class Small:
    """Draws as many at once as fit."""

    def __init__(self, painter, room):
        self.painter, self.room, self.name, self.identity, self.asked = painter, room, painter.name, painter.identity, []

    def generate(self, jobs):
        self.asked.append(len(jobs))
        if len(jobs) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return self.painter.generate(jobs)


def test_out_of_memory_halves_once_per_size_and_is_recorded(stubs, tmp_path):
    small = Small(stubs.Painter(), room=3)
    store = stubs.run_and_score(tmp_path / "run", model=small, batch_size=16)
    assert small.asked[:3] == [16, 8, 4]
    assert set(small.asked[3:]) == {2}
    assert store.record().counts.complete
    assert store.record().provenance["out_of_memory"] == [{"tried": 16, "then": 8}, {"tried": 8, "then": 4}, {"tried": 4, "then": 2}]
    assert results(tmp_path / "run") == results(stubs.run_and_score(tmp_path / "other", batch_size=16).path)


def test_what_does_not_fit_alone_is_a_failed_sample(stubs, tmp_path):
    with pytest.raises(TooManyFailures, match="out of memory"):
        stubs.run_and_score(tmp_path / "run", model=Small(stubs.Painter(), room=0))


def test_an_automatic_batch_size_is_probed_once_on_the_longest_item_and_kept(stubs, tmp_path, monkeypatch):
    from jfeval import asking

    probed = []

    def measure(call):
        call()
        probed.append(1)
        return 1000, 5000

    monkeypatch.setattr(asking, "measure", measure)
    calls = []
    store = stubs.run_and_score(tmp_path / "run", model=stubs.Painter(calls=calls), batch_size=0, limit=6)
    assert calls[0] == [("picture 12 of 0", 0)]
    assert store.record().batch_size == 4
    assert {len(call) for call in calls[1:]} == {4}
    store = stubs.run_and_score(tmp_path / "run", batch_size=0)
    assert (store.record().batch_size, probed) == (4, [1])


def test_a_worker_with_other_weights_is_refused(stubs, tmp_path):
    from jfeval.asking import Drawer

    drawer = Drawer(tmp_path, stubs.Painter, 0, {})
    with pytest.raises(UserError, match="other weights"):
        drawer.draw(Errand(rows=(), key="", wanted=frozenset(), model="0" * 64))
