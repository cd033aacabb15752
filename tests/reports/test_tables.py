from dataclasses import replace
from types import SimpleNamespace

import pytest

from jfeval.reports.charts import task_chart
from jfeval.reports.frames import metrics_frame, samples_frame
from jfeval.reports.overview import overview
from jfeval.reports.recipe import recipe_tables
from jfeval.reports.status import status
from jfeval.reports.tables import group_runs, leaderboard, task_table
from jfeval.reports.text import edition_words
from jfeval.schema import Counts, Metric


def column(table, key):
    i = [c.key for c in table.columns].index(key)
    return [row[i] for row in table.rows]


def test_leaderboard_holds_the_stored_numbers(full_store):
    (table,) = leaderboard([full_store])
    stored = {(m.name, m.task): m for m in full_store.metrics()}
    keys = [c.key for c in table.columns if c.kind == "metric"]
    assert keys == [
        "overall",
        *(f"task.{t}" for t in ("single_object", "two_object", "counting", "colors", "position", "color_attr")),
        "image_mean",
        "exact_scene",
    ]
    for key in keys:
        (cell,) = column(table, key)
        metric = stored[tuple(key.split(".")) if "." in key else (key, "")]
        assert (cell.value, cell.low, cell.high, cell.n) == (metric.value, metric.ci_low, metric.ci_high, metric.n)
    assert [cell.value for cell in table.rows[0]][-2:] == ["shapes", "official"]


def test_runs_that_may_not_be_compared_stand_in_different_tables(make_store):
    whole = make_store(prompts=2)
    limited = make_store(prompts=2, seed=1, limit=12, counts=Counts(available=384, asked=12, finished=12, failed=0))
    official = make_store(prompts=2, seed=2, edition="official")
    other = make_store(prompts=2, seed=3, protocol="strict")
    tables = leaderboard([limited, official, other, whole])
    assert [sum(not row[0].mark.startswith("printed") for row in t.rows) for t in tables] == [1, 1, 1, 1]
    assert [t.rows[0][0].mark for t in tables] == ["", "", "limited: 12 of 384", ""]
    assert "not to be ranked" in tables[2].title
    for table in tables:
        assert len({cell.value for cell in column(table, "edition")}) == 1


def test_ranking_does_not_depend_on_the_order_given(make_store):
    stores = [make_store(prompts=3, seed=seed, model=f"m{seed}") for seed in range(3)]
    (forwards,), (backwards,) = leaderboard(stores), leaderboard(stores[::-1])
    assert forwards == backwards
    values = [cell.value for cell in column(forwards, "overall")]
    assert values == sorted(values, reverse=True)


def test_rows_say_in_which_settings_they_differ(make_store):
    one = make_store(prompts=2, model_identity={"weights": "a" * 64, "recipe": {"guidance_scale": 2.0, "num_steps": 30}})
    two = make_store(prompts=2, seed=1, model_identity={"weights": "b" * 64, "recipe": {"guidance_scale": 4.0, "num_steps": 30}})
    (table,) = leaderboard([one, two])
    assert {cell.value for cell in column(table, "differs")} == {
        "guidance_scale 2.0, weights aaaaaaaa",
        "guidance_scale 4.0, weights bbbbbbbb",
    }


def test_a_title_names_the_model_and_the_rest_is_said_of_equal_titles_only(make_store):
    ours = make_store(prompts=2, model="janusflow", title="ours, no REPA", model_identity={"weights": "a" * 64})
    theirs = make_store(prompts=2, model="janusflow", model_identity={"weights": "b" * 64})
    (table,) = leaderboard([ours, theirs])
    assert {cell.value for cell in column(table, "model")} == {"ours, no REPA", "janusflow"}
    assert "differs" not in [c.key for c in table.columns]
    assert {ours.record().title, "janusflow"} == set(metrics_frame([ours, theirs])["title"])


def test_task_table_has_a_row_per_task_and_per_total(full_store):
    table = task_table(full_store)
    assert [row[0].value for row in table.rows[:6]] == ["single object", "two object", "counting", "colors", "position", "color attr"]
    assert table.rows[table.totals[0]][0].value == "overall"
    exact = {m.task: m.value for m in full_store.metrics() if m.name == "exact_scene"}
    overall = table.rows[table.totals[0]]
    assert overall[[c.key for c in table.columns].index("exact_scene")].value == exact[""]
    assert all(cell.value == 40 for cell in column(table, "n")[:6])


def test_limited_run_is_marked_in_its_task_table(make_store):
    store = make_store(prompts=2, counts=Counts(available=384, asked=12, finished=12, failed=0))
    assert "limited: 12 of 384" in task_table(store).to_text()


def test_recipe_marks_what_differs(make_store):
    tables = {t.title: t for t in recipe_tables([make_store(prompts=2), make_store(prompts=2, seed=1)])}
    assert set(tables) == {"run", "model", "data", "judge", "provenance"}
    marks = {row[0].value: row[0].mark for row in tables["run"].rows}
    assert (marks["seed"], marks["model"]) == ("differs", "")
    settings = {row[0].value: row[1].value for row in tables["model"].rows}
    assert settings["recipe.guidance_scale"] == "4.0"


def test_a_run_without_numbers_still_has_a_row(make_store):
    store = make_store(prompts=2, finished=0)
    (table,) = leaderboard([store])
    assert table.rows[0][0].mark == "partial: 0 of 12 finished"
    assert task_table(store).rows == ()


@pytest.mark.parametrize(
    ("counts", "finished_at", "kind", "mark"),
    [
        ((384, 384, 384, 0), "x", "complete", ""),
        ((384, 384, 384, 0), "", "partial", "partial: not scored to the end"),
        ((384, 20, 20, 0), "x", "limited", "limited: 20 of 384"),
        ((384, 384, 380, 4), "x", "failed", "failed: 4 of 384"),
        ((384, 384, 100, 0), "", "partial", "partial: 100 of 384 finished"),
        ((384, 20, 17, 3), "x", "failed", "limited: 20 of 384; failed: 3 of 20"),
        ((384, 20, 10, 2), "", "failed", "limited: 20 of 384; partial: 10 of 20 finished; failed: 2 of 20"),
    ],
)
def test_status_names_every_flaw(counts, finished_at, kind, mark):
    available, asked, finished, failed = counts
    record = SimpleNamespace(counts=Counts(available=available, asked=asked, finished=finished, failed=failed), finished_at=finished_at)
    assert (status(record).kind, status(record).mark) == (kind, mark)


def test_editions_in_plain_words():
    assert edition_words("shapes", "geneval") == "shapes: an embedded synthetic world, not comparable with published GenEval numbers"


def test_frames_are_tidy(make_store):
    store = make_store(prompts=2, finished=9, failed=1)
    metrics = metrics_frame([store])
    assert len(metrics) == len(store.metrics())
    assert set(metrics["status"]) == {status(store.record()).mark}
    samples = samples_frame([store])
    assert len(samples) == 8 * 4 + 1 + 3
    assert list(samples["error"].unique()) == ["the model returned a picture that is not finite", "", "not finished"]
    mean = samples.dropna(subset="correct").groupby("task")["correct"].mean()
    for metric in store.metrics():
        if metric.name == "task":
            assert mean[metric.task] == pytest.approx(metric.value)


def test_replaced_protocols_are_read_from_their_own_folder(make_store):
    store = make_store(prompts=2)
    strict = [replace(m, protocol="strict", value=0.125) for m in store.metrics()]
    store.write_results("strict", store.scores(), strict)
    titles = [t.title for t in leaderboard([store])]
    assert titles == ["GenEval, shapes edition, protocol official", "GenEval, shapes edition, protocol strict"]
    assert leaderboard([store])[1].rows[0][2].value == 0.125


# distances of sets, which depend on how many images they are of


@pytest.fixture
def drawn_set(make_store):
    """Return a function that writes a run of MJHQ's form with a distance of so many images, and of 3,000 in each category."""

    def write(size, value, **changes):
        store = make_store(prompts=1, benchmark="mjhq", edition="official", protocol="gigagan", **changes)

        def metric(name, number, **more):
            return Metric(name=name, protocol="gigagan", value=number, n=3000, clusters=3000, se=0.01, better="lower", **more)

        metrics = [metric(f"fid_{size}", value, headline=True), metric(f"fid_{size}_corrected", value - 1), metric("kid", 0.002)]
        for task in ("animals", "art"):
            metrics += [metric("fid_3k", value + 20, task=task), metric("kid", 0.003, task=task)]
        store.write_results("gigagan", store.scores(), metrics)
        return store

    return write


def test_a_category_s_fid_3k_stands_in_no_column_with_the_whole_set_s(drawn_set):
    store = drawn_set("30k", 9.5)
    (board,) = leaderboard([store])
    shown = {c.key: c.label for c in board.columns if c.kind == "metric"}
    assert shown == {
        "fid_30k": "FID-30k",
        "kid.animals": "animals",
        "kid.art": "art",
        "fid_30k_corrected": "FID-30k corrected",
        "kid": "KID",
    }
    table = task_table(store)
    assert [c.label for c in table.columns][:3] == ["task", "score", "FID-3k"]
    by_row = {row[0].value: [cell.value for cell in row[1:3]] for row in table.rows}
    assert by_row["animals, KID"] == [0.003, 29.5]
    assert by_row["FID-30k"] == [9.5, None]
    assert any(note.startswith("FID-3k is of a task's images alone") for note in table.notes)
    chart = task_chart(*group_runs([store]))
    assert [(row.label, row.marks[0].text) for row in chart.rows] == [("animals", "0.003"), ("art", "0.003"), ("KID", "0.002")]


def test_fid_10k_and_fid_30k_are_never_ranked_together(drawn_set, make_store):
    stores = [drawn_set("30k", 9.5, model="a"), drawn_set("10k", 11.0, model="b"), drawn_set("30k", 9.7, model="c")]
    ten, thirty = leaderboard(stores)
    assert ten.title == "MJHQ-30K, official edition, protocol gigagan, FID-10k"
    assert thirty.title == "MJHQ-30K, official edition, protocol gigagan, FID-30k"
    assert [cell.value for cell in column(ten, "model")] == ["b"]
    assert [cell.value for cell in column(thirty, "model")][:2] == ["a", "c"]
    assert "fid_10k" not in {c.key for c in thirty.columns}
    assert [cell.standing for cell in column(ten, "fid_10k")] == [""]
    (table,) = overview([*stores, make_store(prompts=2, edition="official", model="a")])
    labels = [c.label for c in table.columns if c.kind == "metric"]
    assert labels == ["GenEval (official)", "MJHQ-30K (gigagan, FID-10k)", "MJHQ-30K (gigagan, FID-30k)"]
    assert [cell.value for cell in column(table, "mjhq.gigagan.fid_10k")].count(None) == 2
    assert [cell.value for cell in column(table, "mjhq.gigagan.fid_30k")].count(None) == 1
    # runs of one size need no such name
    assert leaderboard(stores[:1])[0].title == "MJHQ-30K, official edition, protocol gigagan"
