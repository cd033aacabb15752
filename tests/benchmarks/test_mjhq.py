import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.mjhq import MJHQ, PER_CATEGORY
from jfeval.benchmarks.scene_sets import PROTOCOL, read_scene
from jfeval.benchmarks.scorers.fixed_features import WIDTH, features, pack, unpack
from jfeval.benchmarks.scorers.scene_distance import total_variation
from jfeval.benchmarks.shapes.render import render
from jfeval.benchmarks.shapes.scene import COLORS, bucket
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judged, Judgement

SAMPLES = MJHQ().samples("shapes", seed=3)


@pytest.fixture(scope="module")
def results(see):
    def of(samples, pictures):
        benchmark = MJHQ()
        judge = benchmark.judge("shapes")
        scores, metrics = benchmark.score_set(see(samples, pictures, judge), protocol=PROTOCOL)
        return scores, {(m.name, m.task): m for m in metrics}

    return of


@pytest.fixture(scope="module")
def fresh(results):
    """Another draw of the same world in the place of a model."""
    others = [render(read_scene(s)) for s in MJHQ().samples("shapes", seed=4)[::4]]
    return others, *results(SAMPLES[::4], others)


def test_prompts_are_of_ten_categories_and_unseen():
    assert isinstance(load_benchmark("mjhq"), MJHQ)
    assert [sum(s.task == color for s in SAMPLES) for color in COLORS] == [PER_CATEGORY] * 10
    assert len({s.request.prompt for s in SAMPLES}) == len(SAMPLES)
    assert {bucket(read_scene(s)) for s in SAMPLES[::40]} == {"test"}
    assert MJHQ().samples("shapes", seed=4) != SAMPLES


def test_the_references_themselves_are_at_distance_nought(results):
    some = SAMPLES[::4]
    scores, found = results(some, [render(read_scene(s)) for s in some])
    assert found["frechet_random_conv", ""].value == pytest.approx(0, abs=1e-6)
    assert [m.name for m in found.values() if m.headline] == ["frechet_random_conv"]
    assert {found[f"{kind}_variation", ""].value for kind in ("count", "color", "shape")} == {0.0}
    assert found["layout_distance", ""].value == pytest.approx(0, abs=1e-12)
    assert found["kernel_random_conv", ""].value == pytest.approx(0, abs=1e-12)
    assert {m.better for m in found.values() if m.name != "contrastive_similarity"} == {"lower"}
    assert len(scores) == len(some)


def test_damage_and_sameness_are_far(results, fresh):
    some = SAMPLES[::4]
    others, _, fresh = fresh
    _, same = results(some, [others[0]] * len(some))
    near, far = fresh["frechet_random_conv_corrected", ""], same["frechet_random_conv_corrected", ""]
    assert near.ci_high < far.ci_low
    assert fresh["kernel_random_conv", ""].value < same["kernel_random_conv", ""].value
    assert same["color_variation", ""].value == pytest.approx(0.9, abs=0.02)
    assert fresh["layout_distance", ""].ci_high < same["layout_distance", ""].ci_low
    assert all(m.ci_low <= m.value <= m.ci_high for m in fresh.values() if m.ci_low is not None)


def test_each_image_has_its_influence_which_adds_up_to_the_error(fresh):
    _, scores, found = fresh
    influence = np.array([score.values["influence"] for score in scores])
    assert influence.mean() == pytest.approx(0, abs=1e-9)
    own = influence.std(ddof=1) / np.sqrt(len(influence))
    assert 0 < own < found["frechet_random_conv", ""].se  # which holds the reference's error too


def test_few_images_have_no_interval_but_a_kernel_distance(results):
    some = SAMPLES[:20]
    assert len(some) < 5 * WIDTH
    scores, found = results(some, [render(read_scene(s)) for s in some])
    assert found["frechet_random_conv", ""].ci_low is None
    assert "look at the kernel distance" in found["frechet_random_conv", ""].detail
    assert ("frechet_random_conv_corrected", "") not in found
    assert found["kernel_random_conv", "red"].ci_low is not None
    assert "influence" not in scores[0].values


def test_bad_input_is_named(tmp_path):
    benchmark, sample = MJHQ(), SAMPLES[0]
    with pytest.raises(UserError, match="reads no data"):
        benchmark.samples("shapes", seed=0, data=tmp_path)
    with pytest.raises(UserError, match="random-conv-32 reads images of 64x64 pixels, not 32x32"):
        features([Image.new("RGB", (32, 32))])
    strange = Judgement(sample_id=sample.id, observations=({"features": "x"},))
    with pytest.raises(UserError, match="features and objects under 'found'"):
        benchmark.score_set(Judged(samples=(sample,), read=lambda _: strange, judge={}), protocol=PROTOCOL)
    with pytest.raises(UserError, match="stored features are not readable"):
        unpack("?", where="here")
    with pytest.raises(UserError, match="at least 2 judged images"):
        benchmark.score_set(Judged(samples=(), read=lambda _: strange, judge={}), protocol=PROTOCOL)
    with pytest.raises(UserError, match=r"unknown protocol of mjhq \(shapes\) 'gigagan'"):
        benchmark.judge_under("shapes", "gigagan")


def test_features_are_fixed_and_survive_storage():
    row = features([render(read_scene(SAMPLES[0]))])[0]
    assert row.shape == (WIDTH,)
    np.testing.assert_array_equal(unpack(pack(row), where=""), row.astype(np.float64))
    grey = features([Image.new("RGB", (64, 64), (150, 150, 150))])[0]
    assert float(np.abs(row - grey).max()) > 1e-3


def test_total_variation_by_hand():
    found = [{"a": 2.0}, {"a": 1.0, "b": 1.0}]
    variation = total_variation(found, [{"a": 1.0}, {"b": 1.0}])
    assert variation.value == pytest.approx(0.25)  # 3/4 against 1/2
    # influence on p_a: (2 - 2 * 3/4) / 2 and (1 - 2 * 3/4) / 2
    assert variation.se == pytest.approx(np.std([0.25, -0.25], ddof=1) / np.sqrt(2))
    assert total_variation([{}], [{"a": 1.0}]).value == 1.0
    with pytest.raises(UserError, match="something counted in the reference"):
        total_variation(found, [{}])


def test_total_variation_s_error_is_the_spread_over_draws():
    rng = np.random.default_rng(0)

    def draw():
        return [{"abc"[k]: 1.0 for k in rng.choice(3, size=2, p=[0.6, 0.3, 0.1])} for _ in range(200)]

    reference = [{"a": 1.0}, {"b": 4.0}, {"c": 5.0}]
    found = [total_variation(draw(), reference) for _ in range(200)]
    assert np.mean([v.se for v in found]) == pytest.approx(np.std([v.value for v in found]), rel=0.2)
