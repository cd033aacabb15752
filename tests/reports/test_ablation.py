from contextlib import nullcontext
from dataclasses import replace

import pytest

from jfeval.ablation import AblationSpec, Row, append_rows, item_digits, item_values, read_rows, read_spec, reckon, training_digest
from jfeval.errors import UserError
from jfeval.reports.ablation import Results, claims_table, differences_table, paper_table, reach_table, tables, verdict, write_ablation
from jfeval.reports.ablation_pictures import PROMPTS, picture_grid
from jfeval.reports.images import embed
from jfeval.store import Store

CLAIMS = [
    {
        "name": "repa",
        "text": "REPA helps generation",
        "kind": "superiority",
        "margin": 0.02,
        "comparisons": [{"metric": "geneval.overall", "better": "F", "than": "A"}],
    },
    {
        "name": "unified",
        "text": "Costs <b>little</b>",
        "kind": "non-inferiority",
        "margin": 0.05,
        "comparisons": [
            {"metric": "geneval.overall", "better": "F", "than": "E"},
            {"metric": "gqa.accuracy", "better": "F", "than": "D"},
        ],
    },
]
SPEC = AblationSpec(title="T", recipe="r", variants=dict.fromkeys("ADEF", "x"), claims=CLAIMS)
TITLES = {"A": ("no REPA", "A"), "D": ("understanding only", "D"), "E": ("generation only", "E"), "F": ("final", "F")}


def row(variant, seed, value, metric="geneval.overall", step=100, final=True):
    return Row(variant=variant, seed=seed, digest=f"{variant}{seed}", step=step, final=final, metric=metric, value=value, updates=100)


def results(seeds, *, curve=()):
    rows = []
    for s in range(seeds):
        rows += [row("F", s, 0.50 + 0.01 * s), row("A", s, 0.40), row("E", s, 0.52 + 0.01 * s)]
        rows += [row("F", s, 0.60, "gqa.accuracy"), row("D", s, 0.60 + 0.002 * s, "gqa.accuracy")]
    return Results(spec=SPEC, rows=(*rows, *curve), titles=TITLES)


def test_claims_resolve_with_six_seeds_and_never_with_five():
    assert verdict(results(6), SPEC.claims[0]) == "supported"
    assert verdict(results(6), SPEC.claims[1]) == "supported"
    assert verdict(results(5), SPEC.claims[0]) == "not resolved"


def test_a_claim_needs_all_its_comparisons():
    six = results(6)
    without = Results(spec=SPEC, rows=tuple(r for r in six.rows if r.variant != "D"), titles=TITLES)
    assert verdict(without, SPEC.claims[1]) == "not resolved"
    worse = tuple(r if r.variant != "D" else row("D", r.seed, 0.9, "gqa.accuracy") for r in six.rows)
    assert verdict(Results(spec=SPEC, rows=worse, titles=TITLES), SPEC.claims[1]) == "contradicted"


def test_controls_of_one_metric_must_agree():
    """Training on both tasks against the single task with as many samples, D, and with as many updates, D2."""
    comparisons = [{"metric": "gqa.accuracy", "better": "F", "than": than} for than in ("D", "D2")]
    drawing = {"metric": "geneval.overall", "better": "F", "than": "E"}
    claim = {**CLAIMS[1], "comparisons": [*comparisons, drawing]}
    spec = AblationSpec(title="T", recipe="r", variants=dict.fromkeys(("D", "D2", "E", "F"), "x"), claims=[claim])

    def judged(d, d2, e=0.5):
        values = {"F": 0.6, "D": d, "D2": d2}
        rows = [row(name, s, value + 0.001 * (name != "F") * s, "gqa.accuracy") for name, value in values.items() for s in range(6)]
        rows += [row(name, s, value + 0.001 * s) for name, value in (("F", 0.5), ("E", e)) for s in range(6)]
        return verdict(Results(spec=spec, rows=tuple(rows), titles=TITLES), spec.claims[0])

    assert judged(0.9, 0.6) == "not resolved"
    assert judged(0.6, 0.9) == "not resolved"
    assert judged(0.9, 0.9) == "contradicted"
    assert judged(0.6, 0.6) == "supported"
    assert judged(0.6, 0.6, e=0.9) == "contradicted"  # the only comparison of its metric
    assert judged(0.9, 0.6, e=0.9) == "contradicted"


FID = {
    "name": "repa",
    "text": "t",
    "kind": "superiority",
    "margin": 1.0,
    "comparisons": [{"metric": "mjhq.fid_10k", "better": "F", "than": "A", "lower": True}],
}
OFFICIAL = AblationSpec(title="T", recipe="r", variants=dict.fromkeys("AF", "x"), edition="official", claims=[FID])


def drawn(better, spec=OFFICIAL):
    rows = [row(name, s, fid + 0.01 * s, "mjhq.fid_10k") for name, fid in (("F", better), ("A", 19.84)) for s in range(6)]
    rows += [row(name, s, 0.6, "geneval.overall") for name in "AF" for s in range(6)]
    return Results(spec=spec, rows=tuple(rows), titles=TITLES)


def test_where_lower_is_better_the_lower_one_is_ahead():
    assert verdict(drawn(17.61), OFFICIAL.claims[0]) == "supported"
    assert verdict(drawn(19.5), OFFICIAL.claims[0]) == "contradicted"  # ahead, by less than the margin
    assert verdict(drawn(21.0), OFFICIAL.claims[0]) == "contradicted"
    line = claims_table(drawn(17.61)).rows[0]
    assert (line[1].text(), line[2].value) == ("mjhq.fid_10k (lower is better)", "A minus F")
    assert line[4].value == pytest.approx(2.23)
    curve = [row(name, 0, {"A": 30.0, "F": 18.0}[name], "mjhq.fid_10k", step=50, final=False) for name in "AF"]
    results = drawn(17.61)
    table = reach_table(replace(results, rows=(*results.rows, *curve)))
    assert {line[2].value: (line[3].value, line[6].value) for line in table.rows if line[2].value == "F"} == {"F": (19.84, 50)}


def test_fid_of_ten_thousand_stands_beside_the_papers():
    lines = {}
    for found in (drawn(17.9), results(1)):
        table = paper_table(found)
        labels = [column.label for column in table.columns]
        assert labels[labels.index("FID-10k (paper)") + 1] == "FID-10k (ours)"
        assert not any("fid_10k" in label for label in labels)
        lines[found.spec.edition] = {line[0].value: dict(zip(labels, line, strict=True)) for line in table.rows}
    assert lines["official"]["F"]["FID-10k (paper)"].value == 17.61
    assert lines["official"]["F"]["FID-10k (ours)"].value == pytest.approx(17.925)
    assert lines["official"]["F"]["FID-10k (ours)"].n == 6
    assert lines["shapes"]["F"]["FID-10k (ours)"].value == "not run"
    assert lines["official"]["F"]["CLIP (ours)"].value == "not run"


def test_numbers_by_weights_trained_on_captions_are_compared_with_nothing():
    table = differences_table(drawn(17.61))
    assert {line[0].value for line in table.rows} == {"mjhq.fid_10k"}
    assert any("have a part in geneval.overall: left out" in note for note in table.notes)
    assert "geneval.overall (official)" in {column.label for column in paper_table(drawn(17.61)).columns}
    exact = differences_table(results(2))
    assert {line[0].value for line in exact.rows} == {"geneval.overall", "gqa.accuracy"}
    assert not any("captions" in note for note in exact.notes)


@pytest.mark.parametrize(
    ("metric", "edition", "refused"),
    [
        *((f"geneval.{name}", "official", True) for name in ("overall", "colors", "color_attr", "image_mean", "prompt_any", "exact_scene")),
        *((f"dpg.{name}", "official", True) for name in ("overall", "overall_fixed", "l1")),
        ("mjhq.clip_score", "official", True),
        ("mjhq.fid_10k", "official", False),
        ("gqa.accuracy", "official", False),
        ("geneval.overall", "shapes", False),
        ("geneval.overall", "shapes-small", False),
        ("dpg.overall", "shapes", False),
        ("mjhq.contrastive_similarity", "shapes", True),
        ("mine.accuracy", "official", False),
    ],
)
def test_what_a_claim_may_rest_on_depends_on_the_edition(metric, edition, refused):
    claim = {**FID, "comparisons": [{"metric": metric, "better": "F", "than": "A"}]}
    values = {"recipe": "r", "variants": dict.fromkeys("AF", "x"), "edition": edition, "claims": [claim]}
    with pytest.raises(UserError, match="trained on captions") if refused else nullcontext():
        AblationSpec(**values)


def test_only_paired_seeds_are_compared():
    two = results(2)
    more = Results(spec=SPEC, rows=(*two.rows, row("F", 9, 0.99)), titles=TITLES)
    found = more.difference("geneval.overall", "F", "A")
    assert found.differences == pytest.approx((0.10, 0.11))


def test_the_papers_numbers_stand_beside_ours():
    table = paper_table(results(2))
    by_name = {line[0].value: dict(zip((c.label for c in table.columns), line, strict=True)) for line in table.rows}
    assert by_name["A"]["FID-10k (paper)"].value == 19.84
    assert by_name["F"]["GQA (paper)"].value == 54.83
    assert by_name["E"]["POPE (paper)"].value is None
    assert by_name["F"]["geneval.overall (shapes)"].value == pytest.approx(0.505)
    assert by_name["F"]["VQAv2 (ours)"].value == "not run"


def test_metrics_that_no_claim_is_about_are_compared_too():
    rows = [row("F", 0, 0.9, metric="pope.pooled_accuracy"), row("F", 0, 0.8, metric="pope.pooled_f1")]
    found = Results(spec=SPEC, rows=(*results(1).rows, *rows), titles=TITLES)
    assert found.metrics() == [*results(1).metrics(), "pope.pooled_accuracy"]
    assert {c.label for c in paper_table(found).columns} >= {"pope.pooled_accuracy (shapes)"}


def test_every_seed_is_shown_in_the_differences():
    line = next(r for r in differences_table(results(3)).rows if r[1].value == "A minus F" and r[0].value == "geneval.overall")
    assert line[5].value == "-0.100 -0.110 -0.120"
    assert line[4].value is None  # nothing is known prompt by prompt
    assert line[7].value is not None


def test_updates_to_reach_a_score():
    curve = [row("F", 0, 0.45, step=50, final=False), row("A", 0, 0.2, step=50, final=False)]
    table = reach_table(results(1, curve=curve))
    reached = {line[2].value: (line[3].value, line[5].value, line[6].value) for line in table.rows}
    assert reached == {"A": (0.40, 1, 100), "F": (0.40, 1, 50)}  # what A reached in the end
    assert reach_table(results(1)) is None


def test_a_curve_s_own_last_point_is_its_end():
    """The curve is drawn on fewer prompts than the final evaluation, whose score it may never reach."""
    curve = [row("F", 0, 0.45, step=50, final=False), row("F", 0, 0.55, step=100, final=False)]
    curve += [row("A", 0, 0.2, step=50, final=False), row("A", 0, 0.5, step=100, final=False)]
    found = results(1, curve=curve)
    assert found.curves("F", "geneval.overall") == {0: [(50, 0.45), (100, 0.55)]}
    assert found.curves("E", "geneval.overall") == {}
    goals = {line[2].value: (line[3].value, line[6].value) for line in reach_table(found).rows}
    assert goals == {"A": (0.5, 100), "F": (0.5, 100)}


def test_seeds_and_prompts_are_drawn_anew_where_every_training_saw_the_same_prompts():
    def scored(variant, seed, digits):
        value = sum(int(d) for d in digits) / (4 * len(digits))
        return replace(row(variant, seed, value), items=f"4:{digits}")

    rows = [scored("F", 0, "4440"), scored("A", 0, "2440"), scored("F", 1, "4422"), scored("A", 1, "0422")]
    found = Results(spec=SPEC, rows=tuple(rows), titles=TITLES)
    low, high = found.crossed("geneval.overall", "F", "A")
    assert low == 0.0  # the three prompts without a difference may be all that is drawn
    assert found.difference("geneval.overall", "F", "A").mean == pytest.approx(0.1875)
    assert 0.1875 < high <= 1.0
    line = next(r for r in differences_table(found).rows if r[1].value == "A minus F" and r[0].value == "geneval.overall")
    assert line[4].value == f"[{-high:+.3f}, +0.000]"
    assert Results(spec=SPEC, rows=tuple(rows[:2]), titles=TITLES).crossed("geneval.overall", "F", "A") is None
    other = Results(spec=SPEC, rows=(*rows[:3], scored("A", 1, "042")), titles=TITLES)
    assert other.crossed("geneval.overall", "F", "A") is None  # other prompts


def test_the_page_is_one_file_and_escapes_its_texts(tmp_path):
    curve = [row("F", 0, 0.45, step=50, final=False), row("A", 0, 0.2, step=50, final=False)]
    page = write_ablation(results(2, curve=curve), tmp_path).read_text()
    assert "<script" not in page
    assert "Costs &lt;b&gt;little" in page
    assert "not resolved" in page
    assert "geneval.overall against updates" in page
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "ablation.md").read_text().count("**Claims**") == 1
    assert len(tables(results(2))) == 4


def test_pictures_have_one_seed_per_column_and_the_same_prompt_and_noise_within(tmp_path, store_builder):
    for seed in (0, 1):
        for name in ("A", "F"):
            store_builder(tmp_path / f"{name}-seed{seed}" / "runs" / "geneval", prompts=2, seed=seed, model=name)
    store_builder(tmp_path / "E-seed1" / "runs" / "geneval", prompts=2, seed=1)
    (tmp_path / "F-seedx" / "runs" / "geneval").mkdir(parents=True)
    grid = picture_grid(tmp_path, ["A", "E", "F", "D"])
    assert grid.seeds == (0, 1)
    assert len(grid.blocks) == PROMPTS
    runs = [Store(tmp_path / f"F-seed{seed}" / "runs" / "geneval") for seed in grid.seeds]
    for place, block in enumerate(grid.blocks):
        assert block.prompts == tuple(run.samples()[2 * place].request.prompt for run in runs)
        assert [name for name, _ in block.rows] == ["A", "E", "F"]
        found = dict(block.rows)
        assert found["E"][0] == ""  # it was not trained under this seed
        assert found["A"] == found["F"]  # the same builder drew both
        for column, run in enumerate(runs):
            sample = run.samples()[2 * place]
            drawn = run.read_image(run.outputs()[sample.id].images[0])
            assert found["F"][column] == embed({"x": lambda drawn=drawn: drawn})["x"]
    page = write_ablation(results(2), tmp_path).read_text()
    assert page.count("<img src=") == 5 * PROMPTS
    assert page.count('alt="F, seed 1: ') == PROMPTS
    assert page.count("no picture") == PROMPTS
    assert "<script" not in page


def test_a_finished_run_gives_every_prompt_s_right_pictures(tmp_path, store_builder):
    from jfeval.ablation_training import _right

    right, each = _right(store_builder(tmp_path / "run", prompts=2).path)
    assert each == 4
    assert len(right) == 12
    overall = sum(right) / 48
    assert item_values(item_digits(right, each, overall)) == [n / 4 for n in right]
    assert item_digits(right, each, overall + 0.01) == ""  # a number that is no mean of them
    assert _right(tmp_path / "nothing") == ([], 0)


def test_without_runs_there_is_no_grid(tmp_path):
    assert picture_grid(tmp_path, ["A"]) is None


def test_rows_survive_the_file_and_replace_their_older_selves(tmp_path):
    file = tmp_path / "results.csv"
    rows = [row("F", 0, 0.5), row("A", 1, 0.25)]
    append_rows(file, rows)
    append_rows(file, [row("F", 0, 0.75)])
    end = row("F", 0, 0.7, final=False)  # of the learning curve, at the same update
    append_rows(file, [end])
    assert end in read_rows(file)
    assert len(read_rows(file)) == 3
    file.unlink()
    append_rows(file, [row("A", 1, 0.25), row("F", 0, 0.75)])
    assert sorted(read_rows(file), key=lambda r: r.variant) == [row("A", 1, 0.25), row("F", 0, 0.75)]
    file.write_text(file.read_text().replace("0.75", "much"))
    with pytest.raises(UserError, match="line 3 is no row"):
        read_rows(file)


def test_a_digest_covers_training_and_evaluation_but_not_claims():
    base = training_digest("t", SPEC)
    assert base != training_digest("u", SPEC)
    assert base == training_digest("t", AblationSpec(title="T", recipe="r", variants=dict.fromkeys("ADEF", "x")))
    other = AblationSpec(title="T", recipe="r", variants=dict.fromkeys("ADEF", "x"), evaluate=({"benchmark": "pope"},))
    assert base != training_digest("t", other)
    assert base != training_digest("t", SPEC, "another world")
    assert base != training_digest("t", replace(SPEC, prompts_seed=1))
    asked = {"benchmark": "mjhq"}
    plain, settled = (replace(SPEC, evaluate=(each,)) for each in (asked, {**asked, "settings": {"images": 10_000}}))
    assert training_digest("t", plain) != training_digest("t", settled)
    assert base == training_digest("t", replace(SPEC, seconds={"stage2": 9.0}, machine="m"))


def test_time_is_reckoned_from_operations():
    spec = replace(SPEC, seconds={"vae": 60.0, "lm": 30.0, "stage1": 20.0, "stage2": 300.0, "evaluation": 60.0})
    trainings = [(1e15, 1.0), (5e14, 1 / 3)]  # the base, and one of half its operations that is asked one benchmark of three
    found = reckon(spec, {"stage1", "stage2"}, missing={"vae"}, base=1e15, trainings=trainings)
    assert found.shared == 60.0
    assert found.trainings == pytest.approx((380.0, 180.0))
    assert reckon(spec, {"stage1"}, missing=(), base=1e15, trainings=[]) is None
    assert reckon(SPEC, {"stage1"}, missing=(), base=1e15, trainings=trainings) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "G"}, "base variant 'G'"),
        ({"claims": [{**CLAIMS[0], "comparisons": [{"metric": "m", "better": "F", "than": "Q"}]}]}, "'Q'"),
        ({"claims": [{**CLAIMS[0], "magin": 1}]}, "margin"),
        ({"claims": [{**CLAIMS[1], "margin": 0.0}]}, "margin must be positive"),
        *(
            ({"claims": [{**CLAIMS[0], "comparisons": [{"metric": m, "better": "F", "than": "A"}]}]}, f"compares {m}, which is by weights")
            for m in ("mjhq.contrastive_similarity", "coco.contrastive_similarity", "mjhq.clip_score")
        ),
    ],
)
def test_mistakes_in_the_yaml_are_named(tmp_path, change, message):
    import yaml

    (tmp_path / "x").write_text("title: x\n")
    values = {"title": "T", "recipe": "r", "variants": dict.fromkeys("ADEF", "x"), "claims": CLAIMS, **change}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=message):
        read_spec(tmp_path / "a.yaml")
