import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jfeval.benchmarks.shapes.dataset import names_held_out
from jfeval.benchmarks.shapes.language import NUMBER_WORDS, PREFIXES, captions, counted, joined, plural, with_article
from jfeval.benchmarks.shapes.questions import questions, sentence
from jfeval.benchmarks.shapes.scene import COLORS, SHAPES, SIZES, Scene, Thing, relation_holds, sample_scene, scene_rng

PHRASE = re.compile(
    rf"\b(a|an|{'|'.join(NUMBER_WORDS[2:])}) (?:({'|'.join(SIZES)}) )?(?:({'|'.join(COLORS)}) )?({'|'.join(SHAPES)})(es|s)?\b"
)
RELATION = re.compile(r" (left of|right of|above|below) ")
cases = st.builds(
    lambda split, index: (sample_scene(scene_rng(0, split, index), split), scene_rng(1, "words", index)),
    st.sampled_from(["train", "test", "heldout"]),
    st.integers(0, 10**6),
)


def body_of(caption):
    caption = caption.removeprefix("there is ").removeprefix("there are ")
    return next((caption.removeprefix(p) for p in sorted(PREFIXES, key=len, reverse=True) if caption.startswith(p)), caption)


def mentions(body):
    found = []
    for number, size, color, shape, ending in PHRASE.findall(body):
        count = 1 if number in ("a", "an") else NUMBER_WORDS.index(number)
        assert (count > 1) == bool(ending)
        found += [(size, color, shape)] * count
    return found


@given(case=cases)
@settings(max_examples=300, deadline=None)
def test_captions_mention_every_object_and_nothing_else(case):
    scene, rng = case
    for caption in captions(scene, rng, 4):
        found = mentions(body_of(caption))
        sized, colored = bool(found[0][0]), bool(found[0][1])
        truth = [(t.size if sized else "", t.color if colored else "", t.shape) for t in scene.things]
        assert Counter(found) == Counter(truth), caption
        words = re.sub(PHRASE, "X", body_of(caption))
        assert re.fullmatch(r"X((, X)* and X| (left of|right of|above|below) X)?", words), caption


@given(case=cases)
@settings(max_examples=300, deadline=None)
def test_relations_in_captions_are_true(case):
    scene, rng = case
    for caption in captions(scene, rng, 4):
        match = RELATION.search(caption)
        if match:
            subject, target = mentions(caption[: match.start()])[-1], mentions(caption[match.end() :])[0]
            pairs = [(a, b) for a in scene.things for b in scene.things if a is not b and fits(a, subject) and fits(b, target)]
            assert len(pairs) == 1
            assert relation_holds(pairs[0][0], match[1], pairs[0][1], least=0.6)


def fits(thing, words):
    size, color, shape = words
    return thing.shape == shape and size in ("", thing.size) and color in ("", thing.color)


def test_training_words_never_name_a_held_out_pair():
    for i in range(1500):
        rng = scene_rng(0, "train", i)
        scene = sample_scene(rng, "train")
        texts = [*captions(scene, rng, 4), *(q.question for q in questions(scene, rng, 6)), sentence(rng)]
        assert not [text for text in texts if names_held_out(text)]


def test_questions_that_put_the_shape_first_name_a_pair_too():
    assert names_held_out("a circle. Is the circle purple? no")
    assert names_held_out("Is the circle red or purple?")
    assert not names_held_out("Is the circle red or blue?")
    assert not names_held_out("Is the circle left of the purple star?")


def test_about_half_of_the_captions_use_genevals_wording():
    texts = []
    for i in range(500):
        rng = scene_rng(0, "train", i)
        texts += captions(sample_scene(rng, "train"), rng, 4)
    assert sum(text.startswith("a photo of ") for text in texts) / len(texts) == pytest.approx(0.52, abs=0.05)


def test_grammar():
    assert [plural(shape) for shape in ("cross", "heart", "crescent")] == ["crosses", "hearts", "crescents"]
    assert with_article("orange ring") == "an orange ring"
    assert with_article("large orange ring") == "a large orange ring"
    assert counted("red cross", 3) == "three red crosses"
    assert [joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_captions_of_a_scene_with_little_to_say_repeat_rather_than_hang():
    scene = Scene(things=(Thing(shape="circle", color="red", size="small", x=30, y=30),))
    assert len(captions(scene, scene_rng(0, "x", 0), 40)) == 40
    assert len(questions(scene, scene_rng(0, "x", 0), 60)) == 60
