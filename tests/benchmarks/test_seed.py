"""SEED-Bench: letters and likelihoods by hand, published forms, bad data, and the shapes edition."""

import base64
import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jfeval.benchmarks.seed import Seed, SeedLikelihood
from jfeval.benchmarks.seed_rows import CHOICES, FIELDS, parse_row
from jfeval.benchmarks.seed_rules import IMAGE_DIMENSIONS, LETTER_SCORERS, LETTERS, DimensionVerdict, dimension_table, rank, read_letter
from jfeval.benchmarks.understanding.base import Settings
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judgement

CHOICES_SHOWN = {"A": "One", "B": "Two", "C": "Three", "D": "Four"}


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(buffer, format="PNG")
    return buffer.getvalue()


def question(identity="11", data_id="red", **changes):
    return {
        "answer": "C",
        "choice_a": "One",
        "choice_b": "Two",
        "choice_c": "Three",
        "choice_d": "Four",
        "data_id": data_id,
        "data_type": "image",
        "question": "How many?",
        "question_id": identity,
        "question_type_id": 5,
        **changes,
    }


VIDEO = question("v9", "clip.mp4", data_type="video", question_type_id=11, segment=[1.0, 2.5])
GOOD = [question(), question("12", question_type_id=4, answer="A"), VIDEO, question("13", "blue", question_type_id=1, answer="B")]


def write_json(folder, rows=GOOD, images=("red", "blue.jpg")):
    (folder / "SEED-Bench-image").mkdir(parents=True)
    for name in images:
        (folder / "SEED-Bench-image" / name).write_bytes(png(name.split(".")[0]))
    (folder / "SEED-Bench.json").write_text(json.dumps({"questions": rows, "question_type": {}}), encoding="utf-8")
    return folder


def answer(sample, text):
    return Judgement(sample_id=sample.id, observations=({"text": text},))


def scored(benchmark, samples, texts, protocol):
    return [
        s for sample, text in zip(samples, texts, strict=True) for s in benchmark.score(sample, answer(sample, text), protocol=protocol)
    ]


# letters


@pytest.mark.parametrize(
    ("text", "november", "head", "lmms", "llava"),
    [
        ("B", "B", "B", "B", "B"),
        (" B\n", "B", "B", "B", "B"),
        ("b", "", "", "B", ""),
        ("B.", "B", "B", "B", ""),
        ("(B)", "B", "B", "(", ""),
        ("The answer is A", "A", "A", "T", ""),
        ("Because", "", "", "B", ""),
        ("Two", "B", "B", "T", ""),
        ("", "", "", "", ""),
        ("I can't process this file.", "Z", "Z", "I", ""),
    ],
)
def test_letters_worked_by_hand(text, november, head, lmms, llava):
    found = tuple(read_letter(text, CHOICES_SHOWN, scorer).letter for scorer in LETTER_SCORERS)
    assert found == (november, head, lmms, llava)


@given(st.text(max_size=30), st.sampled_from(LETTER_SCORERS))
def test_any_answer_can_be_read(text, scorer):
    assert len(read_letter(text, CHOICES_SHOWN, scorer).letter) <= 3  # one character, which may have several in upper case


def test_an_unknown_scorer_is_named():
    with pytest.raises(UserError, match="unknown letter scorer of seed"):
        read_letter("A", CHOICES_SHOWN, "official")


# likelihood


def test_the_smallest_loss_wins_and_of_equals_the_first():
    assert rank([2.0, 1.5, 1.6, 9.0]) == "B"
    assert rank([1.0, 1.0, 0.5, 0.5]) == "C"


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, float("nan")], [1.0, 2.0, 3.0, float("inf")], []])
def test_losses_that_are_no_losses_are_refused(losses):
    with pytest.raises(ValueError, match="4 finite losses"):
        rank(losses)


@given(st.lists(st.floats(0, 100), min_size=4, max_size=4, unique=True), st.integers(0, 3))
def test_ranking_moves_with_the_options(losses, shift):
    turned = losses[-shift:] + losses[:-shift] if shift else losses
    assert LETTERS.index(rank(turned)) == (LETTERS.index(rank(losses)) + shift) % 4


def test_a_stored_answer_that_is_no_list_of_losses_is_refused(tmp_path):
    benchmark = SeedLikelihood()
    sample = benchmark.samples("official", seed=0, data=write_json(tmp_path))[0]
    assert sample.request.options == ("One", "Two", "Three", "Four")
    assert sample.request.question == "Question: How many?\nAnswer:"
    (right,) = benchmark.score(sample, answer(sample, "[3.0, 2.0, 0.5, 1.0]"), protocol="official")
    assert right.values["correct"] == 1
    for text in ("C", "[1, 2, 3]", "[1, 2, 3, null]", "{}", "[1, 2, 3, NaN]", "3"):
        with pytest.raises(UserError, match="sample 11: expected 4 losses"):
            benchmark.score(sample, answer(sample, text), protocol="official")


def test_letters_and_likelihoods_are_different_benchmarks():
    assert load_benchmark("seed").protocols == LETTER_SCORERS
    assert load_benchmark("seed-likelihood").protocols == ("official",)
    one, other = (load_benchmark(name).data_identity("shapes", seed=0) for name in ("seed", "seed-likelihood"))
    assert one["sha256"] == other["sha256"]
    assert one["name"] != other["name"]


# tables


def test_tables_worked_by_hand():
    rows = [("Visual Reasoning", True), ("Visual Reasoning", False), ("Scene Understanding", True), ("Instance Location", False)]
    table = dimension_table([DimensionVerdict(dimension=name, hit=hit, cluster=str(i)) for i, (name, hit) in enumerate(rows)])
    assert table.overall.value == 0.5
    assert [(name, found.value) for name, found in table.dimensions.items()] == [
        ("Scene Understanding", 1.0),
        ("Instance Location", 0.0),  # LLaVA's and the official summary stop here with a KeyError
        ("Visual Reasoning", 0.5),
    ]


def test_accuracy_is_the_headline_and_only_one_number_compares_with_the_paper(tmp_path):
    benchmark = Seed()
    samples = benchmark.samples("official", seed=0, data=write_json(tmp_path))
    assert [(sample.id, sample.task) for sample in samples] == [
        ("11", "Instances Counting"),
        ("12", "Instance Location"),
        ("13", "Scene Understanding"),
    ]
    assert samples[0].cluster == samples[1].cluster != samples[2].cluster
    for protocol in benchmark.protocols:
        metrics = benchmark.aggregate(scored(benchmark, samples, ["C", "B", "B"], protocol), protocol=protocol)
        values = {(metric.name, metric.task): metric.value for metric in metrics}
        assert values["accuracy", ""] == pytest.approx(2 / 3)
        assert values["task", "Instance Location"] == 0
        assert values["dimension_mean", ""] == pytest.approx(2 / 3)
        chances = {metric.chance for metric in metrics if metric.name in ("accuracy", "task", "dimension_mean")}
        assert chances == {0.25}
        assert [metric.name for metric in metrics if metric.headline] == ["accuracy"]
        assert [metric.name for metric in metrics if metric.paper] == (["accuracy"] if protocol == "vlmevalkit-nov2024" else [])
        mean = next(metric for metric in metrics if metric.name == "dimension_mean")
        assert "Without Instance Identity" in mean.detail


# published forms


def test_every_published_form_gives_the_same_questions(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    official = Seed(Settings(prompt="llava")).samples("official", seed=0, data=write_json(tmp_path / "json"))
    images = {"red": png("red"), "blue": png("blue"), "clip.mp4": png("green")}
    rows = [
        {**{f: q[f] for f in FIELDS}, "image": [{"bytes": images[q["data_id"]], "path": None}], "segment": q.get("segment")} for q in GOOD
    ]
    (tmp_path / "hub" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    names = {4: "Instance Location", 5: "Instances Counting", 1: "Scene Understanding"}
    lines = ["\t".join(("index", "image", "question", "A", "B", "C", "D", "answer", "category"))]
    for q in GOOD:
        if q["data_type"] == "image":
            image = base64.b64encode(images[q["data_id"]]).decode()
            cells = (q["question_id"], image, q["question"], *(q[c] for c in CHOICES), q["answer"], names[q["question_type_id"]])
            lines.append("\t".join(cells))
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv" / "SEEDBench_IMG.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for form in ("hub", "tsv"):
        samples = Seed(Settings(prompt="llava")).samples("official", seed=0, data=tmp_path / form)
        assert len(samples) == len(official) == 3
        for one, other in zip(samples, official, strict=True):
            assert (one.id, one.task, one.request.question) == (other.id, other.task, other.request.question)
            assert one.request.images[0] == other.request.images[0]
            assert one.reference["answer"] == other.reference["answer"]
        assert samples[0].cluster == samples[1].cluster != samples[2].cluster


def test_another_number_of_questions_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Seed().samples("official", seed=0, data=write_json(tmp_path))
    assert "3 questions about images, where 14,232 or 14,233 are published" in caplog.text


def test_missing_data_is_named_with_what_gets_it(tmp_path):
    with pytest.raises(UserError, match=r"SEEDBench_IMG\.tsv.*SEED-Bench\.json.*jfeval data fetch seed-hub"):
        Seed().samples("official", seed=0, data=tmp_path)
    with pytest.raises(UserError, match=r"`jfeval data fetch seed`.*--data FOLDER.*SEEDBench_IMG\.tsv"):
        Seed().samples("official", seed=0)
    write_json(tmp_path / "a", images=("red",))
    with pytest.raises(UserError, match=r"questions\[3\], field data_id: no image blue"):
        Seed().samples("official", seed=0, data=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "SEED-Bench.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"expected an object with a list of questions|SEED-Bench-image is missing"):
        Seed().samples("official", seed=0, data=tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "E"}, r"questions\[1\], field answer: found 'E'; allowed: one of A, B, C, D"),
        ({"choice_d": ""}, r"questions\[1\], field choice_d"),
        ({"choice_d": None}, r"questions\[1\], field choice_d: found None"),
        ({"question_id": "11"}, r"questions\[1\], field question_id: 11 stands twice, first in .*questions\[0\]"),
        ({"question_id": None}, r"questions\[1\], field question_id"),
        ({"question_type_id": 13}, r"questions\[1\], field question_type_id: found 13; allowed: a whole number from 1 to 12"),
        ({"question_type_id": "5"}, r"questions\[1\], field question_type_id"),
        ({"data_type": "sound"}, r"questions\[1\], field data_type: found 'sound'; allowed: image or video"),
        ({"data_id": "../red"}, r"questions\[1\], field data_id: '../red' is not a bare file name"),
        ({"data_id": "green"}, r"questions\[1\], field data_id: no image green"),
        ({"question": ""}, r"questions\[1\], field question"),
    ],
)
def test_bad_questions_are_named_by_file_place_and_field(changes, message, tmp_path):
    data = write_json(tmp_path, [GOOD[0], {**GOOD[1], **changes}])
    with pytest.raises(UserError, match=message) as error:
        Seed().samples("official", seed=0, data=data)
    assert "SEED-Bench.json" in str(error.value)


def test_an_image_that_is_none_is_named(tmp_path):
    data = write_json(tmp_path)
    (data / "SEED-Bench-image" / "red").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"questions\[0\], field data_id.*not an image"):
        Seed().samples("official", seed=0, data=data)


def test_an_unknown_dimension_in_the_table_is_named(tmp_path):
    image = base64.b64encode(png("red")).decode()
    header = "\t".join(("index", "image", "question", "A", "B", "C", "D", "answer", "category"))
    (tmp_path / "SEEDBench_IMG.tsv").write_text(f"{header}\n1\t{image}\tHow many?\t1\t2\t3\t4\tA\tInstance Counting\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 2, field category: unknown dimension 'Instance Counting'; did you mean 'Instances Counting'"):
        Seed().samples("official", seed=0, data=tmp_path)


# the shapes edition


@pytest.fixture(scope="module")
def shapes():
    return Seed().samples("shapes", seed=1)


def test_the_shapes_edition_is_in_the_official_form(shapes):
    assert len(shapes) >= 300
    assert {sample.task for sample in shapes} < set(IMAGE_DIMENSIONS)
    assert len({sample.task for sample in shapes}) == 7
    assert all(set(sample.reference) == set(FIELDS) for sample in shapes)
    rows = [parse_row(sample.reference, where=sample.id) for sample in shapes]
    assert all(len(set(row.options.values())) == 4 for row in rows)
    shares = [sum(row.answer == letter for row in rows) / len(rows) for letter in LETTERS]
    assert all(0.18 < share < 0.32 for share in shares), shares


def test_the_right_letters_score_one_and_a_fixed_one_a_quarter(shapes):
    benchmark = Seed()
    right = [str(sample.reference["answer"]) for sample in shapes]
    for protocol in benchmark.protocols:
        best = benchmark.aggregate(scored(benchmark, shapes, right, protocol), protocol=protocol)
        fixed = benchmark.aggregate(scored(benchmark, shapes, ["A"] * len(shapes), protocol), protocol=protocol)
        assert best[0].value == 1
        assert fixed[0].ci_low < 0.25 < fixed[0].ci_high
