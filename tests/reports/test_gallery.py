from dataclasses import replace

import pytest

from jfeval.reports import gallery as module
from jfeval.reports.gallery import build_gallery
from jfeval.reports.gallery_sample import MAX_QUESTIONS, result_json, sample_json, verdict_json
from jfeval.schema import ImageRequest, Judgement, Output, Sample, Score
from jfeval.shards import Shard

QUESTIONS = [
    {"id": 1, "question": "Is there a ring?", "category": "entity", "parents": []},
    {"id": 2, "question": "Is the ring red?", "category": "attribute", "parents": [1]},
]


def place(key):
    return {"src": -1}


def drawing(reference):
    return Sample(id="a", task="t", request=ImageRequest(prompt="a red ring"), reference=reference, cluster="a")


def test_runs_that_were_asked_the_same_share_it(make_store):
    stores = [make_store(prompts=2), make_store(prompts=2, model="other"), make_store(prompts=2, seed=1)]
    found = build_gallery(stores).data
    assert [run["set"] for run in found["runs"]] == [0, 0, 1]
    assert [len(one["samples"]) for one in found["sets"]] == [12, 12]
    assert all(len(run["results"]) == 12 for run in found["runs"])


def test_a_run_with_fewer_samples_leaves_gaps(make_store):
    whole, part = make_store(prompts=2), make_store(prompts=2, model="other")
    part.write_samples(part.samples()[3:])
    found = build_gallery([whole, part]).data
    assert [run["set"] for run in found["runs"]] == [0, 0]
    assert [result is None for result in found["runs"][1]["results"]] == [True] * 3 + [False] * 9


def test_other_words_under_the_same_id_are_not_mixed(make_store):
    one, two = make_store(prompts=1), make_store(prompts=1, model="other")
    first, *rest = two.samples()
    two.write_samples([replace(first, request=ImageRequest(prompt="another prompt")), *rest])
    assert [run["set"] for run in build_gallery([one, two]).data["runs"]] == [0, 1]


@pytest.mark.parametrize("limit", ["MOST_RESULTS", "MOST_PICTURES"])
def test_what_is_too_much_for_a_page_is_thinned_evenly_and_said(make_store, monkeypatch, limit):
    stores = [make_store(prompts=10), make_store(prompts=10, model="other")]
    monkeypatch.setattr(module, limit, 60 if limit == "MOST_RESULTS" else 240)
    found = build_gallery(stores)
    assert (found.samples, found.stored) == (30, 60)
    tasks = [sample["task"] for sample in found.data["sets"][0]["samples"]]
    assert [tasks.count(task) for task in range(6)] == [5] * 6
    assert len(found.data["images"]) == len({i["src"] for run in found.data["runs"] for r in run["results"] for i in r["images"]})


def test_full_pictures_are_linked_where_the_page_lies_beside_them(make_store, tmp_path):
    store = make_store(prompts=1)
    run = build_gallery([store], beside=tmp_path).data["runs"][0]
    file = run["results"][0]["images"][0]["file"]
    assert (tmp_path / run["files"] / file).read_bytes().startswith(b"\x89PNG")
    aside = build_gallery([store], beside=tmp_path / "reports").data["runs"][0]
    assert aside["files"] == f"../{run['files']}"
    far = build_gallery([store], beside=tmp_path / "a" / "b" / "c").data["runs"][0]
    assert far["files"] == ""
    assert "file" not in far["results"][0]["images"][0]
    assert build_gallery([store]).data["runs"][0]["files"] == ""


def test_questions_stand_with_each_pictures_answers():
    sample = drawing({"questions": QUESTIONS})
    asked = sample_json(sample, 0, (), place)
    assert asked["questions"] == [[1, "Is there a ring?", "entity", []], [2, "Is the ring red?", "attribute", [1]]]
    judged = Judgement(sample_id="a", observations=({"answers": ["Yes", "no"]}, {"answers": ["yes", "perhaps"]}, {"answers": ["yes"]}))
    drawn = result_json(sample, Output(sample_id="a", images=("x", "y", "z")), judged, (), "score", place)
    assert [image.get("answers") for image in drawn["images"]] == [[1, 0], [1, "perhaps"], None]


@pytest.mark.parametrize("questions", [None, "text", [1], [{"id": "1", "question": "q"}], [{"id": 1, "question": 2}]])
def test_questions_of_another_form_are_left_out(questions):
    assert "questions" not in sample_json(drawing({"questions": questions}), 0, (), place)


def test_a_tree_without_end_is_cut():
    rows = [{"id": i, "question": "?" * 5000, "parents": [i - 1, "x"]} for i in range(5 * MAX_QUESTIONS)]
    asked = sample_json(drawing({"questions": rows}), 0, (), place)["questions"]
    assert len(asked) == MAX_QUESTIONS
    assert max(len(text) for _, text, _, _ in asked) <= 300


@pytest.mark.parametrize(
    ("values", "shown"), [({"score": 0.25, "asked: x": 3.0}, 0.25), ({"dropped": 1.0}, None), ({"score": float("nan")}, None)]
)
def test_a_verdict_is_the_score_that_says_so(values, shown):
    score = Score(sample_id="a", task="t", cluster="a", values=values)
    assert verdict_json(score, "score")["value"] == shown
    assert verdict_json(None, "score") is None


def test_a_judges_error_is_shown(make_store):
    store = make_store(prompts=1)
    sample = store.samples()[0]
    with Shard(store.path) as shard:
        shard.add_judgements(store.record().judge_fingerprint, [(Judgement(sample_id=sample.id, error="no eyes"), 0.0)])
    assert build_gallery([store]).data["runs"][0]["results"][0]["error"] == "no eyes"
