import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.files import is_part, write_atomically
from jfeval.schema import Counts, ImageRequest, Judgement, Metric, Output, RunRecord, Sample, Score
from jfeval.shards import Shard
from jfeval.store import Store

hostile = st.text(max_size=60) | st.sampled_from(
    ["../../etc/passwd", "'; DROP TABLE outputs; --", "=cmd()", "\x00\x1b[2J", "<script>", "\ud7ff\uffff"]
)
numbers = st.floats(0, 1) | st.none()


def make_store(path):
    store = Store(path)
    counts = Counts(available=1, asked=1, finished=0, failed=0)
    names = {"name": "n", "model": "m", "benchmark": "b", "edition": "shapes", "protocol": "p", "seed": 0, "batch_size": 1}
    record = RunRecord(**names, counts=counts, fingerprint="f", judge_fingerprint="j", started_at="2026-01-01T00:00:00+00:00")
    path.mkdir(exist_ok=True)
    store.write_record(record)
    return store


@given(ids=st.lists(hostile, unique=True, max_size=5), text=hostile, error=hostile, reason=hostile, value=st.floats(0, 1))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_text_goes_in_comes_out_and_makes_no_path(tmp_path_factory, ids, text, error, reason, value):
    path = tmp_path_factory.mktemp("store")
    store = make_store(path)
    samples = [Sample(id=i, task=text, request=ImageRequest(prompt=text), reference={"row": [text, None]}, cluster=i) for i in ids]
    outputs = {i: Output(sample_id=i, images=("0" * 64,), text=text, error=error, seconds=0.5) for i in ids}
    judgements = {i: Judgement(sample_id=i, observations=({"seen": text},), error=error) for i in ids}
    scores = [Score(sample_id=i, task=text, cluster=i, index=1, values={"correct": value}, reason=reason) for i in ids]
    store.write_samples(samples)
    with Shard(path) as shard:
        shard.add_outputs("f", "batch", outputs.values())
        shard.add_judgements("j", [(judgement, 0.1) for judgement in judgements.values()])
    store.write_results("p", scores, [])
    assert store.samples() == samples
    assert (store.outputs(), store.judgements(), store.scores()) == (outputs, judgements, scores)
    assert {p.name for p in path.iterdir()} == {"run.json", "samples.jsonl", "shards", "results"}


@given(value=st.floats(0, 1), low=numbers, high=numbers, n=st.integers(0, 10**6), headline=st.booleans(), task=hostile)
@settings(max_examples=40, deadline=None)
def test_metrics_come_back_exactly(tmp_path_factory, value, low, high, n, headline, task):
    store = make_store(tmp_path_factory.mktemp("store"))
    metric = Metric(name="task", protocol="p", value=value, n=n, clusters=n, ci_low=low, ci_high=high, headline=headline, task=task)
    store.write_results("p", [], [metric])
    assert store.metrics() == [metric]


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        make_store(tmp_path / "a").write_results("p", [], [Metric(name="x", protocol="p", value=math.nan, n=1, clusters=1)])


def test_scores_keep_only_the_values_they_have(tmp_path):
    store = make_store(tmp_path / "a")
    scores = [
        Score(sample_id="a", task="t", cluster="a", values={"x": 1.0}),
        Score(sample_id="b", task="t", cluster="b", values={"y": 0.0, "x": 0.5}),
    ]
    store.write_results("p", scores, [])
    assert store.scores() == scores


@pytest.mark.parametrize("sha", ["../../secret", "A" * 64, "0" * 63, "", "0" * 63 + "/"])
def test_only_a_hash_becomes_a_path(tmp_path, sha):
    with pytest.raises(ValueError, match="not a sha256"):
        make_store(tmp_path / "a").image_path(sha)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "a b"])
def test_only_a_plain_word_names_a_results_folder(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a folder"):
        make_store(tmp_path / "a").write_results(name, [], [])


def test_the_same_image_is_stored_once(tmp_path):
    store = make_store(tmp_path / "a")
    shas = {store.add_image(b"\x89PNG same"), store.add_image(b"\x89PNG same"), store.add_image(b"\xff\xd8\xff other")}
    assert sorted(path.suffix for path in (tmp_path / "a" / "images").glob("*/*")) == [".jpg", ".png"]
    assert {store.read_image(sha) for sha in shas} == {b"\x89PNG same", b"\xff\xd8\xff other"}


def test_shards_of_several_workers_are_merged(tmp_path):
    store = make_store(tmp_path / "a")
    for worker, ids in (("w0", ["a", "b"]), ("w1", ["b", "c"])):
        with Shard(tmp_path / "a", worker) as shard:
            shard.add_outputs("f", "k", [Output(sample_id=i, text=worker) for i in ids])
            shard.add_outputs("other fingerprint", "k", [Output(sample_id="z")])
    assert {i: output.text for i, output in store.outputs().items()} == {"a": "w0", "b": "w0", "c": "w1"}


@pytest.mark.parametrize("shards", [("local", "share-1-of-2"), ("share-1-of-2", "local")])
def test_what_did_not_fail_counts_in_whichever_shard_it_lies(tmp_path, shards):
    store = make_store(tmp_path / "a")
    for worker, error in zip(shards, ("it broke", ""), strict=True):
        with Shard(tmp_path / "a", worker) as shard:
            shard.add_outputs("f", worker, [Output(sample_id="a", text=worker, error=error), Output(sample_id="b", error=worker)])
            seen = [Judgement(sample_id="a", error=error), Judgement(sample_id="b", error=worker)]
            shard.add_judgements("j", [(judgement, 0.1) for judgement in seen])
    drawn = shards[1]
    assert store.outputs() == {"a": Output(sample_id="a", text=drawn), "b": Output(sample_id="b", error="local")}
    assert store.output_facts() == {"a": ("", 0), "b": ("local", 0)}
    assert store.finished() == {"a": (drawn, False), "b": ("local", True)}
    assert store.judgement_errors() == {"a": "", "b": "local"}
    assert store.judgements() == {"a": Judgement(sample_id="a"), "b": Judgement(sample_id="b", error="local")}
    with store.judgement_reader() as read:
        assert {name: read(name) for name in ("a", "b")} == store.judgements()
        with pytest.raises(KeyError):
            read("c")


def test_a_transaction_that_fails_stores_nothing_of_it(tmp_path):
    store = make_store(tmp_path / "a")
    with Shard(tmp_path / "a") as shard, pytest.raises(Exception, match="NOT NULL"):
        shard.add_outputs("f", "k", [Output(sample_id="a"), Output(sample_id=None)])
    assert store.outputs() == {}


def test_a_record_of_a_damaged_or_missing_run_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        Store.open(tmp_path)
    make_store(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"name": ')
    with pytest.raises(UserError, match="Start anew with --overwrite"):
        Store.open(tmp_path / "a")
    (tmp_path / "a" / "run.json").write_text('{"name": "x"}')
    with pytest.raises(UserError, match="another version"):
        Store.open(tmp_path / "a")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_unfinished_files_are_recognised():
    assert is_part(".run.json-a1b2c3_9.part")
    assert not is_part("notes.part")
    assert not is_part(".bashrc")
