"""DPG-Bench's golden set: the official script's numbers for recorded answers, its failures included."""

import json
from pathlib import Path
from typing import Any

from jfeval.benchmarks.dpg import DPG
from jfeval.benchmarks.dpg_rows import read_items
from jfeval.errors import UserError
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any
from jfeval.schema import ImageRequest, Judgement, Sample, Score

_MEAN = 1e-9
"""For float64 means, printed x 100, whose terms may be summed in another order."""
_FIELDS = ("pic_num", "resolution", "images", "per_prompt", "failed", "L1", "L2", "overall")
_OURS = {"L1": "l1", "L2": "l2"}


def check_runs(folder: Path) -> GoldenResult:
    """Compare, for every run, each prompt's scores, which prompts fail, and all printed means."""
    items = {item.id: item for item in read_items(folder / "questions.csv")}
    answers, expected = _json(folder / "answers.json"), _json(folder / "expected.json")
    tally = Tally()
    tally.equal("runs", sorted(expected), sorted(answers))
    cases = 0
    for run in sorted(set(expected) & set(answers)):
        record = expected[run]
        tally.fields(run, _FIELDS, record)
        scores: list[Score] = []
        failed = sorted(set(record["images"]) - items.keys())  # a picture without questions
        for name, cells in answers[run].items():
            questions = ImageRequest(prompt=items[name].prompt, num_images=len(cells))
            sample = Sample(id=name, task="", request=questions, reference=items[name].reference(), cluster=name)
            judged = Judgement(sample_id=name, observations=tuple({"answers": list(cell)} for cell in cells))
            found = DPG().score(sample, judged, protocol="official")
            cases += len(cells)
            if "score" in found[0].values:
                tally.equal(f"{run}, {name}, pictures", record["pic_num"], len(found))
                scores += found
            else:
                failed.append(name)
        tally.equal(f"{run}, failed", sorted(record["failed"]), sorted(failed))
        tally.equal(f"{run}, images", sorted(record["images"]), sorted({s.sample_id for s in scores} | set(failed)))
        _compare_prompts(tally, run, record["per_prompt"], scores)
        _compare_means(tally, run, record, scores)
    return tally.result(cases, numeric=True)


SUITES: tuple[GoldenSuite, ...] = (GoldenSuite(name="dpg", recognise=has_any("answers.json", "questions.csv"), check=check_runs),)


def _compare_prompts(tally: Tally, run: str, expected: dict[str, Any], scores: list[Score]) -> None:
    found: dict[str, list[float]] = {}
    for score in scores:
        found.setdefault(score.sample_id, []).append(score.values["score"])
    tally.equal(f"{run}, prompts", sorted(expected), sorted(found))
    for name in set(expected) & set(found):
        tally.fields(f"{run}, {name}", ("scores", "average"), expected[name])
        tally.close(f"{run}, {name}, scores", expected[name]["scores"], found[name], _MEAN)
        tally.close(f"{run}, {name}, average", expected[name]["average"], sum(found[name]) / len(found[name]), _MEAN)


def _compare_means(tally: Tally, run: str, record: dict[str, Any], scores: list[Score]) -> None:
    metrics = DPG().aggregate(scores, protocol="official")
    (overall,) = (metric for metric in metrics if metric.headline)
    tally.close(f"{run}, overall", record["overall"], 100 * overall.value, _MEAN)
    for theirs, ours in _OURS.items():
        found = {metric.task: metric.value for metric in metrics if metric.name == ours}
        tally.equal(f"{run}, {theirs}", sorted(record[theirs]), sorted(found))
        for category in set(record[theirs]) & set(found):
            tally.close(f"{run}, {theirs}, {category}", record[theirs][category], 100 * found[category], _MEAN)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    return json.loads(path.read_text(encoding="utf-8"))
