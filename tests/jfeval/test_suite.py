import pytest
from click.testing import CliRunner

from jfeval import suite
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.plan import protocols_of
from jfeval.registry import load_benchmark
from jfeval.reports.paper import PLACES, references
from jfeval.schema import Metric


def invoke(*arguments):
    return CliRunner().invoke(main, ["suite", *(str(one) for one in arguments)], catch_exceptions=False)


@pytest.fixture
def two(registered, monkeypatch):
    """A suite of a benchmark that the painter can do and one that it cannot."""
    entries = (suite.Entry(benchmark="bright", protocol="kind"), suite.Entry(benchmark="geneval", protocol="official"))
    monkeypatch.setitem(suite.SUITES, "two", entries)


def test_each_benchmark_runs_and_what_cannot_is_named(two, tmp_path):
    """The painter's pictures are too small for GenEval's oracle, which stops no other benchmark."""
    result = invoke("two", "--model", "painter", "--limit", 6, "--out", tmp_path / "all", "--batch-size", 8)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[-1] == str(tmp_path / "all" / "report.html")
    assert (tmp_path / "all" / "bright" / "run.json").is_file()
    assert any(line.split()[:3] == ["bright", "overall", "kind"] for line in lines)
    assert any(line.split()[:3] == ["geneval", "not", "run"] and "not 8x8" in line for line in lines)


def test_outside_a_terminal_a_suite_is_plain_whatever_asks_for_colours(two, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = invoke("two", "--model", "painter", "--limit", 6, "--out", tmp_path / "all", "--batch-size", 8)
    assert "\x1b" not in result.stdout


def test_run_takes_a_suite_too_with_its_options_and_no_others(two, tmp_path):
    asked = ["two", "--model", "painter", "--limit", 6, "--batch-size", 8]
    first = invoke(*asked, "--out", tmp_path / "one")
    words = ["run", "--suite", *(str(one) for one in asked), "--out", str(tmp_path / "other")]
    second = CliRunner().invoke(main, words, catch_exceptions=False)
    assert second.exit_code == first.exit_code == 1
    assert second.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]
    refused = CliRunner().invoke(main, ["run", "--suite", "two", "--benchmark", "bright"], catch_exceptions=False)
    assert refused.exit_code == 2
    assert "--benchmark is for one benchmark and does not go with --suite" in refused.output


def test_a_suite_loads_its_model_once(two, tmp_path, monkeypatch):
    from jfeval import registry

    built, build = [], registry.build_model

    def counted(name, settings):
        built.append(name)
        return build(name, settings)

    monkeypatch.setattr(registry, "build_model", counted)
    invoke("two", "--model", "painter", "--limit", 6, "--out", tmp_path / "all", "--batch-size", 8)
    assert built == ["painter"]


def test_an_unknown_suite_or_model_is_said_before_anything_runs(two, tmp_path):
    assert "unknown suite 'papers'; did you mean 'paper'" in invoke("papers").output
    result = invoke("two", "--model", "painte", "--out", tmp_path / "all")
    assert result.exit_code == 2
    assert "did you mean 'painter'" in result.output
    assert not (tmp_path / "all").exists()
    with pytest.raises(UserError, match="unknown suite"):
        suite.suite("x")


def test_the_papers_suite_asks_under_the_protocols_that_printed_numbers_are_held_against():
    for entry in suite.SUITES["paper"]:
        expected = {place.protocol for (benchmark, _), place in PLACES.items() if benchmark == entry.benchmark}
        asked = entry.protocol or protocols_of(load_benchmark(entry.benchmark), "official")[0]
        assert expected in ({asked}, set()), entry


def test_measured_stands_beside_printed(tmp_path):
    class Run:
        def record(self):
            return type("Record", (), {"benchmark": "geneval", "edition": "official", "protocol": "official"})

        def metrics(self):
            found = {"protocol": "official", "n": 2212, "clusters": 553}
            overall = Metric(name="overall", value=0.5, ci_low=0.48, ci_high=0.52, headline=True, **found)
            return [overall, Metric(name="image_mean", value=0.4, **found)]

    printed = next(r for r in references("geneval", "official", "official") if r.model == "JanusFlow").values["overall", ""]
    lines = list(suite.lines([Run()], {"mjhq": "no such edition"}, "JanusFlow"))
    assert [(line.metric, line.measured, line.printed) for line in lines] == [
        ("overall", "0.500 [0.480, 0.520] n=2212", f"{printed:.3f}"),
        ("not run", "-", "no such edition"),
    ]
    assert next(suite.lines([Run()], {}, "Nobody")).printed == "-"
