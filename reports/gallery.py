"""The gallery's data: every sample with its pictures, verdicts, reasons and what the judge saw, as one JSON value for the page's script."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jfeval.reports.images import BUDGET, embed
from jfeval.reports.status import status
from jfeval.reports.text import clean, label, one_line
from jfeval.schema import ImageRequest, Json, JsonObject, Judgement, Output, Sample, Score, TextRequest
from jfeval.store import Store

MAX_REASON = 800
"""Longest reason shown, in characters."""

MAX_BOXES = 48
"""Most boxes drawn over one picture, the surest first."""

LEAST_SCORE = 0.3
"""Boxes the detector is less sure of are not drawn. Source: djghosh13/geneval evaluate_images.py, ``--options threshold`` default."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the page's script draws."""

    data: JsonObject
    """``runs`` and ``images``; the samples refer to images by position."""
    left_out: int
    """How many stored pictures are not shown: missing, unreadable, or over the file's budget."""

    @property
    def samples(self) -> int:
        """Count the samples of all runs."""
        runs = self.data["runs"]
        return (
            sum(len(run["samples"]) for run in runs if isinstance(run, dict) and isinstance(run["samples"], list))
            if isinstance(runs, list)
            else 0
        )


def build_gallery(stores: Sequence[Store], *, budget: int = BUDGET) -> Gallery:
    """Collect the samples of every run, with each picture embedded once.

    Args:
        stores: The runs, in the order of the page's choice.
        budget: Most characters that the embedded pictures may take.
    """
    readers: dict[str, Callable[[], bytes | None]] = {}
    plans = [(store, store.record(), store.samples(), store.outputs()) for store in stores]
    for store, _, samples, outputs in plans:
        for sample in samples:
            if isinstance(sample.request, TextRequest):
                readers |= {_given_key(data): (lambda data=data: data) for data in sample.request.images}
            for sha in outputs[sample.id].images if sample.id in outputs else ():
                readers.setdefault(sha, lambda store=store, sha=sha: store.read_image(sha))
    uris = embed(readers, budget=budget)
    position = {key: i for i, key in enumerate(uris)}
    runs: list[Json] = []
    for store, record, samples, outputs in plans:
        tasks = list(dict.fromkeys(sample.task for sample in samples))
        judgements = store.judgements()
        scores: dict[str, list[Score]] = {}
        for score in store.scores():
            scores.setdefault(score.sample_id, []).append(score)
        drawn: list[Json] = [
            _sample(s, tasks.index(s.task), outputs.get(s.id), judgements.get(s.id), scores.get(s.id, []), position) for s in samples
        ]
        runs.append(
            {
                "name": f"{one_line(record.model, 120)}, {one_line(record.benchmark, 40)} {record.edition}, seed {record.seed}",
                "mark": status(record).mark,
                "tasks": [[one_line(task, 80), label(task)] for task in tasks],
                "samples": drawn,
            }
        )
    return Gallery(data={"runs": runs, "images": list(uris.values())}, left_out=len(readers) - len(uris))


def _sample(
    sample: Sample, task: int, output: Output | None, judgement: Judgement | None, scores: Sequence[Score], position: Mapping[str, int]
) -> Json:
    """Return one sample as the script reads it."""
    by_index = {score.index: score for score in scores}
    observations = judgement.observations if judgement else ()
    error = "not finished" if output is None else output.error or (judgement.error if judgement else "")
    drawn: JsonObject = {"id": one_line(sample.id, 120), "task": task, "asked": _reference(sample), "error": clean(error, MAX_REASON)}
    if isinstance(sample.request, ImageRequest):
        keys: Sequence[str] = output.images if output else ()
        drawn["prompt"] = clean(sample.request.prompt)
    else:
        keys = [_given_key(data) for data in sample.request.images]
        drawn["prompt"] = clean(sample.request.question)
        drawn["answer"] = clean(output.text) if output else ""
        drawn["verdict"] = _verdict(by_index[0]) if 0 in by_index else None
    images: list[Json] = []
    for i, key in enumerate(keys):
        picture: JsonObject = {"src": position.get(key, -1)}
        if isinstance(sample.request, ImageRequest):
            picture["verdict"] = _verdict(by_index[i]) if i in by_index else None
        if i < len(observations):
            picture |= _boxes(observations[i])
        images.append(picture)
    drawn["images"] = images
    return drawn


def _verdict(score: Score) -> Json:
    """Return a score's value (1 is right), its reason, and what else is worth saying."""
    name = "correct" if "correct" in score.values else next(iter(score.values), "")
    value = score.values.get(name)
    notes: list[Json] = []
    if value == 1.0 and score.values.get("exact_scene") == 0.0:
        notes.append("more in the picture than was asked for")
    return {
        "value": None if value is None or not math.isfinite(value) else value,
        "reason": clean(score.reason, MAX_REASON),
        "notes": notes,
    }


def _boxes(observation: JsonObject) -> JsonObject:
    """Return the boxes of an observation in the detector's form; nothing for any other form.

    The form is ``{"width", "height", "detections": {class: [[x0, y0, x1, y1, score]]}, "colors": {class: [name]}}``.
    """
    width, height, detections = observation.get("width"), observation.get("height"), observation.get("detections")
    colors = observation.get("colors")
    if not (_positive(width) and _positive(height) and isinstance(detections, dict)):
        return {}
    found: list[tuple[float, list[Json]]] = []
    for name, rows in detections.items():
        names = colors.get(name) if isinstance(colors, dict) else None
        for i, row in enumerate(rows if isinstance(rows, list) else []):
            box = [float(v) for v in row if isinstance(v, (int, float)) and math.isfinite(v)] if isinstance(row, list) else []
            if len(box) < 5 or box[4] <= LEAST_SCORE:
                continue
            color = names[i] if isinstance(names, list) and i < len(names) and isinstance(names[i], str) else ""
            words = one_line(f"{color} {name}", 60)
            found.append((-box[4], [*(round(v, 2) for v in box[:4]), round(box[4], 3), words]))
    found.sort(key=lambda pair: pair[0])
    boxes: list[Json] = [box for _, box in found[:MAX_BOXES]]
    return {"w": width, "h": height, "boxes": boxes}


def _positive(value: Json) -> bool:
    """Tell whether a JSON value is a number above zero."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _reference(sample: Sample) -> str:
    """Return what was asked, in the data row's own form."""
    return clean(json.dumps(sample.reference, ensure_ascii=False, sort_keys=True), MAX_REASON)


def _given_key(data: bytes) -> str:
    """Name a picture that came with a question by its content."""
    from hashlib import sha256

    return sha256(data).hexdigest()
