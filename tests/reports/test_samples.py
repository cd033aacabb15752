from jfeval.reports.build import render_report
from jfeval.reports.naming import run_names
from jfeval.reports.recipe import recipe_tables
from jfeval.reports.samples import MOST_SLOW, answers_table, failed_table, slowest_table
from jfeval.reports.tables import group_runs
from jfeval.schema import Metric


def test_failed_samples_are_listed_with_their_reason(make_store):
    store = make_store(prompts=2, finished=9, failed=2)
    table = failed_table([store, make_store(prompts=2)])
    assert [row[1].value for row in table.rows] == ["00000", "00001"]
    assert {row[3].value for row in table.rows} == {"the model returned a picture that is not finite"}
    assert "2 failed." in table.notes
    assert any(note.startswith("3 more are not finished") for note in table.notes)
    assert failed_table([make_store(prompts=2)]) is None


def test_the_slowest_samples_come_first(make_store):
    store = make_store(prompts=3)
    table = slowest_table([store, make_store(prompts=3, seed=1)])
    seconds = [row[3].value for row in table.rows]
    assert seconds == sorted(seconds, reverse=True)
    assert len(seconds) == 2 * MOST_SLOW
    assert seconds[0] == max(output.seconds for output in store.outputs().values())


def test_answers_that_answer_nothing_are_counted(make_store):
    store = make_store(prompts=1)
    kinds = [
        Metric(name=name, protocol="official", value=v, n=40, clusters=40, detail=name) for name, v in (("empty", 0.1), ("refused", 0.2))
    ]
    (plain,) = group_runs([store])
    assert answers_table(plain) is None
    store.write_results("official", store.scores(), [*store.metrics(), *kinds])
    (group,) = group_runs([store])
    table = answers_table(group)
    assert [column.key for column in table.columns] == ["run", "empty", "refused"]
    assert [cell.value for cell in table.rows[0][1:]] == [0.1, 0.2]
    page = render_report([store])
    assert "Answers that answer nothing" in page
    assert "Slowest samples" in page


def test_a_recipe_marks_the_rows_and_the_values_that_differ(make_store):
    def identity(scale):
        return {"weights": "a" * 64, "recipe": {"guidance_scale": scale, "num_steps": 30}}

    stores = [make_store(prompts=1, model_identity=identity(s)) for s in (2.0, 2.0, 5.0)]
    table = next(table for table in recipe_tables(stores) if table.title == "model")
    rows = {row[0].value: row for row in table.rows}
    assert [cell.mark for cell in rows["recipe.guidance_scale"]] == ["differs", "", "", "differs"]
    assert [cell.mark for cell in rows["recipe.num_steps"]] == ["", "", "", ""]
    page = render_report(stores)
    assert page.count('class="other"') >= 1
    assert '<td class="same" colspan="3"><bdi>30</bdi></td>' in page


def test_names_tell_runs_apart(make_store):
    def identity(scale):
        return {"weights": "a" * 64, "recipe": {"guidance_scale": scale}}

    stores = [make_store(prompts=1, model_identity=identity(s)) for s in (2.0, 5.0, 5.0)]
    stores += [make_store(prompts=1, seed=1), make_store(prompts=1, benchmark="dpg")]
    names = run_names([store.record() for store in stores])
    assert names[0] == "janusflow-shapes, seed 0, guidance_scale 2.0"
    assert names[1:3] == [f"janusflow-shapes, seed 0, guidance_scale 5.0, {store.record().name}" for store in stores[1:3]]
    assert names[3:] == ["janusflow-shapes, seed 1", "janusflow-shapes, seed 0"]
