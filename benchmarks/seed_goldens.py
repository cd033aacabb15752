"""SEED-Bench's golden set: verdicts by letter and by likelihood under every published scorer, and their tables.

Every check runs the functions that a run uses and compares every recorded field. Questions about videos are in the set; a run leaves them
out, the scorers do not.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from jfeval.benchmarks.seed import Seed, SeedLikelihood, table_of
from jfeval.benchmarks.seed_rows import CHOICES
from jfeval.benchmarks.seed_rules import (
    DIMENSIONS,
    IMAGE_DIMENSIONS,
    OFFICIAL_SUMMARY_ERROR,
    LetterScorer,
    first_character,
    llava_letter,
    rank,
)
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_file, json_lines
from jfeval.schema import Judgement, Sample, Score, TextRequest

Record: TypeAlias = dict[str, Any]
_Keep: TypeAlias = Callable[[str], bool]

_ROWS, _TABLES = "seed.jsonl", "seed.aggregate.json"
_MEAN = 1e-12
"""For float64 means whose terms may be summed in another order."""
_FIELDS = (
    "question_id",
    "question_type_id",
    "data_type",
    "question",
    *CHOICES,
    "answer",
    "data_id",
    "prediction",
    "choice_losses",
    "expected",
)
_EXPECTED = ("lmms_eval_pred", "lmms_eval_hit", "llava_hit_raw", "llava_hit_after_strip", "official_ranking_pred", "official_ranking_hit")
_VLMEVALKIT: LetterScorer = "vlmevalkit-head"
"""The recordings are of HEAD's rules; those of November 2024 are compared on MMBench's answers."""
_PARTS: Mapping[str, _Keep] = {
    "image": lambda name: name in IMAGE_DIMENSIONS,
    "video": lambda name: name not in IMAGE_DIMENSIONS,
    "all": lambda _: True,
}


def check_seed(folder: Path) -> GoldenResult:
    """Compare every verdict, and every number of every table."""
    records, tables = json_lines(folder / _ROWS), json_file(folder / _TABLES)
    tally = Tally()
    scores = {scorer: _scores(Seed(), records, "prediction", scorer) for scorer in Seed.protocols}
    scores |= {"llava_raw": [_verdict(r, llava_letter(r["prediction"])) for r in records]}
    scores |= {"official": _scores(SeedLikelihood(), records, "choice_losses", "official")}
    for place, record in enumerate(records):
        _compare_row(tally, record, {name: int(found[place].values["correct"]) for name, found in scores.items()})
    _compare_tables(tally, tables, records, scores)
    return tally.result(len(records), numeric=True)


SUITES: tuple[GoldenSuite, ...] = (GoldenSuite(name="understanding/seed", recognise=has_any(_ROWS, _TABLES), check=check_seed),)


def _scores(benchmark: Seed, records: Sequence[Record], field: str, scorer: str) -> list[Score]:
    """Score every recorded answer as a run does."""
    scores: list[Score] = []
    for record in records:
        identity, answer = record["question_id"], record[field]
        sample = Sample(id=identity, task="", request=TextRequest(question=""), reference=record, cluster=identity)
        judged = Judgement(sample_id=identity, observations=({"text": answer if isinstance(answer, str) else json.dumps(answer)},))
        scores += benchmark.score(sample, judged, protocol=scorer)
    return scores


def _verdict(record: Record, letter: str) -> Score:
    values = {"correct": float(letter == record["answer"])}
    dimension, identity = DIMENSIONS[record["question_type_id"]], record["question_id"]
    return Score(sample_id=identity, task=dimension, cluster=identity, values=values)


def _compare_row(tally: Tally, record: Record, hits: Mapping[str, int]) -> None:
    what, expected = f"question {record['question_id']}", record["expected"]
    image = record["data_type"] == "image"
    tally.fields(what, [name for name in record if name != "segment"], _FIELDS)
    tally.fields(f"{what}, expected", expected, (*_EXPECTED, *(("vlmevalkit_hit",) if image else ())))
    found: dict[str, object] = {
        "lmms_eval_pred": first_character(record["prediction"]),
        "lmms_eval_hit": hits["lmms-eval"],
        "llava_hit_raw": hits["llava_raw"],
        "llava_hit_after_strip": hits["llava"],
        "official_ranking_pred": rank(record["choice_losses"]),
        "official_ranking_hit": hits["official"],
    }
    for name in set(found) & set(expected):
        tally.equal(f"{what}, {name}", expected[name], found[name])
    if image:
        tally.equal(f"{what}, vlmevalkit_hit", expected.get("vlmevalkit_hit"), hits[_VLMEVALKIT])


def _compare_tables(tally: Tally, tables: Record, records: Sequence[Record], scores: Mapping[str, Sequence[Score]]) -> None:
    tally.fields(
        _TABLES,
        tables,
        (
            "n",
            "n_image",
            "lmms_eval",
            "llava_raw",
            "llava_after_strip",
            "vlmevalkit_image_only",
            "official_ranking",
            "official_unpatched_error",
        ),
    )
    tally.equal("official_unpatched_error", tables.get("official_unpatched_error"), OFFICIAL_SUMMARY_ERROR)
    tally.equal("n", tables.get("n"), len(records))
    tally.equal("n_image", tables.get("n_image"), sum(record["data_type"] == "image" for record in records))
    found = {f"seed_{part}": _overall(scores["lmms-eval"], keep) for part, keep in _PARTS.items()}
    _compare(tally, "lmms_eval", tables.get("lmms_eval", {}), found)
    for name, scorer in (("llava_raw", "llava_raw"), ("llava_after_strip", "llava")):
        parts = {"Total accuracy": "all", "image accuracy": "image", "video accuracy": "video"}
        found = {key: _overall(scores[scorer], _PARTS[part]) for key, part in parts.items()} | _by_dimension(scores[scorer], _PARTS["all"])
        _compare(tally, name, tables.get(name, {}), {key: _percent(value) for key, value in found.items()})
    expected = dict(tables.get("vlmevalkit_image_only", {}))
    tally.equal("vlmevalkit_image_only, split", expected.pop("split", None), ["none"])
    found = {"Overall": _overall(scores[_VLMEVALKIT], _PARTS["image"])} | _by_dimension(scores[_VLMEVALKIT], _PARTS["image"])
    _compare(tally, "vlmevalkit_image_only", expected, found)
    _compare_ranking(tally, tables.get("official_ranking", {}), scores["official"])


def _compare_ranking(tally: Tally, expected: Record, scores: Sequence[Score]) -> None:
    """Compare the official summary, whose dimensions are numbers."""
    tally.fields("official_ranking", expected, _PARTS)
    numbers = {name: str(number) for number, name in DIMENSIONS.items()}
    for part, keep in _PARTS.items():
        what, record = f"official_ranking, {part}", expected.get(part, {})
        tally.fields(what, record, ("n", "per_type", "total"))
        tally.equal(f"{what}, n", record.get("n"), sum(keep(score.task) for score in scores))
        tally.equal(f"{what}, total", record.get("total"), _percent(_overall(scores, keep)))
        found = {numbers[name]: _percent(value) for name, value in _by_dimension(scores, keep).items()}
        _compare(tally, f"{what}, per_type", record.get("per_type", {}), found)


def _compare(tally: Tally, what: str, expected: Mapping[str, float], found: Mapping[str, float]) -> None:
    tally.fields(what, expected, found)
    for name in set(expected) & set(found):
        tally.close(f"{what}, {name}", expected[name], found[name], _MEAN)


def _overall(scores: Sequence[Score], keep: _Keep) -> float:
    return table_of([score for score in scores if keep(score.task)]).overall.value


def _by_dimension(scores: Sequence[Score], keep: _Keep) -> dict[str, float]:
    table = table_of([score for score in scores if keep(score.task)])
    return {name: found.value for name, found in table.dimensions.items()}


def _percent(share: float) -> float:
    """Return a share as the scripts print it: percent with two decimals."""
    return float(f"{100 * share:.2f}")
