import csv
from importlib.resources import files

import pytest

from jfeval.reports.paper import PLACES, references
from jfeval.reports.tables import leaderboard


def test_every_printed_number_has_a_source_and_is_a_number():
    with (files("jfeval.reports") / "paper_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 80
    assert all(row["source"] and float(row["value"]) >= 0 for row in rows)
    keys = [tuple(row[k] for k in ("model", "benchmark", "metric", "source")) for row in rows]
    assert len(set(keys)) == len(keys)


def test_the_papers_geneval_row_is_on_our_scale():
    rows = {one.model: one for one in references("geneval", "official", "official")}
    janusflow = rows["JanusFlow"]
    assert janusflow.source == "JanusFlow Table 2"
    tasks = [value for (name, _), value in janusflow.values.items() if name == "task"]
    assert len(tasks) == 6
    assert sum(tasks) / 6 == pytest.approx(janusflow.values["overall", ""], abs=0.005)  # 0.63 is the mean of the six
    assert not any(model.startswith("ablation") for model in rows)


def test_percentages_become_fractions():
    (row,) = [
        one
        for one in references("pope", "official", "vlmevalkit-nov2024")
        if one.source == "JanusFlow Table 5" and one.model == "JanusFlow"
    ]
    assert row.values == {("f1", "random"): pytest.approx(0.88)}


@pytest.mark.parametrize(("edition", "protocol"), [("shapes", "official"), ("official", "other")])
def test_no_other_edition_or_scorer_is_compared(edition, protocol):
    assert references("geneval", edition, protocol) == []


def test_reference_rows_stand_below_the_runs_and_are_marked(make_store):
    (table,) = leaderboard([make_store(prompts=2, edition="official")])
    models = [row[0].value for row in table.rows]
    assert models[0] == "janusflow-shapes"
    assert {"JanusFlow", "SDXL", "DALL-E 2"} <= set(models[1:])
    assert all(row[0].mark.startswith("printed: ") for row in table.rows[1:])
    assert any("not measured here" in note for note in table.notes)
    (shapes,) = leaderboard([make_store(prompts=2)])
    assert len(shapes.rows) == 1


def test_places_name_known_protocols():
    from jfeval.registry import list_benchmarks, load_benchmark

    for (benchmark, _), place in PLACES.items():
        if benchmark in list_benchmarks():
            assert place.protocol in load_benchmark(benchmark).protocols, benchmark
