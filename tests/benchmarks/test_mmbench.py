"""MMBench: circular and vanilla tables by hand, published forms, bad data, the shapes edition, and a model's answers."""

import base64
import io
import json
import logging

import pytest
from PIL import Image

from jfeval.benchmarks.mmbench import MMBench, MMBenchCN
from jfeval.benchmarks.mmbench_prompts import choice_prompt
from jfeval.benchmarks.mmbench_rows import COLUMNS, parse_row
from jfeval.benchmarks.mmbench_rules import ROTATION, RowVerdict, accuracy_table, circular_hits
from jfeval.benchmarks.understanding.base import Settings
from jfeval.benchmarks.understanding.protocols import PROMPTS
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judgement, Sample, TextRequest

L2 = "coarse_perception"
HEADER = ("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category", "comment", "split")


def png(color, size=(9, 7)):
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


RED, BLUE = base64.b64encode(png("red")).decode(), base64.b64encode(png("blue")).decode()


def row(index, image=RED, **changes):
    """Build a row of two options, in rotation index // 1,000,000."""
    turned = index >= ROTATION
    texts = ("no", "yes") if turned else ("yes", "no")
    return {
        "index": index,
        "question": "Is it red?",
        "hint": "",
        "A": texts[0],
        "B": texts[1],
        "C": "",
        "D": "",
        "answer": "B" if turned else "A",
        "category": "image_scene",
        "image": image,
        "source": "made up",
        "l2-category": L2,
        "comment": "",
        "split": "dev",
        **changes,
    }


GOOD = (row(5), row(ROTATION + 5, image="5"), row(7, image=BLUE, hint="Look."), row(ROTATION + 7, image="7"))


def write_tsv(folder, rows, name="MMBench_DEV_EN.tsv", header=HEADER):
    folder.mkdir(exist_ok=True, parents=True)
    lines = ["\t".join(header), *("\t".join(str(one[column]) for column in header) for one in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def official(**settings):
    return MMBench(Settings(any_size=True, **settings))


def answer(sample, text):
    return Judgement(sample_id=sample.id, observations=({"text": text},))


def scored(benchmark, samples, texts, protocol="vlmevalkit-nov2024"):
    return [
        s for sample, text in zip(samples, texts, strict=True) for s in benchmark.score(sample, answer(sample, text), protocol=protocol)
    ]


def verdict(index, hit, category="image_scene", l2=L2, cluster=""):
    return RowVerdict(index=index, l2=l2, category=category, hit=hit, cluster=cluster or str(index % ROTATION))


# circular and vanilla


def test_a_group_is_right_only_where_every_rotation_that_is_there_is_right():
    rows = [verdict(1, True), verdict(ROTATION + 1, True), verdict(2, True), verdict(2 * ROTATION + 2, False), verdict(3, True)]
    assert circular_hits(rows) == {1: True, 2: False, 3: True}


def test_tables_worked_by_hand():
    rows = [
        verdict(1, True),
        verdict(ROTATION + 1, True),
        verdict(2, True, category="image_style"),
        verdict(ROTATION + 2, False, category="image_style"),
        verdict(2 * ROTATION + 2, False, category="image_style"),
        verdict(3, False, category="ocr", l2="something new"),
    ]
    circular, every, base = (accuracy_table(rows, way) for way in ("circular", "vanilla_all_rows", "vanilla_base_rows"))
    assert (circular.overall.value, every.overall.value, base.overall.value) == pytest.approx((1 / 3, 3 / 6, 2 / 3))
    assert {name: found.value for name, found in circular.l2.items()} == {"CP": 0.5, "something new": 0.0}
    assert {name: found.value for name, found in every.category.items()} == pytest.approx(
        {"image_scene": 1, "image_style": 1 / 3, "ocr": 0}
    )
    assert (every.overall.n, every.overall.clusters, circular.overall.n) == (6, 3, 3)


def test_a_group_without_its_base_row_counts_in_vanilla_only():
    rows = [verdict(ROTATION + 1, True)]
    assert accuracy_table(rows, "circular") is None
    assert accuracy_table(rows, "vanilla_base_rows") is None
    assert accuracy_table(rows, "vanilla_all_rows").overall.value == 1


# the benchmark


def test_answers_become_numbers_with_names_and_the_papers_mark(tmp_path):
    benchmark, data = official(), write_tsv(tmp_path, GOOD)
    samples = benchmark.samples("official", seed=0, data=data)
    assert [sample.id for sample in samples] == ["5", "1000005", "7", "1000007"]
    scores = scored(benchmark, samples, ["A", "B", "A", "A"])
    metrics = benchmark.aggregate(scores, protocol="vlmevalkit-nov2024")
    values = {(metric.name, metric.task): metric.value for metric in metrics}
    assert values["circular", ""] == 0.5
    assert values["vanilla_all_rows", ""] == 0.75
    assert values["vanilla_base_rows", ""] == 1
    assert values["task", "CP"] == values["task", "image_scene"] == 0.5
    assert [metric.name for metric in metrics if metric.headline] == ["circular"]
    assert [(metric.name, metric.task) for metric in metrics if metric.paper] == [("vanilla_all_rows", "")]
    assert all(metric.ci_low <= metric.value <= metric.ci_high for metric in metrics)
    other = benchmark.aggregate(scores, protocol="lmms-eval")
    assert not any(metric.paper for metric in other)
    assert {metric.clusters for metric in metrics} == {2}  # two images


def test_chance_falls_with_every_rotation(tmp_path):
    benchmark, rows = official(), [*GOOD, row(9, C="perhaps"), row(ROTATION + 9, C="perhaps", image="9")]
    samples = benchmark.samples("official", seed=0, data=write_tsv(tmp_path, rows))
    metrics = benchmark.aggregate(scored(benchmark, samples, ["A"] * 6, "lmms-eval"), protocol="lmms-eval")
    chance = {(metric.name, metric.task): metric.chance for metric in metrics}
    assert chance["circular", ""] == pytest.approx((1 / 4 + 1 / 4 + 1 / 9) / 3)
    assert chance["vanilla_all_rows", ""] == pytest.approx((4 / 2 + 2 / 3) / 6)
    assert chance["vanilla_base_rows", "CP"] == pytest.approx((2 / 2 + 1 / 3) / 3)
    assert chance["uninferred", ""] is None


def test_empty_refused_and_unread_answers_are_counted(tmp_path):
    benchmark, data = official(), write_tsv(tmp_path, GOOD)
    samples = benchmark.samples("official", seed=0, data=data)
    scores = scored(benchmark, samples, ["", "I can't process this file.", "A or B", "yes"])
    values = {metric.name: metric.value for metric in benchmark.aggregate(scores, protocol="vlmevalkit-nov2024") if not metric.task}
    assert (values["empty"], values["refused"], values["ambiguous"], values["uninferred"]) == (0.25, 0.25, 0.25, 0.5)
    assert [score.values["correct"] for score in scores] == [0, 0, 0, 1]  # "yes" is option B's text
    assert "several options" in scores[2].reason


def test_a_limited_run_says_that_its_circular_number_is_easier(tmp_path):
    benchmark, data = official(), write_tsv(tmp_path, GOOD)
    first = benchmark.samples("official", seed=0, data=data)[:1]
    metrics = benchmark.aggregate(scored(benchmark, first, ["A"]), protocol="vlmevalkit-head")
    circular = next(metric for metric in metrics if metric.name == "circular")
    assert "1 of 1 questions lack rotations" in circular.detail


def test_the_shown_options_and_the_hint_reach_the_model(tmp_path):
    data = write_tsv(tmp_path, GOOD)
    sample = official(prompt="paper").samples("official", seed=0, data=data)[2]
    assert sample.request.question == (
        "Hint: Look.\nIs it red?\nA. yes\nB. no\n\nAnswer with the option's letter from the given choices directly."
    )
    assert sample.request.images[0] == png("blue")
    asked = {name: official(prompt=name).samples("official", seed=0, data=data)[0].request.question for name in PROMPTS}
    assert len(set(asked.values())) == len(PROMPTS)


def test_the_prompt_and_the_rows_are_part_of_the_runs_identity(tmp_path):
    data = write_tsv(tmp_path / "a", GOOD)
    identity = official().data_identity("official", seed=0, data=data)
    assert (identity["rows"], identity["questions"], identity["published"], identity["prompt"]) == (4, 2, False, "paper")
    assert official(prompt="llava").data_identity("official", seed=0, data=data) != identity
    other = write_tsv(tmp_path / "b", [*GOOD[:3], {**GOOD[3], "answer": "A"}])
    assert official().data_identity("official", seed=0, data=other)["sha256"] != identity["sha256"]


def test_chinese_is_official_only_and_worded_in_chinese(tmp_path):
    data = write_tsv(tmp_path, GOOD, name="MMBench_DEV_CN.tsv")
    sample = MMBenchCN(Settings(prompt="lmms-eval", any_size=True)).samples("official", seed=0, data=data)[0]
    assert sample.request.question.startswith("nan Is it red? There are several options:\n")
    assert sample.request.question.endswith("请直接使用所提供的选项字母作为答案回答。")
    with pytest.raises(UserError, match="unknown edition of mmbench-cn 'shapes'"):
        MMBenchCN().samples("shapes", seed=0)


def test_llava_reads_no_further_than_the_first_missing_option():
    text = choice_prompt("mmbench-en", "llava", "Q?", {"A": "one", "C": "three"}).text
    assert text.startswith("Q?\nA. one\nAnswer")


# published forms


def test_a_reference_shares_the_image_and_the_cluster(tmp_path):
    samples = official().samples("official", seed=0, data=write_tsv(tmp_path, GOOD))
    assert samples[0].request.images[0] == samples[1].request.images[0] == png("red")
    assert samples[0].cluster == samples[1].cluster != samples[2].cluster


def test_the_hubs_form_gives_the_same_rows(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = []
    for one in GOOD:
        image = png("red" if one["index"] % ROTATION == 5 else "blue")
        texts = {name: one[name] or "nan" for name in ("hint", "A", "B", "C", "D", "comment")}
        kept = {name: one[name] for name in ("index", "question", "answer", "category", "source", "split")}
        rows.append({**kept, **texts, "L2-category": one["l2-category"], "image": {"bytes": image, "path": None}})
    (tmp_path / "hub" / "en").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "en" / "dev-00000-of-00001.parquet")
    ours = official().samples("official", seed=0, data=tmp_path / "hub")
    table = official().samples("official", seed=0, data=write_tsv(tmp_path / "tsv", GOOD))
    for one, other in zip(ours, table, strict=True):
        assert (one.id, one.reference, one.request.question, one.cluster) == (
            other.id,
            other.reference,
            other.request.question,
            other.cluster,
        )
        assert one.request.images[0] == other.request.images[0]


def test_the_hubs_form_with_images_as_text_gives_the_same_rows(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    file = tmp_path / "hub" / "data" / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([{key: value or None for key, value in one.items()} for one in GOOD]), file)
    ours = official().samples("official", seed=0, data=tmp_path / "hub")
    table = official().samples("official", seed=0, data=write_tsv(tmp_path / "tsv", GOOD))
    for one, other in zip(ours, table, strict=True):
        assert (one.id, one.reference, one.cluster) == (other.id, other.reference, other.cluster)
        assert one.request.images[0] == other.request.images[0]
    pq.write_table(pa.Table.from_pylist([{**GOOD[0], "image": "99"}]), file)
    with pytest.raises(UserError, match="row 1, field image: row index '99' is no row that holds an image"):
        official().samples("official", seed=0, data=tmp_path / "hub")


def test_missing_data_is_named_with_what_gets_it(tmp_path):
    with pytest.raises(UserError, match=r"MMBench_DEV_EN\.tsv") as error:
        MMBench().samples("official", seed=0, data=tmp_path)
    assert "`jfeval data fetch mmbench`" in str(error.value)
    assert "`jfeval data fetch mmbench-hub`" in str(error.value)
    with pytest.raises(UserError, match=r"needs its data.*`jfeval data fetch mmbench`.*--data FOLDER.*MMBench_DEV_EN\.tsv"):
        MMBench().samples("official", seed=0)
    with pytest.raises(UserError, match="leave out --data"):
        MMBench().samples("shapes", seed=0, data=tmp_path)


def test_another_number_of_rows_is_refused_unless_asked_for(tmp_path):
    with pytest.raises(UserError, match=r"4 rows of 2 questions, published 4329 of 1164.*any_size=true"):
        MMBench().samples("official", seed=0, data=write_tsv(tmp_path, GOOD))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"B": ""}, "row 4, fields A to D: 1 options"),
        ({"B": "None"}, "row 4, fields A to D: 1 options"),
        ({"answer": "C"}, "row 4, field answer: found 'C'; allowed: the letter of one of the row's options, A, B"),
        ({"answer": ""}, "row 4, field answer.*the test split has no answers"),
        ({"question": " "}, "row 4, field question"),
        ({"category": ""}, "row 4, field category"),
        ({"index": "seven"}, "row 4, field index"),
        ({"index": 5}, "row 4, field index: 5 stands twice"),
        ({"image": "99"}, "row 4, field image: row index 99 is in no row"),
        ({"image": str(ROTATION + 5)}, "row 4, field image: row index 1000005 refers to another reference"),
        ({"image": base64.b64encode(b"no image" * 20).decode()}, "row 4, field image: not an image"),
        ({"image": "%" * 80}, "row 4, field image: not base64"),
        ({"image": ""}, "row 4, field image"),
    ],
)
def test_bad_rows_are_named_by_file_row_and_field(changes, message, tmp_path):
    data = write_tsv(tmp_path, [*GOOD[:2], {**GOOD[2], **changes}, GOOD[3]])
    with pytest.raises(UserError, match=message) as error:
        official().samples("official", seed=0, data=data)
    assert "MMBench_DEV_EN.tsv" in str(error.value)


def test_a_missing_column_is_named(tmp_path):
    data = write_tsv(tmp_path, GOOD, header=[name for name in HEADER if name != "l2-category"])
    with pytest.raises(UserError, match="lacks the column l2-category"):
        official().samples("official", seed=0, data=data)


def test_an_option_that_pandas_reads_as_missing_is_dropped_and_said(tmp_path, caplog):
    rows = [row(5, C="None"), row(ROTATION + 5, image="5", C="N/A", answer="C")]
    with caplog.at_level(logging.WARNING):
        samples = official().samples("official", seed=0, data=write_tsv(tmp_path, rows))
    assert "C. " not in samples[0].request.question
    assert "row 2, field C: pandas and so every published scorer reads 'None' as no option" in caplog.text
    assert "row 3, field C" in caplog.text
    assert "it is the right one" in caplog.text
    (score,) = official().score(samples[1], answer(samples[1], "C"), protocol="vlmevalkit-nov2024")
    assert score.values["correct"] == 0


def test_rotations_that_do_not_fit_together_are_said(tmp_path, caplog):
    rows = [row(5), row(ROTATION + 5, image="5", answer="A"), row(7), row(ROTATION + 7, image="5", B="maybe"), row(9)]
    with caplog.at_level(logging.WARNING):
        official().samples("official", seed=0, data=write_tsv(tmp_path, rows))
    assert "field answer: A is another text than the answer of row index 5" in caplog.text
    assert "the options are not those of row index 7" in caplog.text
    assert "question 9 has 1 rows for 2 options" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"index": -1}, {"index": True}, {"index": "1"}, {"A": 3}, {"question": "x" * 30_000}, {"B": "\ud800"}, {"l2-category": "a/b"}],
)
def test_a_reference_that_is_no_row_is_refused(change):
    with pytest.raises(UserError, match="row 1, field"):
        parse_row({**GOOD[0], **change}, where="row 1")


def test_a_stored_sample_without_one_answer_is_refused():
    sample = Sample(id="5", task="", request=TextRequest(question="?"), reference={name: GOOD[0][name] for name in ("index", *COLUMNS)})
    with pytest.raises(UserError, match="sample 5: expected one stored answer"):
        MMBench().score(sample, Judgement(sample_id="5"), protocol="vlmevalkit-nov2024")
    with pytest.raises(UserError, match="unknown protocol of mmbench"):
        MMBench().score(sample, answer(sample, "A"), protocol="official")


# the shapes edition


@pytest.fixture(scope="module")
def shapes():
    return MMBench().samples("shapes", seed=3)


def test_the_shapes_edition_has_every_l2_ability_and_rotates_as_published(shapes):
    assert len(shapes) >= 300
    assert len({sample.reference["l2-category"] for sample in shapes}) == 6
    assert all(set(sample.reference) == {"index", *COLUMNS} for sample in shapes)
    groups = {}
    for sample in shapes:
        groups.setdefault(sample.reference["index"] % ROTATION, []).append(parse_row(sample.reference, where=sample.id))
    assert {len(rows) for rows in groups.values()} == {2, 3, 4}
    for rows in groups.values():
        letters = list(rows[0].options)
        assert len(rows) == len(letters)
        for turn, one in enumerate(sorted(rows, key=lambda row: row.index)):
            assert one.index // ROTATION == turn
            for place, letter in enumerate(letters):
                assert one.options[letters[(place + turn) % len(letters)]] == rows[0].options[letter]
            assert one.options[one.answer] == rows[0].options[rows[0].answer]


def test_shapes_answers_are_spread_over_letters_and_a_fixed_letter_fails_circular(shapes):
    benchmark = load_benchmark("mmbench")
    metrics = benchmark.aggregate(scored(benchmark, shapes, ["A"] * len(shapes)), protocol="vlmevalkit-nov2024")
    values = {metric.name: metric.value for metric in metrics if not metric.task}
    groups = len({sample.cluster for sample in shapes})
    assert values["circular"] == 0
    assert values["vanilla_all_rows"] == pytest.approx(groups / len(shapes))  # each rotation puts the right option under A once


def test_the_right_texts_score_one_under_every_protocol(shapes):
    benchmark = load_benchmark("mmbench")
    letters = [sample.reference["answer"] for sample in shapes]
    for protocol in benchmark.protocols:
        values = {
            m.name: m.value for m in benchmark.aggregate(scored(benchmark, shapes, letters, protocol), protocol=protocol) if not m.task
        }
        assert (values["circular"], values["vanilla_all_rows"], values["uninferred"]) == (1, 1, 0)


def test_the_shapes_edition_depends_on_the_seed_alone(shapes):
    again = MMBench(Settings(prompt="paper")).samples("shapes", seed=3)
    assert [sample.reference for sample in again] == [sample.reference for sample in shapes]
    one, other = (json.dumps([sample.reference for sample in MMBench().samples("shapes", seed=seed)]) for seed in (3, 4))
    assert one != other
    assert MMBench().data_identity("shapes", seed=3)["sha256"] != MMBench().data_identity("shapes", seed=4)["sha256"]
