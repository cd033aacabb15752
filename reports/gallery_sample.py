"""One sample and one result as the page's script reads them: bounded, cleaned, and without what the judge's form does not state."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

from jfeval.reports.text import clean, one_line
from jfeval.schema import ImageRequest, Json, JsonObject, Judgement, Output, Sample, Score

MAX_REASON = 800
"""Longest reason shown, in characters."""

MAX_BOXES = 48
"""Most boxes drawn over one picture, the surest first."""

MAX_QUESTIONS = 120
"""Most questions of one prompt's tree that are shown."""

LEAST_SCORE = 0.3
"""Boxes the detector is less sure of are not drawn. Source: djghosh13/geneval evaluate_images.py, ``--options threshold`` default."""

Picture: TypeAlias = Callable[[str], JsonObject]
"""Tells where a picture is, by the hash of its content."""


def given_key(data: bytes) -> str:
    """Name a picture that came with a question by its content."""
    return sha256(data).hexdigest()


def sample_json(sample: Sample, task: int, given: Sequence[str], picture: Picture) -> JsonObject:
    """Return what every run of a benchmark shares: what was asked."""
    request = sample.request
    prompt = request.prompt if isinstance(request, ImageRequest) else request.question
    asked = clean(json.dumps(sample.reference, ensure_ascii=False, sort_keys=True), MAX_REASON)
    drawn: JsonObject = {"id": one_line(sample.id, 120), "task": task, "prompt": clean(prompt), "asked": asked}
    if not isinstance(request, ImageRequest):
        drawn["given"] = [picture(key) for key in given]
    questions = _questions(sample.reference)
    if questions:
        drawn["questions"] = questions
    return drawn


def result_json(
    sample: Sample, output: Output | None, judgement: Judgement | None, scores: Sequence[Score], verdict: str, picture: Picture
) -> JsonObject:
    """Return what one run answered and how that was judged.

    Args:
        sample: What was asked.
        output: What came back, if anything did.
        judgement: What the judge saw.
        scores: The sample's scores.
        verdict: Name of the score that says how right an item is; empty where there is none.
        picture: Tells where a picture is.
    """
    by_index = {score.index: score for score in reversed(scores)}
    observations = judgement.observations if judgement else ()
    error = "not finished" if output is None else output.error or (judgement.error if judgement else "")
    drawn: JsonObject = {"error": clean(error, MAX_REASON)} if error else {}
    if not isinstance(sample.request, ImageRequest):
        first = scores[0] if scores else None
        return {**drawn, "answer": clean(output.text) if output else "", "verdict": verdict_json(first, verdict)}
    images: list[Json] = []
    for i, key in enumerate(output.images if output else ()):
        seen = observations[i] if i < len(observations) else {}
        images.append({**picture(key), "verdict": verdict_json(by_index.get(i), verdict), **_boxes(seen), **_answers(seen, sample)})
    return {**drawn, "images": images}


def verdict_json(score: Score | None, name: str) -> Json:
    """Return how right an item is (1 is right), why, and what else is worth saying; None where nothing was scored."""
    if score is None:
        return None
    value = score.values.get(name)
    notes: list[Json] = []
    if value == 1.0 and score.values.get("exact_scene") == 0.0:
        notes.append("more in the picture than was asked for")
    drawn: JsonObject = {"value": round(value, 6) if value is not None and math.isfinite(value) else None}
    drawn |= {"reason": clean(score.reason, MAX_REASON)} if score.reason else {}
    return {**drawn, **({"notes": notes} if notes else {})}


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


def _questions(reference: Mapping[str, Json]) -> list[Json]:
    """Return a prompt's questions as ``[id, text, category, [parents]]``; nothing where the reference has none in that form.

    The form is ``{"questions": [{"id", "question", "category", "parents": [id]}]}``.
    """
    rows = reference.get("questions")
    found: list[Json] = []
    for row in rows[:MAX_QUESTIONS] if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int) or not isinstance(row.get("question"), str):
            return []
        parents = row.get("parents")
        known: list[Json] = [one for one in parents if isinstance(one, int)] if isinstance(parents, list) else []
        found.append([row["id"], one_line(str(row["question"]), 300), one_line(str(row.get("category", "")), 60), known])
    return found


def _answers(observation: JsonObject, sample: Sample) -> JsonObject:
    """Return a picture's answers to the prompt's questions as 1 (yes), 0 (no) or their text; nothing where they do not fit."""
    answers, questions = observation.get("answers"), _questions(sample.reference)
    if not questions or not isinstance(answers, list) or len(answers) < len(questions):
        return {}
    short: list[Json] = [{"yes": 1, "no": 0}.get(str(one).strip().lower(), one_line(str(one), 60)) for one in answers[: len(questions)]]
    return {"answers": short}


def _positive(value: Json) -> bool:
    """Tell whether a JSON value is a number above zero."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
