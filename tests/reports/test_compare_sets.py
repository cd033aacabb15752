"""Two runs whose numbers are distances of sets, paired by influence."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from jfeval.benchmarks.fid_metrics import frechet_metrics, with_influence
from jfeval.benchmarks.scorers.frechet import moments_of
from jfeval.benchmarks.scorers.frechet_error import estimate_frechet, paired_difference
from jfeval.cli import main
from jfeval.differences import influence_difference
from jfeval.errors import UserError
from jfeval.reports.compare_sets import compare_sets
from jfeval.schema import Counts, RunRecord, Score
from jfeval.store import Store

N, WIDTH = 200, 6


def stored(folder, features, reference, **more):
    """A run as the harness leaves it, with the results of a distance of sets."""
    estimate = estimate_frechet([features], reference)
    first, *rest = frechet_metrics(estimate, name="fid_200", protocol="clean")
    scores = [Score(sample_id=f"{i:03d}", task="all", cluster=f"{i:03d}") for i in range(len(features))]
    record = RunRecord(
        name=folder.name,
        model=folder.name,
        benchmark="mjhq",
        edition="official",
        protocol="clean",
        seed=0,
        batch_size=8,
        data_identity={"sha256": "d"},
        judge_identity={"reference": {"features": "r"}},
        fingerprint=folder.name,
        counts=Counts(available=len(features), asked=len(features), finished=len(features), failed=0),
        started_at="2026-01-01T00:00:00+00:00",
    )
    store = Store(folder)
    store.write_record(replace(record, **more))
    store.write_results("clean", with_influence(scores, estimate.influence), [replace(first, headline=True), *rest])
    return store, estimate


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N, WIDTH))
    near = shared + 0.1 * rng.standard_normal((N, WIDTH))
    far = shared + 0.1 * rng.standard_normal((N, WIDTH)) + 0.4
    return near, far, moments_of([rng.standard_normal((4000, WIDTH))])


def test_the_difference_has_the_error_of_the_paired_influences(world, tmp_path):
    near, far, reference = world
    a, of_a = stored(tmp_path / "near", near, reference)
    b, of_b = stored(tmp_path / "far", far, reference)
    table = compare_sets(a, b, "clean")
    _, first, second, difference, interval, verdict, p = [cell.value for cell in table.rows[0]]
    value, se = paired_difference(of_b, of_a)
    assert (first, second, difference) == (of_a.value, of_b.value, pytest.approx(value))
    low, high = (float(part) for part in interval.strip("[]").split(", "))
    assert high - low == pytest.approx(2 * 1.972 * se, rel=1e-3)  # t(0.975, 199) = 1.972
    assert (verdict, float(p) < 0.01) == ("farther", True)
    assert [cell.value for cell in compare_sets(b, a, "clean").rows[0]][5] == "nearer"
    assert len(table.rows) == 2  # with and without bias


def test_runs_that_do_not_differ_are_not_separated(world, tmp_path):
    near, _, reference = world
    rng = np.random.default_rng(5)
    a, _ = stored(tmp_path / "one", near, reference)
    b, _ = stored(tmp_path / "two", near + 0.01 * rng.standard_normal(near.shape), reference)
    assert compare_sets(a, b, "clean").rows[0][5].value == "not separated"


def test_the_command_prints_it(world, tmp_path):
    near, far, reference = world
    stored(tmp_path / "near", near, reference)
    stored(tmp_path / "far", far, reference)
    done = CliRunner().invoke(main, ["compare", str(tmp_path / "near"), str(tmp_path / "far")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "farther" in done.output
    assert "paired by item" in done.output


def test_other_references_and_other_images_are_refused(world, tmp_path):
    near, far, reference = world
    a, _ = stored(tmp_path / "near", near, reference)
    b, _ = stored(tmp_path / "far", far, reference, judge_identity={"reference": {"features": "q"}})
    with pytest.raises(UserError, match="different references"):
        compare_sets(a, b, "clean")
    c, _ = stored(tmp_path / "part", far[:150], reference)
    with pytest.raises(UserError, match=r"holds 200 images and .* 150, 150 of them of the same items"):
        compare_sets(a, c, "clean")
    few, _ = stored(tmp_path / "few", far[:20], reference)  # under 5 images per feature: no influence
    assert compare_sets(a, few, "clean") is None
    d, _ = stored(tmp_path / "other", far, reference, data_identity={"sha256": "e"})
    assert compare_sets(a, d, "clean") is None
    assert compare_sets(a, b, "gigagan") is None


def test_influences_by_hand():
    found = influence_difference(0.5, [1.0, -1.0, 0.0], [0.0, 1.0, -1.0])
    assert found.se == pytest.approx(np.std([-1.0, 2.0, -1.0], ddof=1) / np.sqrt(3))
    assert (found.value, found.df) == (0.5, 2)
    with pytest.raises(ValueError, match="as many influences on both sides"):
        influence_difference(0.0, [1.0], [1.0])
