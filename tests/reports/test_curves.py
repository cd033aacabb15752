import pytest

from jfeval.reports.build import render_report
from jfeval.reports.curves import curves
from jfeval.reports.tables import group_runs


def recipe(**changes):
    return {"weights": "a" * 64, "recipe": {"guidance_scale": 2.0, "num_steps": 30, "solver": "euler", **changes}}


@pytest.fixture
def grid(make_store):
    return [make_store(prompts=2, model_identity=recipe(guidance_scale=w, num_steps=n)) for w in (1.0, 2.0, 5.0) for n in (10, 20)]


def only(stores):
    (group,) = group_runs(stores)
    return curves(group)


def test_a_curve_joins_runs_that_differ_in_one_setting(grid):
    (curve,) = only(grid)  # two values of num_steps make no curve
    assert curve.setting == "guidance scale"
    assert [line.name for line in curve.lines] == ["num steps 10", "num steps 20"]
    assert [text for _, text in curve.x_ticks] == ["1", "2", "5"]
    for line in curve.lines:
        assert [p.x for p in line.points] == [x for x, _ in curve.x_ticks]
        assert all(p.high <= p.y <= p.low for p in line.points)
        assert line.path.count("L") == 2


def test_positions_are_to_scale(grid):
    (curve,) = only(grid)
    (a, _), (b, _), (c, _) = curve.x_ticks
    assert (c - a) / (b - a) == pytest.approx(4, abs=0.01)
    values = {run.record().model_identity["recipe"]["guidance_scale"]: run for run in grid[::2]}
    (y0, low), (y1, high) = ((y, float(text)) for y, text in (curve.y_ticks[0], curve.y_ticks[-1]))
    for point, (_, run) in zip(curve.lines[0].points, sorted(values.items()), strict=True):
        headline = next(m.value for m in run.metrics() if m.headline)
        assert low + (high - low) * (y0 - point.y) / (y0 - y1) == pytest.approx(headline, abs=1e-3)


def test_seeds_and_models_are_lines_of_their_own(make_store):
    stores = [make_store(prompts=2, seed=s, model_identity=recipe(num_steps=n)) for s in (0, 1) for n in (10, 20, 30)]
    (curve,) = only(stores)
    assert [line.name for line in curve.lines] == ["seed 0", "seed 1"]


def test_more_lines_than_marks_are_counted_not_hidden(make_store):
    stores = [make_store(prompts=1, seed=s, model_identity=recipe(num_steps=n)) for s in range(7) for n in (10, 20, 30)]
    by_setting = {curve.setting: curve for curve in only(stores)}
    assert len(by_setting["num steps"].lines) == 6
    assert by_setting["num steps"].left_out == 1
    assert "1 more lines are in the table" in render_report(stores)


def test_settings_that_are_no_numbers_make_no_curve(make_store):
    stores = [make_store(prompts=1, model_identity=recipe(solver=s)) for s in ("euler", "midpoint", "heun")]
    assert only(stores) == []


def test_the_page_draws_the_curve(grid):
    page = render_report(grid)
    assert "overall against guidance scale" in page
    assert page.count('class="curve"') == 2
    assert "against" not in render_report(grid[:1])
