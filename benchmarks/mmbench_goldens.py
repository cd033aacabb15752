"""MMBench's golden sets: the option that each published tool infers, and its circular and vanilla tables.

Every check runs the functions that a run uses and compares every recorded field.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from jfeval.benchmarks.mmbench import MMBench, verdict_of
from jfeval.benchmarks.mmbench_options import OptionRules, infer, letter_candidates, text_candidates
from jfeval.benchmarks.mmbench_rows import COLUMNS
from jfeval.benchmarks.mmbench_rules import WAYS, Way, circular_hits, group_of
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_file, json_lines
from jfeval.schema import Judgement, Metric, Sample, Score, TextRequest

Record: TypeAlias = dict[str, Any]

_MEAN = 1e-12
"""For float64 means whose terms may be summed in another order."""
_RULES: Mapping[str, OptionRules] = {
    "vlmevalkit_head": "vlmevalkit-head",
    "vlmevalkit_nov2024": "vlmevalkit-nov2024",
    "lmms_eval": "lmms-eval",
}
_OPTION_FIELDS: Mapping[str, tuple[str, ...]] = {
    "vlmevalkit_head": ("option", "text", "infer", "final_no_judge"),
    "vlmevalkit_nov2024": ("option", "text", "infer", "final_no_judge"),
    "lmms_eval": ("option", "infer", "final_static"),
}
_CIRCULAR = ("vlmevalkit_head", "vlmevalkit_nov2024")
_OPTIONS_FILE, _ROWS_FILE, _TABLES_FILE = "mmbench_options.jsonl", "mmbench_circular.jsonl", "mmbench_circular.aggregate.json"


def check_options(folder: Path) -> GoldenResult:
    """Compare what the letter rule, the text rule and both infer from every answer."""
    records = json_lines(folder / _OPTIONS_FILE)
    tally, permissive = Tally(), 0
    for record in records:
        what = str(record["id"])
        tally.fields(what, record, ("id", "kind", "prediction", "choices", "expected"))
        tally.fields(f"{what}, expected", record["expected"], _RULES)
        choices = {letter: str(text) for letter, text in record["choices"].items()}
        for scorer, rules in _RULES.items():
            expected = record["expected"].get(scorer, {})
            tally.fields(f"{what}, {scorer}", expected, _OPTION_FIELDS[scorer])
            found = _inferences(record["prediction"], choices, rules)
            for field in set(expected) & set(found):
                tally.equal(f"{what}, {scorer}, {field}", expected[field], found[field])
            if "final_static" in expected:
                permissive += (expected["final_static"] or "Z") != found["final_no_judge"]
    aside = f"informative only: lmms_eval.final_static, by rules not offered here, counts {permissive} of {len(records)} answers otherwise"
    return tally.result(len(records), numeric=False, aside=aside)


def check_circular(folder: Path) -> GoldenResult:
    """Compare every row's verdict, every group's, and all tables."""
    records, tables = json_lines(folder / _ROWS_FILE), json_file(folder / _TABLES_FILE)
    tally = Tally()
    tally.fields(_TABLES_FILE, tables, ("n_rows", "n_groups", *_CIRCULAR, "lmms_eval_static_circular"))
    tally.equal("n_rows", tables.get("n_rows"), len(records))
    tally.equal("n_groups", tables.get("n_groups"), len({group_of(record["index"]) for record in records}))
    for record in records:
        tally.fields(f"row {record['index']}", record, ("index", *COLUMNS, "source", "comment", "prediction", "expected"))
    for scorer in _CIRCULAR:
        scores = _scores(records, _RULES[scorer])
        _compare_rows(tally, scorer, records, scores)
        metrics = MMBench().aggregate(scores, protocol=_RULES[scorer])
        expected = tables.get(scorer, {})
        tally.fields(scorer, expected, WAYS)
        for way in WAYS:
            _compare_table(tally, f"{scorer}, {way}", expected.get(way, {}), _table(metrics, way), records)
    metrics = MMBench().aggregate(_scores(records, "lmms-eval"), protocol="lmms-eval")
    permissive = tables.get("lmms_eval_static_circular", {}).get("overall")
    ours = _table(metrics, "circular")["Overall"]
    aside = (
        f"informative only: lmms_eval_static_circular overall {permissive}, by rules not offered here; lmms-eval's own, exact, {ours:.6f}"
    )
    return tally.result(len(records), numeric=True, aside=aside)


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="understanding/mmbench_options", recognise=has_any(_OPTIONS_FILE), check=check_options),
    GoldenSuite(name="understanding/mmbench_circular", recognise=has_any(_ROWS_FILE, _TABLES_FILE), check=check_circular),
)


def _inferences(prediction: str, choices: Mapping[str, str], rules: OptionRules) -> dict[str, str | None]:
    inferred = infer(prediction, choices, rules)
    return {
        "option": _only(letter_candidates(prediction, choices, rules)),
        "text": _only(text_candidates(prediction, choices, rules)),
        "infer": inferred.letter or None,
        "final_no_judge": inferred.final,
    }


def _only(letters: Sequence[str]) -> str | None:
    return letters[0] if len(letters) == 1 else None


def _scores(records: Sequence[Record], rules: OptionRules) -> list[Score]:
    """Score every recorded answer as a run does."""
    benchmark = MMBench()
    scores: list[Score] = []
    for record in records:
        reference = {name: record.get(name) for name in ("index", *COLUMNS)}
        identity = str(record["index"])
        sample = Sample(id=identity, task="", request=TextRequest(question=""), reference=reference, cluster=identity)
        judged = Judgement(sample_id=identity, observations=({"text": record["prediction"]},))
        scores += benchmark.score(sample, judged, protocol=rules)
    return scores


def _compare_rows(tally: Tally, scorer: str, records: Sequence[Record], scores: Sequence[Score]) -> None:
    groups = circular_hits(verdict_of(score) for score in scores)
    for record, score in zip(records, scores, strict=True):
        what, expected = f"row {record['index']}, {scorer}", record["expected"][scorer]
        tally.fields(f"row {record['index']}, expected", record["expected"], _CIRCULAR)
        tally.fields(what, expected, ("row_hit_vanilla", "group_hit_circular"))
        tally.equal(f"{what}, row_hit_vanilla", expected.get("row_hit_vanilla"), int(score.values["correct"]))
        tally.equal(f"{what}, group_hit_circular", expected.get("group_hit_circular"), int(groups[group_of(record["index"])]))


def _table(metrics: Sequence[Metric], way: Way) -> dict[str, float]:
    """Return a way's numbers under the names that VLMEvalKit prints."""
    by_ability = "task" if way == "circular" else way
    table = {metric.task: metric.value for metric in metrics if metric.name == by_ability and metric.task}
    (overall,) = (metric.value for metric in metrics if metric.name == way and not metric.task)
    return {"Overall": overall, **table}


def _compare_table(tally: Tally, what: str, expected: Record, found: Mapping[str, float], records: Sequence[Record]) -> None:
    tally.fields(what, expected, ("split", *found))
    tally.equal(f"{what}, split", [expected.get("split")], sorted({str(record["split"]) for record in records}))
    for name in set(expected) & set(found):
        tally.close(f"{what}, {name}", expected[name], found[name], _MEAN)
