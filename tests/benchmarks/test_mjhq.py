import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.mjhq import MJHQ, PER_CATEGORY, PROTOCOL, _scene
from jfeval.benchmarks.scorers.fixed_features import WIDTH, features, pack, unpack
from jfeval.benchmarks.scorers.scene_distance import total_variation
from jfeval.benchmarks.shapes.render import render
from jfeval.benchmarks.shapes.scene import COLORS, bucket
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.schema import Judgement

SAMPLES = MJHQ().samples("shapes", seed=3)


def metrics(samples, pictures):
    benchmark = MJHQ()
    judge = benchmark.judge("shapes")
    scores = []
    for sample, picture in zip(samples, pictures, strict=True):
        judged = Judgement(sample_id=sample.id, observations=judge.observe(sample, [picture]))
        scores += benchmark.score(sample, judged, protocol=PROTOCOL)
    return {(m.name, m.task): m for m in benchmark.aggregate(scores, protocol=PROTOCOL)}


def test_prompts_are_of_ten_categories_and_unseen():
    assert isinstance(load_benchmark("mjhq"), MJHQ)
    assert [sum(s.task == color for s in SAMPLES) for color in COLORS] == [PER_CATEGORY] * 10
    assert len({s.request.prompt for s in SAMPLES}) == len(SAMPLES)
    assert {bucket(_scene(s)) for s in SAMPLES[::40]} == {"test"}
    assert MJHQ().samples("shapes", seed=4) != SAMPLES


def test_the_references_themselves_are_at_distance_nought():
    some = SAMPLES[::4]
    found = metrics(some, [render(_scene(s)) for s in some])
    assert found["frechet_random_conv", ""].value == pytest.approx(0, abs=1e-6)
    assert [m.name for m in found.values() if m.headline] == ["frechet_random_conv"]
    assert {found[f"{kind}_variation", ""].value for kind in ("count", "color", "shape")} == {0.0}


def test_damage_and_sameness_are_far():
    some = SAMPLES[::4]
    others = [render(_scene(s)) for s in MJHQ().samples("shapes", seed=4)[::4]]
    fresh = metrics(some, others)
    same = metrics(some, [others[0]] * len(some))
    near, far = fresh["frechet_random_conv_corrected", ""], same["frechet_random_conv_corrected", ""]
    assert near.ci_high < far.ci_low
    assert fresh["kernel_random_conv", ""].value < same["kernel_random_conv", ""].value
    assert same["color_variation", ""].value == pytest.approx(0.9, abs=0.02)
    assert all(m.ci_low <= m.value <= m.ci_high for m in fresh.values() if m.ci_low is not None)


def test_few_images_have_no_interval_but_a_kernel_distance():
    some = SAMPLES[: 5 * WIDTH - 1]
    found = metrics(some, [render(_scene(s)) for s in some])
    assert found["frechet_random_conv", ""].ci_low is None
    assert "look at the kernel distance" in found["frechet_random_conv", ""].detail
    assert ("frechet_random_conv_corrected", "") not in found
    assert found["kernel_random_conv", "red"].ci_low is not None


def test_bad_input_is_named(tmp_path):
    benchmark, sample = MJHQ(), SAMPLES[0]
    with pytest.raises(UserError, match=r"python -m jfeval\.benchmarks\.fid"):
        benchmark.samples("official", seed=0)
    with pytest.raises(UserError, match="reads no data"):
        benchmark.samples("shapes", seed=0, data=tmp_path)
    with pytest.raises(UserError, match="random-conv-32 reads images of 64x64 pixels, not 32x32"):
        features([Image.new("RGB", (32, 32))])
    with pytest.raises(UserError, match="features and objects under 'found'"):
        benchmark.score(sample, Judgement(sample_id=sample.id, observations=({"features": "x"},)), protocol=PROTOCOL)
    with pytest.raises(UserError, match="stored features are not readable"):
        unpack("?", where="here")
    with pytest.raises(UserError, match="at least 2 judged images"):
        benchmark.aggregate([], protocol=PROTOCOL)


def test_features_are_fixed_and_survive_storage():
    row = features([render(_scene(SAMPLES[0]))])[0]
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
