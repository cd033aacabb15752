import pytest

from jfeval.reports.build import render_report
from jfeval.reports.compare import compare, comparisons
from jfeval.reports.tables import group_runs
from jfeval.schema import Counts


def change(store, keep):
    """Turn verdicts of a run by a function of (position, verdict)."""
    from dataclasses import replace

    scores = [replace(s, values={**s.values, "correct": keep(i, s.values["correct"])}) for i, s in enumerate(store.scores())]
    store.write_results("official", scores, store.metrics())
    return store


def rows(table):
    return {row[0].value: row for row in table.rows}


def test_identical_runs_differ_nowhere(make_store):
    a, b = make_store(prompts=4), make_store(prompts=4)
    found = compare(a, b, "official")
    overall = rows(found.differences)["all items"]
    assert overall[1].value == 0
    assert overall[1].low < 0 < overall[1].high
    assert [cell.value for cell in overall[2:]] == [0, 0, "not separated", "1"]
    assert found.flips.rows == ()


def test_flips_are_counted_listed_and_told_apart(make_store):
    a = make_store(prompts=4)
    b = change(make_store(prompts=4), lambda i, right: 0.0 if i % 2 else right)
    expected = sum(bool(s.values["correct"]) for i, s in enumerate(a.scores()) if i % 2)
    found = compare(a, b, "official")
    overall = rows(found.differences)["all items"]
    assert overall[1].value == pytest.approx(-expected / len(a.scores()))
    assert [cell.value for cell in overall[2:5]] == [0, expected, "worse"]
    assert float(overall[5].value) < 0.05
    assert len(found.flips.rows) == expected
    assert {row[2].value for row in found.flips.rows} == {"lost"}
    back = compare(b, a, "official")
    assert rows(back.differences)["all items"][4].value == "better"
    assert len(rows(found.differences)) == 7


@pytest.mark.parametrize("changes", [{"seed": 1}, {"limit": 12, "counts": Counts(available=384, asked=12, finished=12, failed=0)}])
def test_runs_on_other_items_are_not_compared(make_store, changes):
    assert compare(make_store(prompts=2), make_store(prompts=2, **changes), "official") is None


def test_the_page_compares_with_the_best_run(make_store):
    runs = [make_store(prompts=2), change(make_store(prompts=2, model="other"), lambda i, right: 0.0)]
    (group,) = group_runs(runs)
    assert len(comparisons(group)) == 1
    page = render_report(runs)
    assert 'id="compare"' in page
    assert "not separated" in page or "worse" in page
    assert 'id="compare"' not in render_report(runs[:1])
