import pytest

from jfeval.benchmarks.base import Benchmark
from jfeval.benchmarks.dpg import DPG, NUM_IMAGES, SHAPES_ITEMS, Settings
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judgement

HEADER = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language"
ROWS = [
    "cat1,a cat,,1,0,,,entity - whole (cat),Is there a cat?",
    "cat1,a cat,,2,0,,,entity - whole (tail),Is there a tail?",
    "dog1,a red dog,,1,0,,,entity - whole (dog),Is there a dog?",
    'dog1,a red dog,,2,1,,,"attribute - color (dog, red)",Is the dog red?',
]


@pytest.fixture
def official(tmp_path):
    (tmp_path / "dpg_bench.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    return tmp_path


def judged(sample, *cells):
    return Judgement(sample_id=sample.id, observations=tuple({"answers": list(cell)} for cell in cells))


def scores_of(official, protocol):
    cat, dog = DPG().samples("official", seed=0, data=official)
    benchmark = DPG()
    return [
        *benchmark.score(cat, judged(cat, ["no", "yes"], ["yes", "no"]), protocol=protocol),
        *benchmark.score(dog, judged(dog, ["no", "yes"], ["yes", "yes"]), protocol=protocol),
    ]


def test_it_is_a_registered_benchmark_with_settings(tmp_path):
    found: Benchmark = load_benchmark("dpg", judge=str(tmp_path))
    assert isinstance(found, DPG)
    assert found.settings == Settings(judge=tmp_path)


def test_samples_are_the_items(official):
    cat, dog = DPG().samples("official", seed=0, data=official)
    assert (cat.id, cat.task, cat.request.prompt, cat.request.num_images) == ("cat1", "cat", "a cat", NUM_IMAGES)
    assert dog.cluster == "dog1"
    identity = DPG().data_identity("official", seed=0, data=official)
    assert (identity["rows"], identity["questions"], identity["revision"]) == (2, 4, "unpinned")


def test_prompt_files_are_read_where_they_lie(official):
    (official / "prompts").mkdir()
    (official / "prompts" / "cat1.txt").write_text("a cat of its own file")
    with pytest.raises(UserError, match=r"1 items without a prompt file \('dog1'\)"):
        DPG().samples("official", seed=0, data=official)
    (official / "prompts" / "dog1.txt").write_text("a dog")
    assert [s.request.prompt for s in DPG().samples("official", seed=0, data=official)] == ["a cat of its own file", "a dog"]


def test_official_numbers_by_hand(official):
    metrics = {(m.name, m.task): m for m in DPG().aggregate(scores_of(official, "official"), protocol="official")}
    # the cat's first question is never asked: cells 1, 0; the dog's cells are 0 (red without a dog) and 1
    assert metrics["overall", ""].value == pytest.approx((0.5 + 0.5) / 2)
    assert (metrics["overall", ""].n, metrics["overall", ""].headline) == (2, True)
    assert metrics["overall_fixed", ""].value == pytest.approx((0.5 + 0.5) / 2)
    # categories: last cell only, raw
    assert metrics["l2", "entity - whole"].value == pytest.approx(1 / 2)
    assert metrics["l1", "attribute"].value == 1.0
    assert (metrics["l1", "entity"].n, metrics["l1", "entity"].clusters) == (2, 2)
    assert all(m.ci_low <= m.value <= m.ci_high for m in metrics.values())


def test_fixed_numbers_by_hand(official):
    metrics = {(m.name, m.task): m for m in DPG().aggregate(scores_of(official, "fixed"), protocol="fixed")}
    assert metrics["overall", ""].value == pytest.approx(0.5)
    assert metrics["overall_official", ""].value == pytest.approx(0.5)
    # all cells, after the dependency rule: cat n y y n, dog n y; red: n (no dog) y
    assert metrics["l1", "entity"].value == pytest.approx(3 / 6)
    assert metrics["l1", "attribute"].value == pytest.approx(1 / 2)


def test_a_prompt_that_the_official_script_fails_on_is_left_out_and_said(official):
    path = official / "dpg_bench.csv"
    path.write_text(path.read_text().replace("cat1,a cat,,2,0,", "cat1,a cat,,2,1,"))  # depends on the row that is never asked
    cat, dog = DPG().samples("official", seed=0, data=official)
    gone = DPG().score(cat, judged(cat, ["yes", "yes"], ["no", "yes"]), protocol="official")
    dropped, second = gone
    assert (dropped.values, second.values) == ({"dropped": 1.0, "score_fixed": 1.0}, {"dropped": 1.0, "score_fixed": 0.0})
    assert "leaves this prompt out: proposition 2 depends on 1" in dropped.reason
    scores = [*gone, *DPG().score(dog, judged(dog, ["yes", "yes"]), protocol="official")]
    overall, fixed, *_ = DPG().aggregate(scores, protocol="official")
    assert (overall.value, overall.n) == (1.0, 1)
    assert (fixed.name, fixed.value, fixed.n) == ("overall_fixed", 0.75, 2)
    assert "1 prompts dropped out" in overall.detail
    with pytest.raises(UserError, match="no judged picture"):
        DPG().aggregate([dropped], protocol="official")


def test_shapes_prompts_follow_the_seed_and_take_no_data(tmp_path):
    samples = DPG().samples("shapes", seed=3)
    assert len(samples) == len({sample.request.prompt for sample in samples}) == SHAPES_ITEMS
    assert samples != DPG().samples("shapes", seed=4)
    with pytest.raises(UserError, match="reads no data"):
        DPG().samples("shapes", seed=1, data=tmp_path)


def test_official_needs_data_and_unknown_words_are_named():
    with pytest.raises(UserError, match=r"needs --data FOLDER.*--edition shapes"):
        DPG().samples("official", seed=0)
    with pytest.raises(UserError, match="unknown protocol of dpg 'fix'"):
        DPG().aggregate([], protocol="fix")
