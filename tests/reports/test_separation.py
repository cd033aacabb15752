from dataclasses import replace

from jfeval.reports.overview import overview
from jfeval.reports.separation import NOTE, Standings
from jfeval.reports.tables import group_runs, leaderboard
from jfeval.schema import Counts, Metric


def change(store, keep):
    """Turn verdicts by a function of (position, verdict), and make the numbers follow."""
    from jfeval.benchmarks.geneval import GenEval

    scores = [replace(s, values={**s.values, "correct": keep(i, s.values["correct"])}) for i, s in enumerate(store.scores())]
    store.write_results("official", scores, GenEval().aggregate(scores, protocol="official"))
    return store


def standings(stores, key="overall"):
    (table,) = leaderboard(stores)
    i = [column.key for column in table.columns].index(key)
    return {row[0].value: row[i].standing for row in table.rows}


def test_best_and_what_cannot_be_told_from_it_are_marked(make_store):
    good = make_store(prompts=6, model="good")
    near = change(make_store(prompts=6, model="near"), lambda i, right: right if i else 1 - right)
    bad = change(make_store(prompts=6, model="bad"), lambda i, right: 0.0)
    found = standings([good, near, bad])
    assert found["bad"] == ""
    assert {found["good"], found["near"]} == {"best", "near"}


def test_pairing_tells_apart_what_intervals_alone_do_not(make_store):
    """A few verdicts lost and none gained: far within the intervals, and yet no chance."""
    good = make_store(prompts=10, model="good")
    lost = {i for i, s in enumerate(good.scores()) if s.values["correct"] and i % 24 == 0}

    def lose(i, right):
        return 0.0 if i in lost else right

    worse = change(make_store(prompts=10, model="worse"), lose)
    one, two = (next(m for m in store.metrics() if m.headline) for store in (good, worse))
    assert two.ci_high > one.value > two.value
    assert standings([good, worse]) == {"good": "best", "worse": ""}
    elsewhere = change(make_store(prompts=10, model="worse", data_identity={"name": "other"}), lose)
    assert standings([good, elsewhere]) == {"good": "best", "worse": "near"}


def test_equal_values_are_equally_good(make_store):
    assert of(make_store, [0.5, 0.5, 0.1], se=0.01) == ["best", "best", ""]
    assert of(make_store, [0.0, 0.0], better="lower", se=None) == ["", ""], "nobody is best where nobody is worse"


def test_one_run_alone_is_not_best_and_limited_runs_are_not_ranked(make_store):
    assert standings([make_store(prompts=2)]) == {"janusflow-shapes": ""}
    counts = Counts(available=384, asked=12, finished=12, failed=0)
    limited = [make_store(prompts=2, model=m, limit=12, counts=counts) for m in "ab"]
    assert set(standings(limited).values()) == {""}


def of(make_store, values, **fields):
    stores = [make_store(prompts=1, data_identity={"i": i}) for i in range(len(values))]
    column = [Metric(name="n", protocol="official", value=v, n=9, clusters=9, **fields) for v in values]
    return Standings(stores, "official", [True] * len(values)).of(column)


def test_a_distance_is_best_where_it_is_smallest_and_a_description_nowhere(make_store):
    assert of(make_store, [2.0, 1.0, 9.0], better="lower", se=0.1) == ["", "best", ""]
    assert of(make_store, [2.0, 1.0], better="neither", se=0.1) == ["", ""]
    assert of(make_store, [0.5, 0.9], se=None) == ["near", "best"]
    assert of(make_store, [0.5, float("nan")], se=0.1) == ["", ""]


def test_a_smaller_distance_leads_the_table(make_store):
    stores = []
    for value in (3.0, 1.0, 2.0):
        stores.append(make_store(prompts=1, model=f"m{value}"))
        metric = Metric(name="fid", protocol="official", value=value, n=9, clusters=9, headline=True, better="lower")
        stores[-1].write_results("official", [], [metric])
    (group,) = group_runs(stores)
    assert [run.record().model for run in group.runs] == ["m1.0", "m2.0", "m3.0"]


def test_the_marks_are_in_every_form_for_people_and_explained(make_store):
    (table,) = leaderboard([make_store(prompts=3), make_store(prompts=3, seed=1)])
    assert NOTE in table.notes
    for text in (table.to_text(), table.to_markdown()):
        assert "●" in text
        assert "○" in text


def test_the_overview_has_a_row_per_model_and_seed_and_a_column_per_benchmark(make_store):
    stores = [
        make_store(prompts=2, model="one"),
        make_store(prompts=2, model="one", benchmark="geneval-heldout"),
        make_store(prompts=2, model="two"),
        make_store(prompts=2, model="two", seed=1),
        make_store(prompts=2, model="two", edition="official"),
        make_store(prompts=2, model="one", benchmark="dpg", counts=Counts(available=9, asked=2, finished=2, failed=0)),
    ]
    (table,) = overview(stores)
    assert [c.key for c in table.columns if c.kind == "metric"] == ["geneval.official", "geneval-heldout.official"]
    assert table.headings == [("", 1), ("Generation", 2)]
    assert [(row[0].value, row[1].value) for row in table.rows] == [("one", 0), ("two", 0), ("two", 1)]
    headline = next(m for m in stores[0].metrics() if m.headline)
    assert (table.rows[0][2].value, table.rows[0][2].n) == (headline.value, headline.n)
    assert table.rows[2][3].value is None
    assert overview(stores[2:5]) == []


def test_two_runs_of_one_kind_get_a_row_each(make_store):
    stores = [make_store(prompts=1), make_store(prompts=1, judge_identity={"name": "b"}), make_store(prompts=1, benchmark="dpg")]
    (table,) = overview(stores)
    assert len(table.rows) == 2
