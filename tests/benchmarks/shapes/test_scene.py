from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.shapes.colors import PALETTE_LAB, name_colors
from jfeval.benchmarks.shapes.render import BACKGROUND, PALETTE, render_array, shape_mask, true_boxes, true_masks
from jfeval.benchmarks.shapes.scene import (
    CANVAS,
    CELL,
    COLORS,
    GAP,
    HELD_OUT_PAIRS,
    MARGIN,
    SEEN_PAIRS,
    SHAPES,
    SIZES,
    SPLITS,
    Scene,
    Thing,
    arrange,
    bucket,
    pick,
    relation_holds,
    sample_scene,
    scene_key,
    scene_rng,
)

seeds = st.integers(0, 2**63 - 1)


def scenes(split, count, seed=0):
    return [sample_scene(scene_rng(seed, split, i), split) for i in range(count)]


def thing(shape="circle", color="red", size="medium", x=20, y=20):
    return Thing(shape=shape, color=color, size=size, x=x, y=y)


def test_held_out_pairs_cover_each_shape_once_with_different_colors():
    assert {shape for _, shape in HELD_OUT_PAIRS} == set(SHAPES)
    assert len({color for color, _ in HELD_OUT_PAIRS}) == len(HELD_OUT_PAIRS) == 8
    assert len(SEEN_PAIRS) == 72
    assert HELD_OUT_PAIRS.isdisjoint(SEEN_PAIRS)


@given(seed=seeds, index=st.integers(0, 10**6), split=st.sampled_from(SPLITS))
@settings(max_examples=60, deadline=None)
def test_a_scene_is_fixed_by_seed_and_index_and_lies_in_its_split(seed, index, split):
    scene = sample_scene(scene_rng(seed, split, index), split)
    assert scene == sample_scene(scene_rng(seed, split, index), split)
    assert bucket(scene) == split
    assert (split == "heldout") == bool(HELD_OUT_PAIRS & set(scene.kinds))


@given(seed=seeds, kinds=st.lists(st.sampled_from(SEEN_PAIRS), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_objects_keep_the_gap_and_the_margin(seed, kinds):
    scene = arrange(scene_rng(seed, "layout", 0), kinds)
    assert list(scene.kinds) == kinds
    for one in scene.things:
        low, high = MARGIN + one.radius, CANVAS - 1 - MARGIN - one.radius
        assert low <= one.x <= high
        assert low <= one.y <= high
        assert one.x % CELL == one.y % CELL == 0
    for one, other in combinations(scene.things, 2):
        apart = max(abs(one.x - other.x), abs(one.y - other.y)) - one.radius - other.radius - 1
        assert apart >= GAP


def test_training_and_test_scenes_share_no_key_under_any_seed():
    train = {scene_key(scene) for seed in range(3) for scene in scenes("train", 1500, seed)}
    test = {scene_key(scene) for seed in range(3, 6) for scene in scenes("test", 300, seed)}
    assert train
    assert test
    assert not train & test


def test_a_test_composition_stays_a_test_composition_in_every_layout():
    rng = scene_rng(0, "layout", 1)
    for scene in scenes("test", 40):
        if len(set(scene.kinds)) > 1:
            again = arrange(rng, [scene.kinds[i] for i in rng.permutation(len(scene.kinds))])
            assert bucket(again) == "test"


def test_the_mix_of_counts_is_as_stated():
    counts = Counter(len(scene.things) for scene in scenes("train", 4000))
    shares = [counts[n] / 4000 for n in range(1, 6)]
    assert shares == pytest.approx([0.13, 0.55, 0.16, 0.12, 0.04], abs=0.03)


def test_about_a_tenth_of_compositions_are_test():
    split = [bucket(Scene(things=(thing(a[1], a[0]), thing(b[1], b[0], x=50)))) for a, b in combinations(SEEN_PAIRS, 2)]
    assert split.count("test") / len(split) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("x", "y", "relation", "expected"),
    [
        (40, 20, "right of", True),
        (40, 20, "left of", False),
        (40, 20, "below", False),
        (20, 45, "below", True),
        (20, 45, "above", False),
        (40, 40, "right of", True),
        (40, 40, "below", True),
        (24, 20, "right of", False),  # within the dead zone of 0.1 * (21 + 21) = 4.2 pixels
    ],
)
def test_relations_follow_genevals_rule(x, y, relation, expected):
    assert relation_holds(thing(x=x, y=y), relation, thing()) is expected


def test_pick_follows_shares():
    rng = scene_rng(0, "pick", 0)
    drawn = Counter(pick(rng, "abc", (0.2, 0.0, 0.8)) for _ in range(2000))
    assert drawn["b"] == 0
    assert drawn["a"] / 2000 == pytest.approx(0.2, abs=0.04)


def test_a_scene_holds_at_most_five_objects():
    with pytest.raises(ValueError, match="1 to 5"):
        arrange(scene_rng(0, "layout", 0), [SEEN_PAIRS[0]] * 6)


def test_colors_are_far_apart():
    distance = np.linalg.norm(PALETTE_LAB[:, None] - PALETTE_LAB, axis=-1) + 1000 * np.eye(11)
    assert distance[:10, :10].min() > 41
    assert distance[10].min() > 35
    assert [COLORS[i] for i in name_colors(np.array([PALETTE[color] for color in COLORS]))] == list(COLORS)
    assert name_colors(np.array([BACKGROUND])) == [-1]


def test_masks_and_boxes_agree_with_the_pixels():
    for scene in scenes("train", 50):
        image = render_array(scene)
        for mask, box, one in zip(true_masks(scene), true_boxes(scene), scene.things, strict=True):
            rows, columns = np.nonzero(mask)
            assert (box.x0, box.y0, box.x1, box.y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            inner = np.all(image[mask] == PALETTE[one.color], axis=-1)
            assert inner.mean() > 0.6
        assert np.all(image[0] == BACKGROUND)


def test_every_shape_has_its_own_outline():
    for first, second in combinations(SHAPES, 2):
        a, b = shape_mask(first, SIZES["small"]), shape_mask(second, SIZES["small"])
        assert np.minimum(a, b).sum() / np.maximum(a, b).sum() < 0.87
