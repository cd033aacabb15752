"""GenEval against the official scorer's recordings and the official prompts, where those are at hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jfeval.benchmarks.geneval import GenEval
from jfeval.benchmarks.geneval_goldens import _unmatched
from jfeval.benchmarks.geneval_rows import TAGS, read_rows
from jfeval.benchmarks.scorers.detector import instances

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDENS, DATA = SHARED / "goldens" / "generation" / "geneval", SHARED / "data" / "geneval"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the official prompts are not beside this checkout (../shared/data/geneval)")


@needs_data
def test_the_official_rows_load():
    _, rows = read_rows(DATA)
    assert {tag: sum(row.tag == tag for row in rows) for tag in TAGS} == {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    samples = GenEval().samples("official", seed=0, data=DATA)
    assert (len(samples), samples[-1].id) == (553, "00552")
    assert len({sample.cluster for sample in samples}) == 553
    assert GenEval().data_identity("official", seed=0, data=DATA)["published"] is True


@needs_goldens
def test_mask2former_objects_of_equal_score_may_change_places():
    with np.load(GOLDENS / "mask2former_post.npz") as arrays:
        found = instances(arrays["cls1"], arrays["mask_logits1"])
    empty = np.flatnonzero(found.scores == 0)
    assert len(empty) > 1
    order = np.arange(len(found.scores))
    order[empty] = empty[::-1]
    assert _unmatched(replace(found, labels=found.labels[order]), found) == 0
    first = found.labels.copy()
    first[0] += 1
    assert _unmatched(replace(found, labels=first), found) == 1
