import json

import pytest

from jfeval.benchmarks.base import Benchmark
from jfeval.benchmarks.geneval import NUM_IMAGES, GenEval, GenEvalHeldOut
from jfeval.benchmarks.geneval_rows import TAGS
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judgement, Score
from jfeval.stats import clustered_mean, mean_of


def metadata(name, prompt="a photo"):
    return {"tag": "single_object", "include": [{"class": name, "count": 1}], "prompt": prompt}


@pytest.fixture
def official(tmp_path):
    """A folder in the published form, with one prompt twice."""
    rows = [metadata("cat"), metadata("dog"), metadata("cat")]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    (tmp_path / "object_names.txt").write_text("cat\ndog\n")
    return tmp_path


def test_both_are_registered_benchmarks():
    for name, kind in [("geneval", GenEval), ("geneval-heldout", GenEvalHeldOut)]:
        found: Benchmark = load_benchmark(name)
        assert type(found) is kind
        assert found.name == name


def test_official_samples_are_the_rows(official):
    samples = GenEval().samples("official", seed=0, data=official)
    assert [sample.id for sample in samples] == ["00000", "00001", "00002"]
    assert samples[1].request.prompt == "a photo"
    assert samples[1].request.num_images == NUM_IMAGES == 4
    assert samples[1].reference == metadata("dog")
    assert samples[0].cluster == samples[2].cluster != samples[1].cluster


def test_official_samples_do_not_depend_on_the_seed(official):
    benchmark = GenEval()
    assert benchmark.samples("official", seed=0, data=official) == benchmark.samples("official", seed=7, data=official)
    identity = benchmark.data_identity("official", seed=7, data=official)
    assert identity["published"] is False
    assert identity["rows"] == 3
    before = identity["sha256"]
    (official / "object_names.txt").write_text("cat\ndog\ncow\n")
    assert benchmark.data_identity("official", seed=7, data=official)["sha256"] != before


def test_official_needs_a_folder_and_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"needs --data FOLDER.*--edition shapes"):
        GenEval().samples("official", seed=0)
    with pytest.raises(UserError, match=r"743b7d99\.pth.*jfeval data fetch geneval-detector.*--edition shapes"):
        GenEval().judge("official")


def test_shapes_rows_come_in_the_official_form():
    samples = GenEval().samples("shapes", seed=3)
    per_task = {tag: sum(sample.task == tag for sample in samples) for tag in TAGS}
    assert min(per_task.values()) >= 60
    assert sum(per_task.values()) == len(samples) == len({sample.id for sample in samples})


def test_shapes_rows_follow_the_seed_and_take_no_data(tmp_path):
    benchmark = GenEval()
    assert benchmark.samples("shapes", seed=3) != benchmark.samples("shapes", seed=4)
    assert benchmark.data_identity("shapes", seed=3) != benchmark.data_identity("shapes", seed=4)
    with pytest.raises(UserError, match="reads no data"):
        benchmark.samples("shapes", seed=1, data=tmp_path)


def test_held_out_rows_are_a_benchmark_of_their_own():
    benchmark = GenEvalHeldOut()
    samples = benchmark.samples("shapes", seed=3)
    assert {sample.task for sample in samples} == set(benchmark.tasks)
    assert not {sample.request.prompt for sample in samples} & {sample.request.prompt for sample in GenEval().samples("shapes", seed=3)}
    with pytest.raises(UserError, match="unknown edition of geneval-heldout 'official'"):
        benchmark.samples("official", seed=3)


def test_true_renders_are_right_and_exact():
    from jfeval.benchmarks.shapes.render import render
    from jfeval.benchmarks.shapes.rows import geneval_rows

    benchmark = GenEval()
    judge = benchmark.judge("shapes")
    samples = benchmark.samples("shapes", seed=3)
    rows = geneval_rows(3, len(samples) // len(TAGS))
    right = []
    for sample, row in list(zip(samples, rows, strict=True))[::30]:
        seen = judge.observe(sample, [render(row.scene)])
        right += benchmark.score(sample, Judgement(sample_id=sample.id, observations=seen), protocol="official")
    assert len(right) == 12
    assert all(score.values == {"correct": 1.0, "exact_scene": 1.0} for score in right)


def test_a_score_is_one_per_image_with_its_reason(official):
    benchmark = GenEval()
    sample = benchmark.samples("official", seed=0, data=official)[0]
    cat, dog = [0, 0, 9, 9, 0.9], [20, 0, 29, 9, 0.8]
    observations = ({"detections": {"cat": [cat]}, "colors": {}}, {"detections": {"cat": [cat], "dog": [dog]}}, {"detections": {}})
    scores = benchmark.score(sample, Judgement(sample_id=sample.id, observations=observations), protocol="official")
    assert [(s.index, s.values["correct"], s.values["exact_scene"], s.reason) for s in scores] == [
        (0, 1.0, 1.0, ""),
        (1, 1.0, 0.0, ""),
        (2, 0.0, 0.0, "expected cat>=1, found 0"),
    ]
    assert {(s.sample_id, s.task, s.cluster) for s in scores} == {(sample.id, "single_object", sample.cluster)}
    with pytest.raises(UserError, match="unknown protocol of geneval 'offical'; did you mean 'official'"):
        benchmark.score(sample, Judgement(sample_id=sample.id), protocol="offical")
    with pytest.raises(UserError, match="sample 00000, image 0"):
        benchmark.score(sample, Judgement(sample_id=sample.id, observations=({"boxes": []},)), protocol="official")


def scored(task, cluster, rights, exacts):
    return [
        Score(sample_id=cluster, task=task, cluster=cluster, index=i, values={"correct": right, "exact_scene": exact})
        for i, (right, exact) in enumerate(zip(rights, exacts, strict=True))
    ]


def test_metrics_by_hand():
    scores = [
        *scored("counting", "a", [1.0, 0.0], [1.0, 0.0]),
        *scored("counting", "b", [0.0, 0.0], [0.0, 0.0]),
        *scored("colors", "c", [1.0, 1.0], [1.0, 0.0]),
        *scored("colors", "d", [1.0, 0.0], [0.0, 0.0]),
        *scored("colors", "e", [0.0, 0.0], [0.0, 0.0]),
    ]
    metrics = GenEval().aggregate(scores, protocol="official")
    found = {(metric.name, metric.task): metric for metric in metrics}
    assert [(m.name, m.task) for m in metrics] == [
        ("overall", ""),
        ("task", "counting"),
        ("task", "colors"),
        ("image_mean", ""),
        ("prompt_any", ""),
        ("exact_scene", ""),
        ("exact_scene", "counting"),
        ("exact_scene", "colors"),
    ]
    assert found["task", "counting"].value == pytest.approx(1 / 4)
    assert found["task", "colors"].value == pytest.approx(3 / 6)
    assert found["overall", ""].value == pytest.approx((1 / 4 + 3 / 6) / 2)
    assert found["image_mean", ""].value == pytest.approx(4 / 10)
    assert found["prompt_any", ""].value == pytest.approx(3 / 5)
    assert found["exact_scene", ""].value == pytest.approx((1 / 4 + 1 / 6) / 2)
    assert [m.name for m in metrics if m.headline] == ["overall"]
    assert "Without single_object, two_object, position, color_attr" in found["overall", ""].detail
    assert (found["prompt_any", ""].n, found["overall", ""].n, found["overall", ""].clusters) == (5, 10, 5)


def test_intervals_are_over_prompts_not_images():
    alike = [score for k in range(10) for score in scored("colors", f"p{k}", [float(k < 5)] * 4, [0.0] * 4)]
    mixed = [score for k in range(10) for score in scored("colors", f"p{k}", [1.0, 0.0, 1.0, 0.0], [0.0] * 4)]
    by_task = {}
    for name, scores in [("alike", alike), ("mixed", mixed)]:
        by_task[name] = next(m for m in GenEval().aggregate(scores, protocol="official") if m.name == "task")
    assert by_task["alike"].value == by_task["mixed"].value == 0.5
    assert by_task["alike"].ci_high - by_task["alike"].ci_low > 0.6
    expected = clustered_mean([score.values["correct"] for score in alike], [score.cluster for score in alike])
    assert (by_task["alike"].se, by_task["alike"].ci_low) == (expected.se, expected.ci_low)
    overall = next(m for m in GenEval().aggregate(alike, protocol="official") if m.headline)
    assert overall.se == mean_of([expected]).se


def test_nothing_scored_is_an_error():
    with pytest.raises(UserError, match="no judged images"):
        GenEval().aggregate([], protocol="official")
