import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from jfeval.cli import main
from jfeval.reports.compare_paper import against_papers
from jfeval.schema import Metric
from jfeval.store import Store


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def two_runs(stubs, tmp_path):
    """The same items under other weights, whose verdicts on eight items are turned."""
    a, b = (stubs.run_and_score(tmp_path / name) for name in "ab")
    scores = [replace(s, values={"correct": 1.0 - s.values["correct"]}) if i < 8 else s for i, s in enumerate(b.scores())]
    b.write_results("strict", scores, b.metrics())
    b.write_record(replace(b.record(), fingerprint="f" * 64))
    return a, b


def test_show_says_where_a_number_comes_from(stubs, tmp_path):
    class Counts(stubs.Painter):
        def count_tokens(self, text):
            return len(text)

    store = stubs.run_and_score(tmp_path / "run", bench=stubs.Questions(rows=10), model=Counts())
    result = invoke("show", store.path)
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    for key in ("fingerprint", "started", "finished", "model.weights", "data.sha256", "packages.numpy", "hardware.cpu"):
        assert key in lines, key
    for key in ("seconds.load", "seconds.generate", "seconds.judge", "seconds.score", "engine.workers", "tokens per second"):
        assert key in lines, key
    assert lines["tokens"].endswith(" 25")  # five times yes, five times no
    assert re.search(r"peak_memory_bytes +[0-9,]+ MiB", result.stdout)
    assert re.search(r"protocol strict.*\n  overall  0\.5000  \[0\.\d\d, 0\.\d\d\] over items  se_items 0\.\d{4}", result.stdout)


def test_show_gives_both_errors_where_items_were_drawn_more_than_once(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run")
    line = next(line for line in invoke("show", store.path).stdout.splitlines() if line.startswith("  overall"))
    assert re.search(r"se_items \d\.\d{4}  se_seed \d\.\d{4}  n=48 clusters=24", line)
    assert "images per second" in invoke("show", store.path).stdout


def test_show_a_sample_gives_prompt_output_verdict_and_reason(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run", model=stubs.Painter(bad=["picture 5 of 0"]), max_failures=0.5)
    worse = next(score for score in store.scores() if score.reason)
    shown = invoke("show", store.path, worse.sample_id).stdout
    assert f"prompt (2 images): picture {worse.sample_id.split('-')[1]} of 0" in shown
    assert str(store.image_path(store.outputs()[worse.sample_id].images[0])) in shown
    assert f"strict, image or answer {worse.index}: correct=0: {worse.reason}" in shown
    assert "judge saw in image 0: {'light':" in shown
    assert "error: RuntimeError: paint ran out" in invoke("show", store.path, "0-5").stdout
    unknown = invoke("show", store.path, "0-99")
    assert unknown.exit_code == 2
    assert "unknown sample of" in unknown.stderr


def test_compare_pairs_items_and_counts_what_differs(two_runs):
    a, b = two_runs
    result = invoke("compare", a.path, b.path)
    assert result.exit_code == 0, result.output
    assert "48 scored items in common; 8 differ (16.7%)" in result.stdout
    assert re.search(
        r"^all items +-?0\.\d{3} \[-?0\.\d{3}, -?0\.\d{3}\] +\d+ +\d+ +(not separated|better|worse) +\d", result.stdout, re.MULTILINE
    )
    assert "Flipped" in result.stdout
    assert "8 items flipped" in result.stdout


def test_compare_says_that_only_the_batch_size_differs(stubs, tmp_path):
    a, b = (stubs.run_and_score(tmp_path / str(size), batch_size=size) for size in (4, 16))
    result = invoke("compare", a.path, b.path)
    assert "48 scored items in common; 0 differ (0.0%)" in result.stdout
    assert "both runs have the same fingerprint, batch size 4 and 16" in result.stdout


def test_what_cannot_be_paired_is_refused_with_the_reason(stubs, two_runs, tmp_path):
    a, b = two_runs
    other_data = stubs.run_and_score(tmp_path / "rows", bench=stubs.Bright(rows=12))
    result = invoke("compare", a.path, other_data.path)
    assert result.exit_code == 2
    assert "they asked other things: rows 24 and 12" in result.stderr
    assert "not scored under protocol kind (stored: strict)" in invoke("compare", a.path, b.path, "--protocol", "kind").stderr
    b.write_record(replace(b.record(), edition="official"))
    assert "of another edition: shapes and official" in invoke("compare", a.path, b.path).stderr


def test_runs_under_other_noise_on_the_same_items_are_paired(two_runs):
    a, b = two_runs
    b.write_record(replace(b.record(), seed=7))
    assert "the noise differs (seed 0 and 7), the items do not" in invoke("compare", a.path, b.path).stdout


def test_an_official_run_is_held_against_papers(stubs, tmp_path):
    store = stubs.run_and_score(tmp_path / "run")
    store.write_record(replace(store.record(), benchmark="geneval", edition="official"))
    numbers = [Metric(name="overall", protocol="official", value=0.616, n=4, clusters=2, se_seed=0.006, headline=True)]
    store.write_results("official", store.scores(), numbers)
    table = against_papers(store, "JanusFlow")
    assert [cell.value for cell in table.rows[0]] == [
        "JanusFlow", "overall", "0.63", "0.616", "-0.014", "0.008", "reproduced: rounding and noise explain it", "JanusFlow Table 2"
    ]  # fmt: skip
    assert "GenEval against papers" in invoke("show", store.path).stdout
    verdicts = {row[0].value: row[6].value for row in against_papers(store).rows}
    assert verdicts["Janus-Pro-7B"].startswith("below")
    store.write_record(replace(Store(store.path).record(), edition="shapes"))
    assert against_papers(store) is None
