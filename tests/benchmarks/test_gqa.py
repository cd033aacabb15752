import io
from collections import Counter

import pytest
from PIL import Image

from jfeval.benchmarks.gqa import Gqa, prompt
from jfeval.benchmarks.gqa_shapes import gqa_questions
from jfeval.benchmarks.shapes.dataset import names_held_out
from jfeval.benchmarks.shapes.language import CLEAR_RELATION
from jfeval.benchmarks.shapes.scene import COLORS, SHAPES, bucket, relation_holds
from jfeval.benchmarks.understanding.protocols import PROMPTS
from jfeval.errors import UserError
from jfeval.plan import make_plan
from jfeval.runner import run
from jfeval.schema import Judgement, Sample, TextRequest
from jfeval.scoring import score
from jfeval.settings import RunSettings

GQA = Gqa()


def said(sample, text, protocol="llava"):
    return GQA.score(sample, Judgement(sample_id=sample.id, observations=({"text": text},)), protocol=protocol)


def metrics(answers, protocol, samples=None):
    scores = [one for sample in samples or GQA.samples("shapes", seed=0) for one in said(sample, answers(sample), protocol)]
    return {(m.name, m.task): m for m in GQA.aggregate(scores, protocol=protocol)}


def truth(question, scene):
    """Answer a question of this world from its words and the scene alone: a second reading, apart from the code that asks."""
    words = question.rstrip("?").split()

    def named(text):
        found = [t for t in scene.things if t.shape == text[-1] and (len(text) == 1 or t.color == text[0])]
        assert len(found) == 1, question
        return found[0]

    def related(subject, target):
        return [r for r in ("left of", "right of", "above", "below") if relation_holds(subject, r, target, least=CLEAR_RELATION)]

    if question.startswith("What color is the object"):
        target = named(words[words.index("the", 5) + 1 :])
        relation = " ".join(words[5 : words.index("the", 5)])
        (found,) = [t for t in scene.things if t is not target and relation in related(t, target)]
        return found.color
    if words[0] == "What":
        if words[1] == "shape":
            (found,) = [t for t in scene.things if t.color == words[4]]
            return found.shape
        return getattr(named(words[4:]), words[1])
    if words[:2] == ["Is", "there"]:
        parts = " ".join(words[2:-3]).replace(" or ", "|").replace(" and ", "&")
        there = [part.split(" ", 1)[1] for part in parts.replace("|", "&").split("&")]
        held = [any(part in (t.shape, f"{t.color} {t.shape}") for t in scene.things) for part in there]
        return "yes" if (any if "|" in parts else all)(held) else "no"
    if words[0] == "Are":
        return "yes" if named([words[2]]).color == named([words[5]]).color else "no"
    if words[-1] in COLORS and "or" not in words:
        return "yes" if named(words[2:-1]).color == words[-1] else "no"
    if words[-1] in COLORS:
        color = named(words[2 : words.index("or") - 1]).color
        assert color in (words[-1], words[-3])
        return color
    cut = next(i for i, word in enumerate(words) if word in SHAPES) + 1
    end = len(words) - 1 - words[::-1].index("the")
    found = related(named(words[2:cut]), named(words[end + 1 :]))
    asked = " ".join(words[cut:end])
    if " or " in asked:
        (relation,) = [one for one in asked.split(" or ") if one in found]
        return relation
    return "yes" if asked in found else "no"


def test_every_answer_is_true_of_its_test_scene():
    questions = gqa_questions(0)
    assert len(questions) == 400
    for official, scene in questions.values():
        assert bucket(scene) == "test"
        assert truth(official["question"], scene) == official["answer"], official["question"]
        assert not names_held_out(official["question"])


def test_the_shapes_edition_is_balanced_and_has_every_type():
    samples = GQA.samples("shapes", seed=0)
    types = Counter((s.reference["types"]["structural"], s.reference["types"]["semantic"]) for s in samples)
    assert {structural for structural, _ in types} == {"query", "verify", "choose", "logical", "compare"}
    assert {semantic for _, semantic in types} == {"obj", "attr", "cat", "rel"}
    binary = Counter((s.reference["types"]["detailed"], s.reference["answer"]) for s in samples if s.reference["answer"] in ("yes", "no"))
    for detailed in ("exist", "relVerify", "verifyAttr", "twoSame"):
        assert binary[detailed, "yes"] == binary[detailed, "no"] > 0
    open_answers = Counter(s.reference["answer"] for s in samples if s.task == "query")
    assert max(open_answers.values()) / open_answers.total() < 0.15
    assert len({s.cluster for s in samples}) == 100
    assert len({(s.cluster, s.request.question) for s in samples}) == len({s.id for s in samples}) == 400
    assert GQA.samples("shapes", seed=1)[0].request != samples[0].request
    first = samples[0].reference
    assert set(first) == {"imageId", "question", "answer", "isBalanced", "types", "groups", "semantic"}


def test_one_answer_to_everything_stays_near_chance():
    """Whatever single answer a model gives, it cannot be right about more than a third of the questions."""
    samples = GQA.samples("shapes", seed=0)
    assert max(Counter(s.reference["answer"] for s in samples).values()) / len(samples) < 1 / 3


@pytest.mark.parametrize("protocol", GQA.protocols)
def test_right_answers_are_right_under_every_protocol(protocol):
    found = metrics(lambda sample: sample.reference["answer"], protocol)
    assert all(m.value == 1.0 for (name, _), m in found.items() if name in ("accuracy", "by_steps", "by_length"))
    assert (found["accuracy", ""].n, found["accuracy", ""].clusters, found["accuracy", ""].headline) == (400, 100, True)
    assert found["accuracy", "binary"].n + found["accuracy", "open"].n == 400
    for word in ("structural", "semantic"):
        assert sum(m.n for (name, task), m in found.items() if name == "accuracy" and task.startswith(word)) == 400
    for name in ("by_steps", "by_length"):
        assert sum(m.n for (one, _), m in found.items() if one == name) == 400
    assert (("distribution", "") in found) == (protocol in ("llava", "official"))
    assert [key for key, m in found.items() if m.paper] == ([("accuracy", "")] if protocol == "llava" else [])
    assert all(m.ci_low is not None and m.ci_low <= m.value <= m.ci_high for m in found.values())


def test_protocols_differ_on_the_same_answers():
    accuracy = {name: metrics(lambda s: f"{s.reference['answer'].title()}.", name)["accuracy", ""].value for name in GQA.protocols}
    assert accuracy == {"llava": 1.0, "official": 0.0, "vlmevalkit-nov2024": 0.0, "vlmevalkit-head": 0.0, "lmms-eval": 1.0}


def test_chance_is_one_of_the_possible_answers():
    """Two answers to a binary question; to an open one, as many as questions of its group have."""
    samples = GQA.samples("shapes", seed=0)
    found = metrics(lambda sample: sample.reference["answer"], "llava")
    assert found["accuracy", "binary"].chance == 0.5
    open_ones = [s.reference for s in samples if s.task == "query"]
    known = {group: {r["answer"] for r in open_ones if r["groups"]["global"] == group} for group in ("color", "shape", "size")}
    expected = sum(1 / len(known[r["groups"]["global"]]) for r in open_ones) / len(open_ones)
    assert found["accuracy", "open"].chance == pytest.approx(expected)
    assert 0.1 < expected < 0.3
    assert found["accuracy", ""].chance == pytest.approx((expected * len(open_ones) + 0.5 * (400 - len(open_ones))) / 400)
    assert found["distribution", ""].chance is None


def test_a_wrong_distribution_shows():
    found = metrics(lambda sample: "red" if sample.reference["groups"]["global"] == "color" else sample.reference["answer"], "llava")
    assert found["distribution", ""].value > 0.5
    assert found["distribution", ""].ci_low > 0


def test_questions_that_are_not_balanced_are_left_out_officially():
    first, second, *_ = GQA.samples("shapes", seed=0)
    loose = Sample(id="x", task="query", request=first.request, reference={**first.reference, "isBalanced": False}, cluster="x")
    counts = {name: metrics(lambda s: s.reference["answer"], name, [second, loose])["accuracy", ""].n for name in GQA.protocols}
    assert counts == {"llava": 1, "official": 1, "vlmevalkit-nov2024": 2, "vlmevalkit-head": 2, "lmms-eval": 2}


def test_answers_without_types_have_an_accuracy_and_nothing_to_break_it_down_by():
    """VLMEvalKit's table holds question and answer alone."""
    reference = {"imageId": "a", "question": "Is it?", "answer": "no"}
    bare = Sample(id="tsv-1", task="", request=TextRequest(question="?"), reference=reference, cluster="a")
    found = metrics(lambda _: "maybe", "vlmevalkit-head", [bare])
    assert {key for key in found if key[0] == "accuracy"} == {("accuracy", "")}
    assert found["ambiguous", ""].value == 1.0


@pytest.mark.parametrize("name", PROMPTS)
def test_the_image_is_followed_by_a_newline_where_the_protocol_has_one(name):
    asked = prompt(name, "What color is the bench?")
    assert asked.marked.startswith("<image>\nWhat" if name in ("llava", "bare") else "<image>What")
    assert asked.text.endswith("bench?" if name == "bare" else "using a single word or phrase.")


def test_unknown_names_and_broken_references_are_refused():
    sample = GQA.samples("shapes", seed=0)[0]
    with pytest.raises(UserError, match="did you mean 'vlmevalkit-head'"):
        said(sample, "yes", "vlmevalkit-heads")
    with pytest.raises(UserError, match="no scores"):
        GQA.aggregate([], protocol="llava")
    with pytest.raises(UserError, match="sample a, field imageId"):
        said(Sample(id="a", task="", request=TextRequest(question="?"), reference={}), "yes")
    with pytest.raises(UserError, match=r"`jfeval data fetch gqa`.*--data FOLDER.*testdev_balanced_questions\.json"):
        GQA.samples("official", seed=0)


class Parrot:
    """Repeats the question's last word but a question mark."""

    name = "parrot"

    def identity(self):
        return {}

    def answer(self, requests):
        assert all(Image.open(io.BytesIO(image)).size == (64, 64) for request in requests for image in request.images)
        return [request.question.rstrip("?").split()[-1] for request in requests]


def test_one_run_is_scored_under_every_protocol(tmp_path):
    plan = make_plan(RunSettings(benchmark="gqa", model="parrot", limit=50, out=tmp_path / "run", batch_size=16), GQA)
    store = run(plan, GQA, Parrot)
    for name in GQA.protocols:
        (headline,) = [m for m in score(store, GQA, protocol=name) if m.headline]
        assert 0 < headline.value < 1
        assert headline.n == 50
    assert {"semantic", "kind", "group", "gold", "said"} == set(store.scores("official")[0].labels)
