import math

import numpy as np
import pytest

from jfeval.golden import GoldenResult, Tally, has_any, worst_difference

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("expected", "found", "worst"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([], [], 0.0),
        ([1.0], [[1.0]], INF),
        ([1.0, NAN], [1.0, NAN], 0.0),
        ([1.0, NAN], [NAN, 1.0], INF),
        ([NAN], [0.0], INF),
        ([0.0], [NAN], INF),
        ([INF], [INF], 0.0),
        ([INF], [-INF], INF),
        ([INF], [1.0], INF),
        ([True, False], np.array([1, 1]), 1.0),
    ],
)
def test_worst_difference(expected, found, worst):
    assert worst_difference(expected, found) == worst


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (GoldenResult(cases=3), "ok"),
        (GoldenResult(cases=0), "FAIL"),
        (GoldenResult(cases=3, mismatches=1), "FAIL"),
        (GoldenResult(cases=3, worst=1e-5, tolerance=1e-4), "ok"),
        (GoldenResult(cases=3, worst=1e-3, tolerance=1e-4), "FAIL"),
        (GoldenResult(cases=3, worst=NAN, tolerance=1e-4), "FAIL"),
        (GoldenResult(cases=3, implemented=False), "not implemented"),
    ],
)
def test_status(result, status):
    assert result.status == status


def test_a_tally_counts_and_keeps_the_first():
    tally = Tally()
    tally.equal("a", 1, 1)
    tally.close("b", [1.0], [1.001], 0.01)
    assert tally.result(2, numeric=True).status == "ok"
    tally.equal("c", True, 1)
    tally.close("d", NAN, 0.0, 0.01)
    tally.fields("e", ["x", "y"], ["y", "z"])
    result = tally.result(5, numeric=True)
    assert (result.mismatches, result.status, result.worst) == (4, "FAIL", INF)
    assert result.note == "c: expected True, found 1"


def test_a_set_that_lost_a_file_is_still_recognised(tmp_path):
    recognise = has_any("a.json", "b.json")
    assert not recognise(tmp_path)
    (tmp_path / "b.json").write_text("")
    assert recognise(tmp_path)
