import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_rules import judge_image, read_observation
from jfeval.benchmarks.shapes.controls import MALFORMED, control_images, control_scores, malformed, place
from jfeval.benchmarks.shapes.oracle import OracleDetector, detect, observation
from jfeval.benchmarks.shapes.render import BACKGROUND, PALETTE, blank, render, shape_mask, true_masks
from jfeval.benchmarks.shapes.robustness import DAMAGES, measure
from jfeval.benchmarks.shapes.rows import geneval_rows
from jfeval.benchmarks.shapes.scene import Scene, Thing, sample_scene, scene_rng
from jfeval.errors import BadRequest


@pytest.fixture(scope="module")
def some_scenes():
    return [sample_scene(scene_rng(7, split, i), split) for split in ("train", "heldout") for i in range(500)]


def correct(row, image):
    seen = read_observation(observation(image), where="here")
    return judge_image(parse_row(row.metadata, where="here"), seen).correct


def paint(alpha, color):
    canvas = blank().astype(float)
    canvas += alpha[..., None] * (np.asarray(PALETTE[color]) - canvas)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))


def test_clean_renders_are_read_exactly(some_scenes):
    rates = measure(some_scenes, DAMAGES["none (clean render)"])
    assert rates.objects > 1900
    assert min(rates.right, rates.counting, rates.box) >= 0.995
    assert rates.extra <= 0.005


@pytest.mark.parametrize("name", ["blur, sigma 0.7", "noise, sd 8", "colours off by up to 15", "blur 0.7, noise 6, colours 10"])
def test_light_damage_does_not_matter(some_scenes, name):
    rates = measure(some_scenes[::8], DAMAGES[name])
    assert rates.counting >= 0.98
    assert rates.extra <= 0.01


def test_masks_are_those_of_the_scene(some_scenes):
    for scene in some_scenes[:20]:
        seen = sorted(one.mask.sum() for one in detect(render(scene)))
        assert seen == pytest.approx(sorted(mask.sum() for mask in true_masks(scene)), abs=6)


def test_the_controls_score_what_they_must():
    scores = control_scores([*geneval_rows(0, 16), *geneval_rows(1, 16)], correct)
    assert scores["true"]["overall"] >= 0.995
    assert scores["shuffled"]["overall"] <= 0.08
    for control in ("noise", *MALFORMED):
        assert scores[control]["overall"] <= 0.01, control


@pytest.mark.parametrize("control", MALFORMED)
def test_a_malformed_object_counts_as_nothing(control):
    rng = scene_rng(0, control, 0)
    reported = 0
    for i in range(200):
        scene = sample_scene(scene_rng(3, "train", i), "train")
        reported += len(detect(malformed(scene.things[:1], control, rng)))
    assert reported <= 1


def test_a_circle_with_a_hole_too_small_for_a_ring_is_nothing():
    disc = place(shape_mask("circle", 25), 30, 30)
    for hole, expected in ((7, []), (13, ["ring"])):
        found = detect(paint(disc - place(shape_mask("circle", hole), 30, 30), "green"))
        assert [one.shape for one in found] == expected


def test_clean_objects_of_different_colors_that_touch_are_both_seen():
    scene = Scene(
        things=(
            Thing(shape="square", color="red", size="large", x=20, y=30),
            Thing(shape="square", color="green", size="large", x=43, y=30),
        )
    )
    assert {one.kind for one in detect(render(scene))} == {("red", "square"), ("green", "square")}


def test_a_colour_between_two_names_is_nothing():
    middle = (np.asarray(PALETTE["red"]) + np.asarray(PALETTE["blue"])) // 2
    image = np.asarray(blank())
    image[20:41, 20:41] = middle
    assert detect(Image.fromarray(image)) == []


def test_stray_marks_and_empty_images_are_nothing():
    image = blank()
    assert detect(Image.fromarray(image)) == []
    image[10:14, 10:14] = PALETTE["red"]
    assert detect(Image.fromarray(image)) == []
    assert detect(Image.fromarray(np.full_like(image, 255))) == []
    assert tuple(blank()[0, 0]) == BACKGROUND


def test_observations_have_the_form_that_genevals_rules_read():
    scene = Scene(
        things=(
            Thing(shape="star", color="pink", size="large", x=16, y=16),
            Thing(shape="star", color="black", size="small", x=48, y=45),
        )
    )
    (seen,) = OracleDetector().observe(None, [render(scene)])
    assert (seen["width"], seen["height"]) == (64, 64)
    assert set(seen["detections"]) == set(seen["colors"]) == {"star"}
    assert sorted(seen["colors"]["star"]) == ["black", "pink"]
    for x0, y0, x1, y1, score in seen["detections"]["star"]:
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 64
        assert 0.9 < score <= 1
    assert OracleDetector().identity() == OracleDetector().identity()


def test_other_sizes_are_refused_as_a_fault_of_the_picture():
    with pytest.raises(BadRequest, match=r"64x64 pixels, not 384x384"):
        detect(Image.new("RGB", (384, 384)))


def test_controls_are_fixed_by_their_seed():
    rows = geneval_rows(0, 2)
    for control in ("noise", "merged"):
        first, again, other = (control_images(rows, control, seed=seed)[0].tobytes() for seed in (0, 0, 1))
        assert first == again != other
