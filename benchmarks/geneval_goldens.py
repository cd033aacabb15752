"""GenEval's golden sets: the official scorer's recorded verdicts, summary, geometry, crops, colour head and detector output.

Every check runs the functions that a run uses, takes sizes, counts and names from the data, and compares every recorded field.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from jfeval.benchmarks.geneval_rows import Row, parse_row
from jfeval.benchmarks.geneval_rules import (
    ImageResult,
    Observation,
    Summary,
    Verdict,
    group_of,
    judge_image,
    read_observation,
    summarise,
)
from jfeval.benchmarks.scorers.colour import (
    COLOURS,
    CropSettings,
    build_classifier,
    colour_logits,
    colour_prompts,
    crop_object,
    name_colours,
)
from jfeval.benchmarks.scorers.detector import Instances, instances
from jfeval.benchmarks.scorers.relations import iou, relations
from jfeval.errors import UserError
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, worst_difference

Record: TypeAlias = dict[str, Any]
"""One recorded case; its fields are checked as they are used."""

_EXACT = 1e-12
"""For float64 means whose terms may be summed in another order."""
_IOU = 1e-6
_CLASSIFIER = 1e-5
_LOGITS = 1e-4
"""100 x cosine in float32, summed in another order than in the recording."""
_SCORES = 1e-5

_CASE_FIELDS = ("id", "correct", "reason", "reason_canonical", "tie_sensitive", "kept")
_PAIR_FIELDS = ("a", "b", "relations", "iou")
_CROP_FIELDS = ("i", "options", "has_mask", "crop_size")


def check_cases(folder: Path) -> GoldenResult:
    """Compare verdict, reason and kept detections of every case."""
    cases = _jsonl(folder / "cases.jsonl")
    tally = Tally()
    expected = {str(record.get("id")): record for record in _jsonl(folder / "expected.jsonl")}
    ids = [str(case["id"]) for case in cases]
    if len(set(ids)) != len(ids) or set(ids) != set(expected):
        tally.differ(f"{len(set(ids) ^ set(expected))} ids are in only one of cases.jsonl and expected.jsonl, or an id comes twice")
    for case in cases:
        if str(case["id"]) in expected:
            _compare_case(tally, case, expected[str(case["id"])])
    return tally.result(len(set(ids) & set(expected)), numeric=False)


def check_summary(folder: Path) -> GoldenResult:
    """Compare the summary of all cases: every number, and every line of the printed text (tasks in any order)."""
    results = []
    for case in _jsonl(folder / "cases.jsonl"):
        row, seen = _read_case(case)
        results.append(ImageResult(tag=row.tag, group=group_of(case["metadata"]), correct=judge_image(row, seen).correct))
    summary = summarise(results)
    recorded = json.loads(_text(folder / "summary.json"))
    tally = Tally()
    tally.fields("summary.json", recorded, ("stdout", "parsed"))
    tally.equal("stdout, lines in any order", sorted(recorded.get("stdout", "").split("\n")), sorted(summary.text().split("\n")))
    _compare_tree(tally, "parsed", recorded.get("parsed"), _numbers(summary))
    return tally.result(len(results), numeric=False)


def check_pairs(folder: Path) -> GoldenResult:
    """Compare relations and overlap of every pair of boxes."""
    pairs = _jsonl(folder / "pairs.jsonl")
    tally = Tally()
    for number, pair in enumerate(pairs, start=1):
        tally.fields(f"pair {number}", pair, _PAIR_FIELDS)
        tally.equal(f"pair {number}, relations", sorted(pair["relations"]), list(relations(pair["a"], pair["b"])))
        tally.close(f"pair {number}, iou", pair["iou"], iou(pair["a"], pair["b"]), _IOU)
    return tally.result(len(pairs), numeric=True)


def check_crops(folder: Path) -> GoldenResult:
    """Compare the pixels and size of every crop."""
    records = json.loads(_text(folder / "crops.json"))
    arrays = _arrays(folder / "crops.npz")
    tally = Tally()
    for record in records:
        i = record["i"]
        tally.fields(f"crop {i}", record, _CROP_FIELDS)
        options: Mapping[str, str] = record["options"]
        if not set(options) <= {"bgcolor", "crop"}:
            tally.differ(f"crop {i}: unknown option among {sorted(options)}")
        settings = CropSettings(background=options.get("bgcolor", CropSettings.background), crop=options.get("crop", "1") == "1")
        tally.equal(f"crop {i}, has_mask", record["has_mask"], f"mask{i}" in arrays)
        cut = crop_object(Image.fromarray(arrays[f"img{i}"]), arrays[f"box{i}"], arrays.get(f"mask{i}"), settings)
        tally.equal(f"crop {i}, size", record["crop_size"], list(cut.size))
        tally.close(f"crop {i}, pixels", arrays[f"crop{i}"], np.asarray(cut), 0.0)
    unlisted = {name for name in arrays if name.startswith("crop")} - {f"crop{record['i']}" for record in records}
    if unlisted:
        tally.differ(f"crops.json does not list {sorted(unlisted)}")
    return tally.result(len(records), numeric=True)


def check_clip_head(folder: Path) -> GoldenResult:
    """Compare the colour prompts, the classifier built from their embeddings, the logits and the named colours."""
    arrays = _arrays(folder / "clip_head.npz")
    tally = Tally()
    texts = [str(text) for text in arrays["texts"]]
    noun = texts[0].removeprefix(colour_prompts("")[0]) if texts else ""
    tally.equal("texts", texts, colour_prompts(noun))
    classifier = build_classifier(arrays["text_embeddings"], classes=len(COLOURS))
    logits = colour_logits(arrays["image_features"], classifier)
    tally.close("classifier", arrays["classifier"], classifier, _CLASSIFIER)
    tally.close("logits", arrays["logits"], logits, _LOGITS)
    tally.equal("pred", [str(name) for name in arrays["pred"]], [str(name) for name in name_colours(logits)])
    return tally.result(len(arrays["pred"]), numeric=True)


def check_mask2former_post(folder: Path) -> GoldenResult:
    """Compare the objects made of class and mask logits; objects of equal score may stand in any order."""
    arrays = _arrays(folder / "mask2former_post.npz")
    numbers = sorted({int(found[1]) for name in arrays if (found := re.fullmatch(r"[a-z_]+?(\d+)", name))})
    tally = Tally()
    for i in numbers:
        expected = Instances(scores=arrays[f"scores{i}"], labels=arrays[f"labels{i}"], boxes=arrays[f"boxes{i}"], masks=arrays[f"masks{i}"])
        found = instances(arrays[f"cls{i}"], arrays[f"mask_logits{i}"], max_per_image=len(expected.scores))
        tally.close(f"case {i}, scores", expected.scores, found.scores, _SCORES)
        unmatched = _unmatched(expected, found)
        if unmatched:
            tally.differ(
                f"case {i}: {unmatched} of {len(expected.scores)} objects have no counterpart with this score, label, box and mask"
            )
    return tally.result(len(numbers), numeric=True)


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="geneval/cases", recognise=has_any("cases.jsonl", "expected.jsonl"), check=check_cases),
    GoldenSuite(name="geneval/summary", recognise=has_any("summary.json"), check=check_summary),
    GoldenSuite(name="geneval/pairs", recognise=has_any("pairs.jsonl"), check=check_pairs),
    GoldenSuite(name="geneval/crops", recognise=has_any("crops.json", "crops.npz"), check=check_crops),
    GoldenSuite(name="geneval/clip_head", recognise=has_any("clip_head.npz"), check=check_clip_head),
    GoldenSuite(name="geneval/mask2former_post", recognise=has_any("mask2former_post.npz"), check=check_mask2former_post),
)


def _read_case(case: Record) -> tuple[Row, Observation]:
    """Turn a case into what a run judges: a checked row, and an observation whose colours the colour head names."""
    where = f"case {case['id']}"
    logits = {name: np.asarray(rows, dtype=np.float32).reshape(-1, len(COLOURS)) for name, rows in case["color_logits"].items()}
    colors = {name: list(name_colours(rows)) for name, rows in logits.items()}
    return parse_row(case["metadata"], where=where), read_observation({"detections": case["detections"], "colors": colors}, where=where)


def _compare_case(tally: Tally, case: Record, expected: Record) -> None:
    what = f"case {case['id']}"
    tally.fields(what, expected, _CASE_FIELDS)
    try:
        row, seen = _read_case(case)
        verdict, other = judge_image(row, seen), judge_image(row, _reversed(seen))
    except (UserError, ValueError) as error:
        tally.differ(f"{what}: {error}")
        return
    tally.equal(f"{what}, correct", expected.get("correct"), verdict.correct)
    tally.equal(f"{what}, reason_canonical", expected.get("reason_canonical"), verdict.reason)
    tally.equal(f"{what}, reason", _canonical(str(expected.get("reason"))), verdict.reason)
    sensitive = (verdict.correct, verdict.reason) != (other.correct, other.reason)
    tally.equal(f"{what}, tie_sensitive", expected.get("tie_sensitive"), sensitive)
    kept = expected.get("kept", {})
    tally.equal(f"{what}, classes kept", sorted(kept), sorted(verdict.kept))
    for name in set(kept) & set(verdict.kept):
        if not _same_kept(kept[name], seen, verdict, name):
            tally.differ(f"{what}: other detections of {name!r} are kept")


def _reversed(seen: Observation) -> Observation:
    """Give the same detections in the opposite order, so that ties fall the other way."""
    colors = {name: list(reversed(names)) for name, names in seen.colors.items()}
    return Observation(detections={name: boxes[::-1] for name, boxes in seen.detections.items()}, colors=colors)


def _same_kept(expected: Sequence[Sequence[float]], seen: Observation, verdict: Verdict, name: str) -> bool:
    """Compare kept detections as lists by score, ties in any order.

    Where the cap cuts through a tie, which of the tied ones stay is the sort's choice: those must then be detections of that score.
    """
    boxes = seen.detections[name]
    found = [tuple(boxes[index].tolist()) for index in verdict.kept[name]]
    wanted = [tuple(map(float, row)) for row in expected]
    if [row[4] for row in wanted] != [row[4] for row in found]:
        return False
    last = found[-1][4]
    above = Counter(row for row in wanted if row[4] > last) == Counter(row for row in found if row[4] > last)
    tied = Counter(tuple(row.tolist()) for row in boxes if float(row[4]) == last)
    return above and not Counter(row for row in wanted if row[4] == last) - tied


def _canonical(reason: str) -> str:
    """Sort the two names of a diagonal in each line of a reason."""

    def sort(line: str) -> str:
        head, mark, names = line.removesuffix(" target").rpartition(" target, found ")
        return f"{head}{mark}{' and '.join(sorted(names.split(' and ')))} target" if mark and line.endswith(" target") else line

    return "\n".join(sort(line) for line in reason.split("\n"))


def _numbers(summary: Summary) -> Record:
    tasks = {tag: {"score": task.score, "correct": task.correct, "n": task.n} for tag, task in summary.tasks.items()}
    return {
        "total_images": summary.total_images,
        "total_prompts": summary.total_prompts,
        "correct_images": summary.correct_images,
        "correct_prompts": summary.correct_prompts,
        "tasks": tasks,
        "overall": summary.overall,
    }


def _compare_tree(tally: Tally, what: str, expected: object, found: object) -> None:
    """Compare nested objects key by key; fractions up to rounding, everything else exactly."""
    if isinstance(expected, dict) and isinstance(found, dict):
        tally.fields(what, expected, found)
        for key in set(expected) & set(found):
            _compare_tree(tally, f"{what}.{key}", expected[key], found[key])
    elif isinstance(expected, float) and isinstance(found, float):
        tally.close(what, expected, found, _EXACT)
    else:
        tally.equal(what, expected, found)


def _unmatched(expected: Instances, found: Instances) -> int:
    """Count expected objects without a counterpart; each counterpart serves once."""
    free = list(range(len(found.scores)))
    missing = 0
    for i in range(len(expected.scores)):
        match = next((j for j in free if _same_object(expected, i, found, j)), None)
        if match is None:
            missing += 1
        else:
            free.remove(match)
    return missing


def _same_object(a: Instances, i: int, b: Instances, j: int) -> bool:
    return bool(
        abs(float(a.scores[i]) - float(b.scores[j])) <= _SCORES
        and a.labels[i] == b.labels[j]
        and worst_difference(a.boxes[i], b.boxes[j]) == 0
        and np.array_equal(a.masks[i], b.masks[j])
    )


def _text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    return path.read_text(encoding="utf-8")


def _jsonl(path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(_text(path).removesuffix("\n").split("\n"), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path.name}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict):
            raise UserError(f"{path.name}, line {number}: not an object")
        records.append(record)
    return records


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
