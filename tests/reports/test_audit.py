import csv
from importlib.resources import files

import pytest
from click.testing import CliRunner

from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.reports.audit import apart, audit_table, read_table
from jfeval.reports.audit_rules import READINGS, Span, count_of, f1_of

COMMITTED = files("jfeval.reports") / "paper_results.csv"


@pytest.fixture
def planted(tmp_path):
    """A copy of the committed table with some numbers changed, by (model, benchmark, metric)."""

    def write(changes, added=()):
        with COMMITTED.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        left = dict(changes)
        for row in rows:
            row["value"] = left.pop((row["model"], row["benchmark"], row["metric"]), row["value"])
        assert not left
        names = ("model", "benchmark", "metric", "value")
        rows += [dict.fromkeys(rows[0], "") | dict(zip(names, row, strict=True)) for row in added]
        path = tmp_path / "planted.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0])[:7], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def findings(path):
    audit = audit_table(read_table(path))
    return {(row[1].value, row[2].value, row[3].value): row[4].value for row in audit.table.rows}, audit


def test_the_committed_numbers_are_all_possible(planted):
    found, audit = findings(planted({}))
    assert audit.impossible == 0
    assert len(found) == 124
    assert found["JanusFlow", "GenEval overall", "0.63"] == "possible"
    assert found["JanusFlow", "mme perception", "1333.1"] == "not checked"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (("JanusFlow", "geneval", "overall"), "0.70", "inconsistent with the six tasks printed beside it (mean of six task means 0.6267"),
        (("JanusFlow", "geneval", "counting"), "0.60", "inconsistent with the six tasks"),  # the overall then contradicts
        (("JanusFlow", "geneval", "colors"), "0.8333", "inconsistent with official: each of four images a prompt"),  # 313/376 = 0.8324
        (("JanusFlow", "geneval", "colors"), "0.832", "inconsistent with one image a prompt"),  # 313/376; 78/94 = 0.8298
        (("TorchUMM run of JanusFlow", "mmbench", "circular"), "64.87", "inconsistent with circular"),  # 755/1164 = 64.863
        (("JanusFlow", "mmbench", "dev"), "74.99", "no other protocol is known"),
        (("JanusFlow", "pope", "paper"), "188.0", "inconsistent with F1 of one split"),
        (("SDXL", "dpg", "overall"), "174.65", "inconsistent with official: mean over prompts"),
    ],
)
def test_a_planted_error_is_found_and_named(planted, key, value, words):
    audit = audit_table(read_table(planted({key: value})))
    texts = [row[4].value for row in audit.table.rows if row[1].value == key[0]]
    assert any(words in text for text in texts), texts
    assert not any("wrong" in text for text in texts)


def test_numbers_of_one_report_must_agree(planted):
    f1 = [("M", "pope", "random_precision", "90.0"), ("M", "pope", "random_recall", "80.0")]
    found, audit = findings(planted({}, [*f1, ("M", "pope", "random_f1", "84.7")]))  # 2 * .9 * .8 / 1.7 = 0.8471
    assert audit.impossible == 0
    found, audit = findings(planted({}, [*f1, ("M", "pope", "random_f1", "85.0")]))
    assert audit.impossible == 1
    assert "inconsistent with the precision and recall" in found["M", "POPE random_f1", "85.0"]
    found, _ = findings(planted({}, [("M", "pope", "random_accuracy", "85.01")]))
    assert "inconsistent with accuracy of one split" in found["M", "POPE random_accuracy", "85.01"]
    assert found["M", "POPE random_accuracy", "85.01"].startswith("possible")  # 7651 of 9000, and of 2910


def test_a_figure_that_was_cut_off_is_said_to_be_possible_so(planted):
    found, _ = findings(planted({}, [("M", "mmbench", "circular", "64.94")]))  # 756 of 1164 = 64.948
    assert "unless cut off, not rounded: 756 of 1164" in found["M", "MMBench circular", "64.94"]


def test_the_ablations_pope_is_accuracy_over_one_split(planted):
    """All five figures of the paper's Table 6 are multiples of 1/3000 in percent."""
    _, audit = findings(planted({}))
    assert [p for p in audit.patterns if "Table 6" in p and "shares of 3000 rows" in p]
    _, audit = findings(planted({("ablation-A", "pope", "paper"): "82.41"}))
    assert not [p for p in audit.patterns if "shares of 3000 rows" in p]


def test_counts_match_brute_force():
    rows = 94
    printed = {f"{k / rows:.2f}" for k in range(rows + 1)}
    reading = count_of("p", rows)
    for i in range(101):
        text = f"{i / 100:.2f}"
        possible = bool(reading.explain(Span(low=i / 100 - 0.005, high=i / 100 + 0.005)))
        assert possible or text not in printed


def test_f1_matches_brute_force():
    reading = f1_of("p", 6, 6)
    values = {round(2 * t / (t + f + 6), 4) for t in range(7) for f in range(7)}
    for i in range(1001):
        span = Span(low=i / 1000 - 0.0005, high=i / 1000 + 0.0005)
        assert bool(reading.explain(span)) == any(span.low - 1e-9 <= value <= span.high + 1e-4 for value in values) or any(
            abs(value - end) < 1e-4 for value in values for end in (span.low, span.high)
        )


def test_two_reports_of_one_model_are_set_apart_in_errors_of_noise():
    rows = read_table(COMMITTED)
    table = apart(rows, "JanusFlow", "TorchUMM run of JanusFlow")
    overall = next(row for row in table.rows if row[0].value == "GenEval overall")
    # 0.13 less rounding 0.005 + 0.00005, over the errors of six tasks of 320 to 400 images and of six of 320
    tasks = zip((0.97, 0.59, 0.45, 0.83, 0.53, 0.42), (320, 396, 320, 376, 400, 400), strict=True)
    first = sum(p * (1 - p) / n for p, n in tasks) / 36
    second = 0.4999 * 0.5001 / (320 * 6)
    assert overall[4].value == f"at least {(0.1301 - 0.00505) / (first + second) ** 0.5:.1f} standard errors of noise"
    pope = apart(rows, "JanusFlow", "Janus").rows[0]
    assert "greedy answers have no noise" in pope[4].value
    with pytest.raises(UserError, match="no model 'Nobody'"):
        apart(rows, "JanusFlow", "Nobody")
    with pytest.raises(UserError, match="no number of the same"):
        apart(rows, "ablation-E", "SDv2.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,benchmark,value\na,b,1\n", "lacks the column 'metric'"),
        ("model,benchmark,metric,value\na,b,c,=1+1\n", "line 2: value '=1\\+1' is not a number"),
        ("model,benchmark,metric,value\na,b,c,nan\n", "is not a number"),
        ("model,benchmark,metric,value\n", "has 0 rows"),
        (b"\xff\xfe\x00", "cannot be read as a CSV file"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        read_table(path)


def test_the_command_prints_findings_and_ends_with_1_where_one_fits_nothing(planted, tmp_path):
    path = planted({("JanusFlow", "geneval", "overall"): "0.70"})
    result = CliRunner().invoke(main, ["audit", str(path), "--between", "JanusFlow", "Janus", "--out", str(tmp_path / "out.csv")])
    assert result.exit_code == 1
    assert "124 numbers: 96 possible under a protocol known here, 1 inconsistent, 27 not checked" in result.stdout
    assert "78 of 94" in (tmp_path / "out.csv").read_text()
    assert CliRunner().invoke(main, ["audit", str(planted({}))]).exit_code == 0


def test_every_reading_of_every_metric_takes_the_whole_and_nothing():
    for readings in READINGS.values():
        for reading in readings:
            assert reading.explain(Span(low=0.999, high=1.001))
            assert reading.explain(Span(low=-0.001, high=0.001))
            assert not reading.explain(Span(low=1.1, high=1.2))
