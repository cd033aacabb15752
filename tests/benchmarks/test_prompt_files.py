import json

import pytest
from click.testing import CliRunner

from jfeval.benchmarks.coco import COCO
from jfeval.benchmarks.geneval import GenEval, Settings
from jfeval.benchmarks.mjhq import MJHQ
from jfeval.benchmarks.prompt_files import asked_prompt, rules_of
from jfeval.benchmarks.scene_sets import read_scene
from jfeval.benchmarks.shapes.render import render
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.plan import make_plan
from jfeval.registry import benchmark_settings
from jfeval.schema import Judgement
from jfeval.settings import RunSettings


def samples_of(settings):
    return GenEval(settings).samples("shapes", seed=3)


@pytest.fixture
def rewritten(tmp_path):
    """Every prompt of the shapes edition, rewritten, one a line."""
    path = tmp_path / "rewritten.txt"
    path.write_text("".join(f"{sample.request.prompt}, on plain paper\n" for sample in samples_of(Settings())))
    return path


def test_rewritten_prompts_are_drawn_and_original_rows_judged(rewritten):
    settings = benchmark_settings("geneval", {"prompts_file": str(rewritten)}, [])
    assert settings.prompts.startswith("file:")
    plain, other = samples_of(Settings()), samples_of(settings)
    assert all(b.request.prompt == f"{a.request.prompt}, on plain paper" for a, b in zip(plain, other, strict=True))
    assert [(a.id, a.reference, a.cluster, a.task) for a in plain] == [(b.id, b.reference, b.cluster, b.task) for b in other]


def test_rewritten_rows_never_share_a_column_or_a_run_with_original_ones(rewritten):
    plain, other = GenEval(), GenEval(Settings(prompts_file=rewritten))
    assert plain.protocols == GenEval(Settings(prompts="original")).protocols == ("official",)
    (name,) = other.protocols
    assert name == f"official-prompts-{other.settings.prompts[5:17]}"
    assert rules_of(name) == rules_of("official") == "official"
    first, second = (make_plan(RunSettings(seed=3), one).inputs({}) for one in (plain, other))
    assert first != second
    assert second["data_identity"]["prompts"] == other.settings.prompts
    sample = samples_of(Settings())[0]
    seen = Judgement(sample_id=sample.id, observations=({"detections": {}, "colors": {}},))
    metrics = other.aggregate(other.score(sample, seen, protocol=name), protocol=name)
    assert {metric.protocol for metric in metrics} == {name}
    with pytest.raises(UserError, match="unknown protocol"):
        other.score(sample, seen, protocol="official")


def test_a_run_without_rewritten_prompts_depends_on_none_of_this():
    assert "benchmark_settings" not in make_plan(RunSettings(seed=3), GenEval()).inputs({})
    assert "prompts" not in GenEval().data_identity("shapes", seed=3)


def test_scores_are_named_without_the_file_and_drawing_needs_it(rewritten):
    name = Settings(prompts_file=rewritten).prompts
    kept = GenEval(Settings(prompts=name, prompts_file=rewritten.with_name("elsewhere.txt")))
    assert kept.protocols == GenEval(Settings(prompts_file=rewritten)).protocols
    with pytest.raises(UserError, match="the file of rewritten prompts is not here"):
        kept.samples("shapes", seed=3)


def test_json_lines_may_come_in_any_order(tmp_path):
    rows = [{"id": sample.id, "prompt": f"line one\n{sample.id}"} for sample in samples_of(Settings())]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in reversed(rows)) + "\n")
    assert [sample.request.prompt for sample in samples_of(Settings(prompts_file=path))] == [row["prompt"] for row in rows]
    path.write_text("\n".join(json.dumps(row) for row in [*rows[1:], rows[1], {"id": "zz", "prompt": "x"}]))
    with pytest.raises(UserError, match="1 prompts are missing, 1 are of no sample, 1 are given twice"):
        samples_of(Settings(prompts_file=path))
    path.write_text('{"id": 3}')
    with pytest.raises(UserError, match=r'p\.jsonl, line 1: expected \{"id": text, "prompt": text\}'):
        samples_of(Settings(prompts_file=path))


def test_bad_settings_and_files_are_refused(tmp_path, rewritten):
    for given, message in [
        ({"prompts": "long"}, r"prompts must be original or file:SHA256, got 'long'"),
        ({"prompts_file": str(tmp_path / "none.txt")}, r"there is no .*none\.txt"),
        ({"prompts": f"file:{'0' * 64}", "prompts_file": str(rewritten)}, "which was asked for"),
    ]:
        with pytest.raises(UserError, match=message):
            benchmark_settings("geneval", given, [])
    rewritten.write_text("only one\n")
    with pytest.raises(UserError, match=r"has 1 lines, and the benchmark has \d+ prompts"):
        samples_of(Settings(prompts_file=rewritten))
    rewritten.write_text("\n" * len(samples_of(Settings())))
    with pytest.raises(UserError, match="the prompt of 00000 is empty"):
        samples_of(Settings(prompts_file=rewritten))


def test_dpg_takes_them_too(tmp_path):
    from jfeval.benchmarks.dpg import DPG
    from jfeval.benchmarks.dpg import Settings as DpgSettings

    plain = DPG().samples("shapes", seed=0)
    path = tmp_path / "p.txt"
    path.write_text("".join(f"prompt {index}\n" for index in range(len(plain))))
    benchmark = DPG(DpgSettings(prompts_file=path))
    sample = benchmark.samples("shapes", seed=0)[1]
    assert (sample.request.prompt, sample.reference) == ("prompt 1", {"prompt": plain[1].request.prompt, **plain[1].reference})
    assert [rules_of(name) for name in benchmark.protocols] == ["official", "fixed"]
    assert all("-prompts-" in name for name in benchmark.protocols)
    seen = Judgement(sample_id=sample.id, observations=({"answers": ["yes"] * len(sample.reference["questions"])},))
    for name in benchmark.protocols:
        scores = benchmark.score(sample, seen, protocol=name)
        assert scores[0].values["score"] == DPG().score(plain[1], seen, protocol=rules_of(name))[0].values["score"] == 1.0
        assert {metric.protocol for metric in benchmark.aggregate(scores, protocol=name)} == {name}
    with pytest.raises(UserError, match="unknown protocol of dpg 'official'"):
        benchmark.score(sample, seen, protocol="official")


@pytest.mark.parametrize("kind", [MJHQ, COCO])
def test_sets_of_pictures_take_them_too(kind, tmp_path, see):
    plain = kind().samples("shapes", seed=0)
    path = tmp_path / "p.txt"
    path.write_text("".join(f"prompt {index}\n" for index in range(len(plain))))
    settings = benchmark_settings(kind.name, {"prompts_file": str(path)}, [])
    benchmark = kind(settings)
    samples = benchmark.samples("shapes", seed=0)
    assert (samples[1].request.prompt, asked_prompt(samples[1])) == ("prompt 1", plain[1].request.prompt)
    assert samples[1].reference["things"] == plain[1].reference["things"]
    (name,) = benchmark.protocols_of("shapes")
    assert (name, rules_of(name)) == (f"random-conv-32-prompts-{settings.prompts[5:17]}", "random-conv-32")
    assert all("-prompts-" in one for one in (*benchmark.protocols, *benchmark.protocols_of("official")))
    mine, own = (one.data_identity("shapes", seed=0) for one in (benchmark, kind()))
    assert mine == {**own, "prompts": settings.prompts}
    some = samples[:3]
    judged = see(some, [render(read_scene(sample)) for sample in some], benchmark.judge_under("shapes", name))
    _, metrics = benchmark.score_set(judged, protocol=name)
    assert {metric.protocol for metric in metrics} == {name}
    for use in (lambda: benchmark.judge_under("shapes", "random-conv-32"), lambda: benchmark.score_set(judged, protocol="random-conv-32")):
        with pytest.raises(UserError, match="unknown protocol"):
            use()


def test_rewritten_prompts_are_written_for_other_generators(tmp_path, rewritten):
    written = ["--set-benchmark", f"prompts_file={rewritten}", "--seed", "3", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, ["data", "prompts", *written])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "prompts.txt").read_text() == rewritten.read_text()
    stated = json.loads((tmp_path / "out" / "00000" / "metadata.jsonl").read_text())
    assert stated == {**samples_of(Settings())[0].reference, "prompt": rewritten.read_text().splitlines()[0]}
