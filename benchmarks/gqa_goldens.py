"""GQA's golden sets: recorded verdicts on single answers, and recorded aggregates, of the published scorers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from jfeval.benchmarks.gqa_rows import Row, parse_row
from jfeval.benchmarks.gqa_rules import SCORERS, VLMEVALKIT_FUNCTION, Grouped, Matcher, distribution, llava_converted, matches
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_file, json_lines

Record: TypeAlias = dict[str, Any]

_EXACT = 1e-10
"""For percentages in float64 whose terms may be summed in another order."""
_FIELDS = (
    "official_raw",
    "llava_converted",
    "official_on_llava_converted",
    "llava_converted_after_strip",
    "official_on_llava_converted_after_strip",
    "lmms_eval",
    "vlmevalkit",
)
_OFFICIAL_FIELDS = (
    "accuracy",
    "binary",
    "open",
    "distribution",
    "validity",
    "plausibility",
    "perStructuralType",
    "perSemanticType",
    "perSteps",
    "perLength",
)
_BREAKDOWNS: Mapping[str, Callable[[Row], str]] = {
    "perStructuralType": lambda row: row.structural,
    "perSemanticType": lambda row: row.semantic,
    "perSteps": lambda row: str(row.steps),
    "perLength": lambda row: str(row.words),
}
_UNREAD = ("validity", "plausibility")
"""The recorded script prints 0 for both, because they need files that this data lacks; they are not reported."""
_RAW = SCORERS["official"]
_CONVERTED = Matcher(said=llava_converted, gold=lambda text: text)


def check(folder: Path) -> GoldenResult:
    """Compare every recorded verdict and every recorded number."""
    records = json_lines(folder / "gqa.jsonl")
    rows = [parse_row(record["questionId"], record, where=f"record {record['questionId']}") for record in records]
    tally = Tally()
    for record, row in zip(records, rows, strict=True):
        _compare_verdicts(tally, record, row)
    aggregate = json_file(folder / "gqa.aggregate.json")
    treatments = {
        "official_raw": _RAW,
        "official_on_llava_converted": _CONVERTED,
        "official_on_llava_converted_after_strip": SCORERS["llava"],
    }
    plain = {"lmms_eval_exact_match_all_rows": ("lmms-eval", 1.0), "vlmevalkit_overall_all_rows": ("vlmevalkit-head", 100.0)}
    tally.fields("aggregate", aggregate, ("n_rows", "n_balanced", *treatments, *plain))
    tally.equal("aggregate, n_rows", aggregate["n_rows"], len(rows))
    tally.equal("aggregate, n_balanced", aggregate["n_balanced"], sum(row.balanced for row in rows))
    answers = [record["prediction"] for record in records]
    for name, matcher in treatments.items():
        _compare_official(tally, name, aggregate[name], rows, [matcher.said(answer) for answer in answers])
    for name, (scorer, scale) in plain.items():
        right = [matches(SCORERS[scorer], answer, row.answer) for answer, row in zip(answers, rows, strict=True)]
        tally.close(name, aggregate[name], scale * sum(right) / len(right), _EXACT)
    return tally.result(len(records), numeric=True)


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="understanding/gqa", recognise=has_any("gqa.jsonl", "gqa.aggregate.json"), check=check),
)


def _compare_verdicts(tally: Tally, record: Record, row: Row) -> None:
    what, answer, expected = f"record {row.id}", record["prediction"], record["expected"]
    tally.fields(what, expected, _FIELDS)
    found: Record = {
        "official_raw": int(matches(_RAW, answer, row.answer)),
        "llava_converted": _CONVERTED.said(answer),
        "official_on_llava_converted": int(matches(_CONVERTED, answer, row.answer)),
        "llava_converted_after_strip": SCORERS["llava"].said(answer),
        "official_on_llava_converted_after_strip": int(matches(SCORERS["llava"], answer, row.answer)),
        "lmms_eval": float(matches(SCORERS["lmms-eval"], answer, row.answer)),
        "vlmevalkit": float(matches(VLMEVALKIT_FUNCTION, answer, row.answer)),
    }
    for name in _FIELDS:
        tally.equal(f"{what}, {name}", expected.get(name), found[name])


def _compare_official(tally: Tally, what: str, recorded: Record, rows: Sequence[Row], said: Sequence[str]) -> None:
    tally.fields(what, recorded, _OFFICIAL_FIELDS)
    balanced = [(row, answer) for row, answer in zip(rows, said, strict=True) if row.balanced]
    for name, kept in (("accuracy", ("",)), ("binary", ("binary",)), ("open", ("open",))):
        listed = [answer == row.answer for row, answer in balanced if name == "accuracy" or row.kind in kept]
        tally.close(f"{what}, {name}", recorded[name], 100 * sum(listed) / len(listed), _EXACT)
    grouped = [Grouped(group=row.group, gold=row.answer, said=answer, cluster=row.image) for row, answer in balanced if row.group]
    tally.close(f"{what}, distribution", recorded["distribution"], distribution(grouped).value, _EXACT)
    for name in _UNREAD:
        tally.equal(f"{what}, {name}", recorded[name], 0.0)
    for name, key in _BREAKDOWNS.items():
        parts: dict[str, list[bool]] = {}
        for row, answer in balanced:
            parts.setdefault(key(row), []).append(answer == row.answer)
        tally.fields(f"{what}, {name}", recorded[name], parts)
        for part in set(parts) & set(recorded[name]):
            tally.fields(f"{what}, {name} {part}", recorded[name][part], ("acc", "n"))
            tally.equal(f"{what}, {name} {part}, n", recorded[name][part]["n"], len(parts[part]))
            tally.close(f"{what}, {name} {part}, acc", recorded[name][part]["acc"], 100 * sum(parts[part]) / len(parts[part]), _EXACT)
