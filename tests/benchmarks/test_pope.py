import io
import itertools
from collections import Counter

import pytest
from PIL import Image

from jfeval.benchmarks.pope import Pope, prompt
from jfeval.benchmarks.pope_rows import SPLITS
from jfeval.benchmarks.pope_shapes import _world
from jfeval.benchmarks.shapes.oracle import OracleDetector
from jfeval.benchmarks.understanding.base import Settings
from jfeval.benchmarks.understanding.protocols import PROMPTS
from jfeval.errors import UserError
from jfeval.plan import evenly_spread, make_plan
from jfeval.runner import run
from jfeval.schema import Judgement, Sample, TextRequest
from jfeval.scoring import score
from jfeval.settings import RunSettings

POPE = Pope()


def said(sample, text, protocol="llava"):
    return POPE.score(sample, Judgement(sample_id=sample.id, observations=({"text": text},)), protocol=protocol)


def metrics(answers, protocol):
    """Aggregate answers by sample; each is a function of the sample."""
    scores = [one for sample in POPE.samples("shapes", seed=0) for one in said(sample, answers(sample), protocol)]
    return {(m.name, m.task): m for m in POPE.aggregate(scores, protocol=protocol)}


def test_the_shapes_edition_has_900_rows_about_75_images():
    samples = POPE.samples("shapes", seed=0)
    rows = Counter((split, sample.reference["label"]) for sample in samples for split in sample.reference["splits"])
    assert rows == {(split, label): 150 for split in SPLITS for label in ("yes", "no")}
    assert len({sample.cluster for sample in samples}) == 75
    assert len({(sample.cluster, sample.request.question) for sample in samples}) == len(samples) == len({s.id for s in samples})
    assert [s.id for s in POPE.samples("shapes", seed=0)] == [s.id for s in samples]
    assert POPE.samples("shapes", seed=1)[0].request != samples[0].request
    assert POPE.data_identity("shapes", seed=0)["distinct"] == len(samples)


def test_every_label_is_what_the_picture_shows():
    """The oracle detector looks at the pictures and knows nothing of the questions."""
    samples, oracle = POPE.samples("shapes", seed=0), OracleDetector()
    there = {}
    for sample in samples:
        if sample.cluster not in there:
            image = Image.open(io.BytesIO(sample.request.images[0])).convert("RGB")
            (found,) = oracle.observe(sample, [image])
            there[sample.cluster] = {f"{color} {shape}" for shape, colors in found["colors"].items() for color in colors}
        asked = " ".join(sample.request.question.split()[3:5])
        assert (asked in there[sample.cluster]) == (sample.reference["label"] == "yes"), sample.request.question


def test_popular_objects_are_frequent_and_adversarial_ones_come_along():
    alone, together = _world()
    frequency, company = {split: [] for split in SPLITS}, {split: [] for split in SPLITS}
    samples = POPE.samples("shapes", seed=0)
    there = {}
    for sample in samples:
        if sample.task == "yes":
            there.setdefault(sample.cluster, []).append(tuple(sample.request.question.split()[3:5]))
    for sample in samples:
        asked = tuple(sample.request.question.split()[3:5])
        for split in sample.reference["splits"] if sample.task == "no" else ():
            frequency[split].append(alone[asked])
            company[split].append(sum(together[asked, other] for other in there[sample.cluster]))
    mean = {split: sum(values) / len(values) for split, values in frequency.items()}
    assert mean["popular"] > mean["random"] * 1.05
    mean = {split: sum(values) / len(values) for split, values in company.items()}
    assert mean["adversarial"] > 1.5 * mean["random"]


def test_questions_about_one_picture_stand_together():
    clusters = [sample.cluster for sample in POPE.samples("shapes", seed=0)]
    assert sum(a != b for a, b in itertools.pairwise(clusters)) == 74


def test_a_limited_run_asks_for_both_answers_and_every_split():
    chosen = [sample for _, sample in evenly_spread(POPE.samples("shapes", seed=0), 60)]
    assert Counter(sample.task for sample in chosen) == {"yes": 30, "no": 30}
    assert {split for sample in chosen if sample.task == "no" for split in sample.reference["splits"]} == set(SPLITS)


@pytest.mark.parametrize("protocol", POPE.protocols)
def test_right_answers_are_right_under_every_protocol(protocol):
    found = metrics(lambda sample: sample.reference["label"], protocol)
    for split in SPLITS:
        assert found["f1", split].value == found["accuracy", split].value == found["recall", split].value == 1.0
        assert (found["yes_ratio", split].value, found["accuracy", split].n, found["f1", split].clusters) == (0.5, 300, 75)
    assert [m.name for m in found.values() if m.headline] == ["mean_f1" if protocol in ("llava", "official") else "pooled_f1"]
    assert all(m.ci_low is not None and m.ci_low <= m.value <= m.ci_high for m in found.values())
    assert [key for key, m in found.items() if m.paper] == ([("f1", "random")] if protocol == "vlmevalkit-nov2024" else [])


def test_always_yes_has_an_f1_of_two_thirds_and_a_yes_ratio_of_one():
    found = metrics(lambda _: "Yes", "llava")
    assert (found["mean_f1", ""].value, found["pooled_yes_ratio", ""].value) == (pytest.approx(2 / 3), 1.0)


def test_chance_is_what_a_fair_coin_is_expected_to_score():
    found = metrics(lambda sample: sample.reference["label"], "llava")
    assert {found[name, "random"].chance for name in ("accuracy", "precision", "recall", "f1", "yes_ratio")} == {0.5}
    assert (found["mean_f1", ""].chance, found["empty", ""].chance) == (0.5, None)
    only_yes = [one for s in POPE.samples("shapes", seed=0) if s.task == "yes" for one in said(s, "no")]
    lopsided = {(m.name, m.task): m for m in POPE.aggregate(only_yes, protocol="llava")}
    assert (lopsided["precision", "random"].chance, lopsided["f1", "random"].chance) == (1.0, pytest.approx(2 / 3))


def test_protocols_differ_on_the_same_answers():
    found = {name: metrics(lambda sample: "Yes." if sample.task == "yes" else "", name) for name in POPE.protocols}
    accuracy = {name: one["accuracy", "random"].value for name, one in found.items()}
    assert accuracy == {"llava": 0.5, "official": 0.5, "vlmevalkit-nov2024": 0.5, "vlmevalkit-head": 0.5, "lmms-eval": 0.0}
    assert found["llava"]["yes_ratio", "random"].value == 1.0
    assert found["vlmevalkit-head"]["precision", "random"].value == 1.0
    empty = found["llava"]["empty", ""]
    assert empty.n == len(POPE.samples("shapes", seed=0))
    assert f"{round(empty.value * empty.n)} of {empty.n} answers" in empty.detail
    assert empty.value == pytest.approx(sum(s.task == "no" for s in POPE.samples("shapes", seed=0)) / empty.n)


def test_a_question_counts_in_every_split_that_holds_it():
    sample = next(s for s in POPE.samples("shapes", seed=0) if s.task == "yes")
    scores = said(sample, "Sorry, I can't help with images of people yet.")
    assert [(one.task, one.index) for one in scores] == [("random", 0), ("popular", 1), ("adversarial", 2)]
    assert {one.cluster for one in scores} == {sample.cluster}
    assert scores[0].values == {"correct": 1.0, "empty": 0.0, "refused": 1.0, "ambiguous": 0.0}
    wrong = said(sample, "no \x1b[31m" + "x" * 500)[0]
    assert wrong.values["correct"] == 0.0
    assert "the answer is yes, read as no" in wrong.reason
    assert len(wrong.reason) < 300
    assert "\x1b" not in wrong.reason


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_end_as_their_protocol_says(name):
    asked = prompt(name, "Is there a bench in the image?")
    endings = {"bare": "image?", "vlmevalkit": "Please answer yes or no."}
    assert asked.marked.endswith(endings.get(name, "using a single word or phrase."))
    assert asked.marked.startswith("<image>Is" if name in ("vlmevalkit", "lmms-eval") else "<image>\nIs")


def test_unknown_names_and_broken_references_are_refused():
    with pytest.raises(UserError, match="did you mean 'lmms-eval'"):
        said(POPE.samples("shapes", seed=0)[0], "yes", "lmms_eval")
    with pytest.raises(UserError, match="did you mean 'paper'"):
        Settings(prompt="papers")
    with pytest.raises(UserError, match="leave out --data"):
        POPE.samples("shapes", seed=0, data="somewhere")
    with pytest.raises(UserError, match="no scores"):
        POPE.aggregate([], protocol="llava")
    broken = Sample(id="a", task="yes", request=TextRequest(question="?"), reference={"label": "yes", "splits": ["other"]})
    with pytest.raises(UserError, match="not a POPE row"):
        said(broken, "yes")


class Contrarian:
    """Says yes to what it is asked first and no to the rest."""

    name = "contrarian"

    def identity(self):
        return {}

    def answer(self, requests):
        assert all(Image.open(io.BytesIO(image)).size == (64, 64) for request in requests for image in request.images)
        return [" Yes." if "red" in request.question else "No" for request in requests]


def test_one_run_is_scored_under_every_protocol(tmp_path):
    settings = RunSettings(benchmark="pope", model="contrarian", limit=60, out=tmp_path / "run", batch_size=16)
    plan = make_plan(settings, POPE)
    store = run(plan, POPE, Contrarian)
    values = {name: {(m.name, m.task): m.value for m in score(store, POPE, protocol=name)} for name in POPE.protocols}
    assert store.protocols() == sorted(POPE.protocols)
    assert (
        values["llava"]["accuracy", "random"] == values["vlmevalkit-head"]["accuracy", "random"] > values["lmms-eval"]["accuracy", "random"]
    )
    assert store.scores("llava")[0].labels["label"] in ("yes", "no")
    assert store.record().data_identity["prompt"] == "bare"
    assert [list(sample.request.images) for sample in store.samples()] == [list(sample.request.images) for _, sample in plan.rows]
