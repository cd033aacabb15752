import numpy as np
import pytest
from PIL import Image

from jfeval.benchmarks.dpg import DPG
from jfeval.benchmarks.dpg_rows import check_graph
from jfeval.benchmarks.dpg_shapes import OracleVqa, describe, draw_scenes, holds
from jfeval.benchmarks.shapes.oracle import detect
from jfeval.benchmarks.shapes.render import render
from jfeval.benchmarks.shapes.scene import Scene, Thing, bucket
from jfeval.errors import UserError
from jfeval.schema import Judgement

PAIRS = draw_scenes(5, 40)


def overall(pictures):
    benchmark, judge = DPG(), OracleVqa()
    samples = benchmark.samples("shapes", seed=5)[: len(pictures)]
    scores = []
    for sample, picture in zip(samples, pictures, strict=True):
        judged = Judgement(sample_id=sample.id, observations=judge.observe(sample, [picture]))
        scores += benchmark.score(sample, judged, protocol="fixed")
    return benchmark.aggregate(scores, protocol="fixed")[0].value


def test_true_renders_answer_yes_to_everything():
    assert overall([render(scene) for _, scene in PAIRS]) == 1.0


def test_other_pictures_do_not():
    renders = [render(scene) for _, scene in PAIRS]
    assert overall(renders[1:] + renders[:1]) < 0.3
    noise = np.random.default_rng(0)
    assert overall([Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in PAIRS]) == 0.0


def test_scenes_are_unseen_and_graphs_are_sound():
    assert {bucket(scene) for _, scene in PAIRS} == {"test"}
    check_graph(item for item, _ in PAIRS)
    rows = [q.row for item, _ in PAIRS for q in item.questions]
    assert rows == list(range(len(rows)))


SCENE = Scene(
    things=(
        Thing(shape="circle", color="red", size="large", x=16, y=32),
        Thing(shape="star", color="blue", size="small", x=48, y=32),
        Thing(shape="star", color="black", size="small", x=48, y=10),
    )
)


def test_a_prompt_says_what_is_asked():
    text = describe(SCENE)
    assert text.startswith("a photo of a red circle, a blue star and a black star. the red circle is large.")
    assert "the red circle is left of the blue star." in text


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a star?", True),
        ("Is there a ring?", False),
        ("Is there a red star?", False),
        ("Is there exactly one blue star?", True),
        ("Are there exactly two stars?", True),
        ("Are there exactly two objects?", False),
        ("Are there exactly three objects?", True),
        ("Is the red circle large?", True),
        ("Is the red circle medium?", False),
        ("Is the red circle left of the blue star?", True),
        ("Is the red circle above the blue star?", False),
        ("Is the red ring left of the blue star?", False),
    ],
)
def test_the_oracle_answers_from_pixels(question, answer):
    assert holds(question, detect(render(SCENE))) is answer


def test_other_questions_are_refused():
    with pytest.raises(UserError, match="no answer to 'Is it nice"):
        holds("Is it nice?", [])
