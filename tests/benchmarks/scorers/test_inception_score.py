import numpy as np
import pytest

from jfeval.benchmarks.scorers.inception_score import inception_score
from jfeval.errors import UserError


def test_sure_and_varied_labels_score_their_number():
    sure = 100.0 * np.eye(4)[np.arange(20) % 4]
    assert inception_score(sure, splits=1) == (pytest.approx(4.0), pytest.approx(0.0))
    assert inception_score(sure, splits=5, shuffle=False) == (pytest.approx(4.0), pytest.approx(0.0))
    assert inception_score(np.zeros((8, 4)), splits=1)[0] == pytest.approx(1.0)


def test_splits_by_hand():
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]))
    chances = np.exp(logits)
    expected = [1.0]
    part = chances[1:]
    expected.append(np.exp(np.mean((part * np.log(part / part.mean(0))).sum(1))))
    mean, deviation = inception_score(logits, splits=2, shuffle=False)  # cut at 3 // 2 = 1
    assert (mean, deviation) == (pytest.approx(np.mean(expected)), pytest.approx(np.std(expected)))


def test_more_splits_than_rows_are_refused():
    with pytest.raises(UserError, match="into 4 splits"):
        inception_score(np.zeros((3, 2)), splits=4)
