"""POPE's golden sets: recorded verdicts on single answers, and recorded aggregates, of the four published scorers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from jfeval.benchmarks.pope_rows import SPLITS
from jfeval.benchmarks.pope_rules import FIGURES, Answered, Figure, Said, figures, llava, lmms_eval, official, vlmevalkit, vlmevalkit_stored
from jfeval.benchmarks.understanding.ratios import Ratio, mean_ratio
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_file, json_lines

Record: TypeAlias = dict[str, Any]

_EXACT = 1e-12
"""For float64 ratios whose terms may be summed in another order."""
_FIELDS = ("official", "official_after_strip", "llava", "vlmevalkit", "lmms_eval_pred", "lmms_eval_score")
_AGGREGATES = ("n_unique", "official", "llava", "llava_stripped", "lmms_eval", "vlmevalkit")
_VLMEVALKIT_WORDS: Mapping[Said, str] = {"yes": "Yes", "no": "No", "neither": "Unknown"}
_NAMES: Mapping[str, Figure] = {"acc": "accuracy", **{name: name for name in FIGURES}}
_POOLED = {"concatenated", "Overall"}


def check(folder: Path) -> GoldenResult:
    """Compare every recorded verdict and every recorded number."""
    records = json_lines(folder / "pope.jsonl")
    tally = Tally()
    for record in records:
        _compare_verdicts(tally, record)
    aggregate = json_file(folder / "pope.aggregate.json")
    tally.fields("aggregate", aggregate, _AGGREGATES)
    tally.equal("aggregate, n_unique", aggregate["n_unique"], len(records))
    _compare_counts(tally, "official", aggregate["official"], records, official)
    _compare_counts(tally, "llava", aggregate["llava"], records, official)
    _compare_counts(tally, "llava_stripped", aggregate["llava_stripped"], records, llava)
    _compare_lmms_eval(tally, aggregate["lmms_eval"], records)
    _compare_vlmevalkit(tally, aggregate["vlmevalkit"], records)
    return tally.result(len(records), numeric=True)


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="understanding/pope", recognise=has_any("pope.jsonl", "pope.aggregate.json"), check=check),
)


def _compare_verdicts(tally: Tally, record: Record) -> None:
    what, answer, expected = f"record {record['id']}", record["prediction"], record["expected"]
    tally.fields(what, expected, _FIELDS)
    said = lmms_eval(answer)
    found: Record = {
        "official": official(answer),
        "official_after_strip": llava(answer),
        "llava": official(answer),  # recorded on answers as they stand, which LLaVA itself strips earlier
        "vlmevalkit": _VLMEVALKIT_WORDS[vlmevalkit(answer)],
        "lmms_eval_pred": answer.lower().strip() if said == "neither" else said,
        "lmms_eval_score": float(said == record["label"]),
    }
    for name in _FIELDS:
        tally.equal(f"{what}, {name}", expected.get(name), found[name])


def _compare_counts(tally: Tally, what: str, recorded: Record, records: Sequence[Record], read: Callable[[str], Said]) -> None:
    """Compare a scorer in the official form: counts, five figures per split, and means over splits where they are recorded."""
    for name, numbers in recorded.items():
        if isinstance(numbers, dict):
            rows = _rows(records, name, read)
            found = {key: one.value for key, one in figures(rows, "official").items()}
            found |= {"n": len(rows), **_confusion(rows)}
            tally.fields(f"{what}, {name}", numbers, ("n", "TP", "FP", "TN", "FN", "acc", "precision", "recall", "f1", "yes_ratio"))
            _compare_numbers(tally, f"{what}, {name}", numbers, found)
        else:
            figure = _NAMES.get(name.removeprefix("mean_").removesuffix("_over_splits"))
            if figure is None:
                tally.differ(f"{what}: field {name!r} is not one that is compared")
                continue
            mean = mean_ratio([_figures(records, split, read, "official")[figure] for split in SPLITS])
            tally.close(f"{what}, {name}", numbers, mean.value, _EXACT)


def _compare_lmms_eval(tally: Tally, recorded: Record, records: Sequence[Record]) -> None:
    for name, numbers in recorded.items():
        rows = _rows(records, name, lmms_eval)
        found = {key: one.value for key, one in figures(rows, "lmms-eval").items()}
        found |= {"n": len(rows), "yes_ratio_as_reported": found["yes_ratio"]}
        tally.fields(f"lmms_eval, {name}", numbers, ("n", "accuracy", "precision", "recall", "f1", "yes_ratio_as_reported"))
        _compare_numbers(tally, f"lmms_eval, {name}", numbers, found)


def _compare_vlmevalkit(tally: Tally, recorded: Record, records: Sequence[Record]) -> None:
    tally.fields("vlmevalkit", recorded, ("Overall", *SPLITS))
    for name, numbers in recorded.items():
        found = {key: 100 * one.value for key, one in _figures(records, name, vlmevalkit_stored, "vlmevalkit-head").items()}
        tally.fields(f"vlmevalkit, {name}", numbers, ("f1", "acc", "precision", "recall"))
        _compare_numbers(tally, f"vlmevalkit, {name}", numbers, found)


def _compare_numbers(tally: Tally, what: str, recorded: Record, found: Mapping[str, float]) -> None:
    for name, number in recorded.items():
        mine = found.get(_NAMES.get(name, name))
        if mine is None:
            tally.differ(f"{what}: field {name!r} is not one that is compared")
        else:
            tally.close(f"{what}, {name}", number, mine, _EXACT * max(1.0, abs(number)))


def _figures(records: Sequence[Record], split: str, read: Callable[[str], Said], scorer: str) -> dict[Figure, Ratio]:
    return figures(_rows(records, split, read), scorer)


def _rows(records: Sequence[Record], split: str, read: Callable[[str], Said]) -> list[Answered]:
    """Read the answers of a split; pooled, those of every split one after the other."""
    splits = SPLITS if split in _POOLED else (split,)
    return [
        Answered(label=record["label"], said=read(record["prediction"]), cluster=record["image"])
        for one in splits
        for record in records
        if one in record["categories"]
    ]


def _confusion(rows: Sequence[Answered]) -> dict[str, int]:
    names = {("yes", "yes"): "TP", ("no", "yes"): "FP", ("no", "no"): "TN", ("yes", "no"): "FN"}
    counts = dict.fromkeys(names.values(), 0)
    for row in rows:
        counts[names[row.label, row.said]] += 1
    return counts
