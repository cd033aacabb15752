import itertools
import math

import pytest
import torch

from jfeval.benchmarks.scorers.beam import BeamSettings, search

END, START = 2, 1
CPU = torch.device("cpu")


def table(seed, words=5):
    """Logits of the next word by the last word alone."""
    return torch.randn(words, words, generator=torch.Generator().manual_seed(seed)) * 2


def stepper(tables):
    return lambda rows, begun: torch.stack([tables[int(row)][one[:, -1]] for row, one in zip(rows, begun, strict=True)])


def test_a_wide_beam_finds_the_best_of_all():
    """With as many beams as beginnings nothing is cut; the best of fixed length is found by hand."""
    logits = table(0)
    logits[:, END] = -50.0  # never ends of itself
    settings = BeamSettings(beams=5**3, least=0, most=3, start=START, end=END)
    (found,) = search(stepper([logits]), 1, settings, CPU)
    logs = logits.log_softmax(-1)

    def total(words):
        return sum(float(logs[a, b]) for a, b in itertools.pairwise([START, *words]))

    best = max(itertools.product(range(5), repeat=3), key=total)
    assert found.ids == [START, *best]
    assert found.score == pytest.approx(total(best) / (8 / 6) ** 0.6, rel=1e-5)


def test_the_end_is_forbidden_at_first_and_stops_the_search():
    logits = torch.full((5, 5), -20.0)
    logits[:, END] = 20.0
    logits[START, 3] = 10.0
    (found,) = search(stepper([logits]), 1, BeamSettings(beams=3, least=1, most=10, start=START, end=END), CPU)
    assert found.ids == [START, 3, END]
    assert math.isfinite(found.score)


def test_questions_together_are_what_they_are_alone():
    tables = [table(seed) for seed in range(8)]
    settings = BeamSettings(beams=3, least=1, most=6, start=START, end=END)
    together = search(stepper(tables), len(tables), settings, CPU)
    alone = [search(stepper([one]), 1, settings, CPU)[0] for one in tables]
    assert [one.ids for one in together] == [one.ids for one in alone]
    assert len({len(one.ids) for one in together}) > 1
