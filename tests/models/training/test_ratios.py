import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.ratios import ALIKE, Counts, Fixed, Phase, Scale, Schedule

WARM = Phase(understanding=0.30, generation=0.50, text=0.20, until=10_000)
REST = Phase(understanding=0.14, generation=0.80, text=0.06)


def test_the_papers_second_stage_by_hand():
    schedule = Schedule((WARM, REST), 512)
    assert schedule.counts(0) == Counts(understanding=154, generation=256, text=102)  # 153.6, 256, 102.4
    assert schedule.before(10_000) == Counts(understanding=1_536_000, generation=2_560_000, text=1_024_000)
    assert schedule.counts(10_000) == Counts(understanding=72, generation=409, text=31)  # 71.68, 409.6, 30.72
    after = schedule.before(50_000)
    assert after.understanding == 1_536_000 + round(40_000 * 512 * 0.14)
    assert sum(after) == 50_000 * 512


@given(st.integers(6, 40), st.integers(0, 300), st.integers(1, 4), st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any))
def test_counts_fill_every_batch_and_stay_within_a_sample_of_the_share(size, batch, accumulate, weights):
    shares = [w / sum(weights) for w in weights]
    last = Phase(understanding=shares[0], generation=shares[1], text=shares[2])
    schedule = Schedule((Phase(generation=1.0, until=3), last), size, accumulate)
    counts = schedule.counts(batch)
    assert sum(counts) == size
    assert min(counts) >= 0
    done = schedule.before(3 * accumulate + batch)
    for got, share, own in zip(done, shares, (0, 1, 0), strict=True):
        assert abs(got - share * batch * size - own * 3 * accumulate * size) <= 1 + 1e-6


def test_phases_end_at_updates_not_at_batches():
    schedule = Schedule((Phase(generation=1.0, until=2), Phase(text=1.0)), 4, accumulate=3)
    assert [schedule.counts(n).generation for n in range(8)] == [4] * 6 + [0, 0]


def test_batches_count_by_their_samples_of_a_kind():
    schedule = Schedule((Phase(understanding=0.375, generation=0.625),), 2, accumulate=4)
    assert [schedule.counts(n)[:2] for n in range(4)] == [(1, 1), (1, 1), (0, 2), (1, 1)]
    assert schedule.scale(0) == Scale(understanding=4 / 3, generation=4 / 5, text=1.0)  # one of three, and of five, in one of four batches
    assert schedule.scale(2) == Scale(understanding=0.0, generation=8 / 5, text=1.0)
    assert Schedule((Phase(understanding=0.5, generation=0.5),), 2, accumulate=4).scale(5) == ALIKE
    assert Fixed(Counts(1, 2, 3)).scale(7) == ALIKE


def test_fixed_counts():
    assert Fixed(Counts(1, 2, 3)).before(10) == Counts(10, 20, 30)
    assert MixtureSettings(generation=2, understanding=1, text=0).samples(10, 3) == Counts(understanding=30, generation=60, text=0)
    assert MixtureSettings(generation=2, understanding=1, text=0, leave_out=("generation",)).samples(10, 3) == Counts(30, 0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase(understanding=0.5, generation=0.6), "sum to 1"),
        (lambda: Phase(understanding=-0.5, generation=1.5), "must be >= 0"),
        (lambda: Phase(understanding=float("nan"), generation=1.0), "must be >= 0"),
        (lambda: Phase(understanding=1.0, text=float("nan")), "must be >= 0"),
        (lambda: Schedule((REST, REST), 512), "must end at rising updates"),
        (lambda: Schedule((WARM,), 512), "the last one at 0"),
        (lambda: Schedule((WARM, WARM, REST), 512), "rising"),
        (lambda: Schedule((REST,), 2), "cannot hold three kinds"),
        (lambda: MixtureSettings(phases=(REST,)), "belong together"),
        (lambda: MixtureSettings(leave_out=("pictures",)), "leave_out names pictures"),
        (lambda: MixtureSettings(text=0, leave_out=("generation", "understanding")), "the mixture is empty"),
    ],
)
def test_impossible_ratios_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
