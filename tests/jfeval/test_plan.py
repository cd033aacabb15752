from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.plan import changed_keys, digest, evenly_spread, image_jobs, image_seed, make_plan, plan_batches
from jfeval.schema import ImageRequest, Sample, TextRequest


def samples_of(sizes, num_images=4):
    return [
        Sample(id=f"{task}-{i}", task=f"t{task}", request=ImageRequest(prompt=f"{task} {i}", num_images=num_images), reference={})
        for task, size in enumerate(sizes)
        for i in range(size)
    ]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 120))
def test_a_limit_is_shared_equally_and_keeps_the_order(sizes, limit):
    rows = evenly_spread(samples_of(sizes), limit)
    assert len(rows) == min(limit, sum(sizes))
    assert [position for position, _ in rows] == sorted({position for position, _ in rows})
    taken = Counter(sample.task for _, sample in rows)
    short = [taken[f"t{i}"] for i, size in enumerate(sizes) if taken[f"t{i}"] < size]
    assert not short or max(taken.values()) - min(short) <= 1


def test_a_limit_spreads_within_a_task():
    rows = evenly_spread(samples_of([10, 10]), 4)
    assert [position for position, _ in rows] == [0, 5, 10, 15]


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 20))
def test_batches_hold_every_sample_once_in_order_and_fit(sizes, batch_size):
    rows = [
        (i, Sample(id=str(i), task="t", request=ImageRequest(prompt="p", num_images=size), reference={})) for i, size in enumerate(sizes)
    ]
    batches = plan_batches(rows, batch_size)
    assert [row for batch in batches for row in batch.rows] == rows
    assert all(batch.size <= batch_size or len(batch.rows) == 1 for batch in batches)
    assert len({batch.key for batch in batches}) == len(batches)


def test_a_batch_holds_one_kind_of_request():
    question = Sample(id="q", task="t", request=TextRequest(question="?"), reference={})
    picture = samples_of([1])[0]
    assert [batch.size for batch in plan_batches([(0, question), (1, picture), (2, question)], 64)] == [1, 4, 1]


def test_seeds_are_as_recorded_and_depend_on_everything():
    assert image_seed(3, "00012", 2) == 2371772557830605744  # sha256 of "3\0" "00012\0" "2", its first 8 bytes, halved
    seeds = {image_seed(run, sample, index) for run in range(5) for sample in ("a", "b", "a1") for index in range(12)}
    assert len(seeds) == 5 * 3 * 12
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_jobs_say_which_row_and_image_they_are():
    jobs = image_jobs([(7, samples_of([1], num_images=2)[0])], run_seed=1)
    assert [(job.row, job.index, job.prompt) for job in jobs] == [(7, 0, "0 0"), (7, 1, "0 0")]
    assert jobs[0].seed != jobs[1].seed


def test_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_changed_keys_are_named_with_both_values():
    old = {"model": {"recipe": {"w": 2.0, "n": 30}, "weights": "x"}, "seed": 1}
    new = {"model": {"recipe": {"w": 5.0}, "weights": "x"}, "seed": 1, "dtype": "float32"}
    assert changed_keys(old, new) == ["dtype: absent -> float32", "model.recipe.n: 30 -> absent", "model.recipe.w: 2.0 -> 5.0"]
    assert changed_keys(old, old) == []


def test_equal_ids_are_refused(stubs, tmp_path):
    bench = stubs.Bright()
    rows = bench.samples("shapes", seed=0)
    bench.samples = lambda edition, seed, data: [*rows, rows[0]]
    with pytest.raises(UserError, match="same id"):
        make_plan(stubs.settings_for(tmp_path), bench)
