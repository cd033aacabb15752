import json

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval import cli_suite, suite
from jfeval.benchmarks.understanding.base import Understanding
from jfeval.cli import main
from jfeval.engine import ALONE
from jfeval.errors import UserError
from jfeval.plan import protocols_of
from jfeval.registry import load_benchmark
from jfeval.reports.paper import PLACES, printed_as, references
from jfeval.schema import Metric
from jfeval.store import Store


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


@pytest.fixture
def asked(monkeypatch):
    """What the suite would carry out, benchmark by benchmark: settings and options. Nothing is run."""
    found = {}

    def instead(settings, benchmark, **options):
        found[settings.benchmark] = (settings, options)
        raise UserError("not today")

    monkeypatch.setattr(cli_suite, "carry_out", instead)
    return found


@pytest.mark.parametrize(
    ("words", "mjhq"),
    [
        ((), (2.0, 30)),
        (("--guidance-scale", "4"), (4.0, 30)),
        (("--set", "num_steps=7", "--set", "guidance_scale=3"), (3.0, 7)),
    ],
)
def test_the_papers_recipe_holds_where_none_is_given(asked, words, mjhq):
    invoke("paper", "--model", "janusflow:somewhere", *words)
    drawn = {name: (own["guidance_scale"], own["num_steps"]) for name, own in ((n, s.model_settings) for n, (s, _) in asked.items())}
    assert drawn["mjhq"] == mjhq
    assert drawn["geneval"] == ((5.0, 30) if not words else mjhq)
    (entry,) = [one for one in suite.SUITES["paper"] if one.recipe]
    assert suite.recipe_of(entry, "diffusers") == suite.recipe_of(entry, "janusflow-shapes") == {}


def test_options_of_a_run_reach_every_run_of_a_suite(asked):
    own = ("any_size=true", "pictures=2", "mjhq.images=9", "pope.any_size=false")
    more = ("--max-failures", 0.5, "--retry-failed", "--workers", 3, *(word for one in own for word in ("--set-benchmark", one)))
    for command in (["suite", "paper"], ["run", "--suite", "paper"]):
        asked.clear()
        CliRunner().invoke(main, [*command, *map(str, more), "--batch-size", "auto"], catch_exceptions=False)
        assert len(asked) == 7
        for settings, options in asked.values():
            assert (settings.max_failures, settings.batch_size) == (0.5, 0)
            assert (options["retry_failed"], options["engine"].workers, options["load"]) == (True, 3, None)
        given = {name: settings.benchmark_settings for name, (settings, _) in asked.items()}
        assert (given["mjhq"]["any_size"], given["mjhq"]["images"], given["pope"]["any_size"]) == (True, 9, False)
        assert (given["dpg"]["pictures"], given["pope"]["images"]) == (2, "shown")
    asked.clear()
    invoke("paper")
    assert all(options["engine"] == ALONE and options["load"] is not None for _, options in asked.values())
    refused = invoke("paper", "--set-benchmark", "anysize=true")
    assert refused.exit_code == 2
    assert "unknown setting of the suite's benchmarks 'anysize'; did you mean 'any_size'" in refused.output


def test_printed_numbers_are_those_of_a_model_that_has_some(asked, two):
    assert "printed (SDXL)" in invoke("two", "--model", "painter", "--against", "SDXL").stdout
    assert "printed (JanusFlow)" in invoke("two", "--model", "painter").stdout
    assert "printed (Janus-Pro-7B)" in invoke("two", "--model", "janus:any/Janus-Pro-7B").stdout
    for command in (["suite", "two"], ["run", "--suite", "two"]):
        refused = CliRunner().invoke(main, [*command, "--against", "SDLX"], catch_exceptions=False)
        assert refused.exit_code == 2
        assert "unknown model with printed numbers 'SDLX'; did you mean 'SDXL'" in refused.output
    refused = CliRunner().invoke(main, ["run", "--against", "SDXL"], catch_exceptions=False)
    assert refused.exit_code == 2
    assert "--against goes with --suite" in refused.output


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ("deepseek-ai/JanusFlow-1.3B", "JanusFlow"),
        ("/models/janusflow-256/", "JanusFlow-256"),
        ("deepseek-community/Janus-Pro-1B", "Janus-Pro-1B"),
        ("llava-hf/llava-1.5-7b-hf", "LLaVA-v1.5"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "SDXL"),
        ("drawn/DALL-E 2", "DALL-E 2"),
        ("ablation-A", ""),
        ("Qwen/Qwen2-VL-2B-Instruct", ""),
        ("", ""),
    ],
)
def test_a_printed_model_is_known_by_the_last_name_of_its_place(place, model):
    assert printed_as(place) == model


@pytest.fixture
def both(registered, monkeypatch, stubs):
    """A suite that asks for pictures and for answers."""
    entries = (suite.Entry(benchmark="bright", protocol="kind"), suite.Entry(benchmark="questions", protocol="kind", needs="answer"))
    monkeypatch.setitem(suite.SUITES, "both", entries)
    return stubs


def test_what_a_model_cannot_do_is_not_applicable_and_no_failure(both, tmp_path, monkeypatch):
    """Answers lie at PATH/BENCHMARK.jsonl; the judge of pictures is not even looked for."""
    monkeypatch.setattr(both.Bright, "judge", lambda self, edition: pytest.fail("the judge was loaded"))
    rows = [json.dumps({"id": f"q{i}", "prediction": "yes"}) for i in range(24)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "questions.jsonl").write_text("\n".join(rows))
    result = invoke("both", "--model", f"answers:{tmp_path / 'mine'}", "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert any(line[:3] == ["questions", "overall", "kind"] for line in lines)
    assert any(line[:3] == ["bright", "not", "applicable"] and line[-3:] == ["model", "cannot", "draw"] for line in lines)
    (tmp_path / "mine" / "questions.jsonl").write_text("\n".join(rows[1:]))
    short = invoke("both", "--model", "answers", "--set", f"path={tmp_path / 'mine'}", "--out", tmp_path / "short")
    assert short.exit_code == 1
    assert "too few: 1 of 24 questions have no answer" in short.stdout


def test_ready_images_of_a_suite_lie_under_their_benchmarks_name(both, tmp_path):
    for row in range(24):
        folder = tmp_path / "mine" / "bright" / f"{row:05d}" / "samples"
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (8, 8), (200, 200, 200)).save(folder / f"{index:04d}.png")
    result = invoke("both", "--model", f"folder:{tmp_path / 'mine'}", "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert any(line[:4] == ["bright", "overall", "kind", "1.000"] for line in lines)
    assert any(line[:3] == ["questions", "not", "applicable"] for line in lines)
    assert {Store.open(run.parent).record().title for run in (tmp_path / "all").rglob("run.json")} == {"mine (folder)"}


def test_the_papers_entries_say_what_they_ask_for():
    for entry in suite.SUITES["paper"]:
        assert (entry.needs == "answer") == isinstance(load_benchmark(entry.benchmark), Understanding), entry


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
