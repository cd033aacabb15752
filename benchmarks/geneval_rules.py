"""GenEval's verdict on one image, and its summary over many: pure rules over detections and colours.

Two editions and two judges go through the same functions: detections of a network on photographs, and of the exact detector on shapes.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jfeval.benchmarks.geneval_rows import Include, Row
from jfeval.benchmarks.scorers.colour import COLOURS
from jfeval.benchmarks.scorers.relations import POSITION_THRESHOLD, iou, relations
from jfeval.errors import UserError
from jfeval.schema import JsonObject


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The official script's options and their defaults.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, options threshold, counting_threshold, max_objects,
    max_overlap and position_threshold.
    """

    detection: float = 0.3
    """A detection counts when its score is above this."""
    counting: float = 0.9
    """The same in rows tagged ``counting``, for every class."""
    max_objects: int = 16
    """Kept per class, best first."""
    max_overlap: float = 1.0
    """Drops a detection that overlaps a better one of its class by this much or more; 1 drops none."""
    position: float = POSITION_THRESHOLD


OFFICIAL = Thresholds()


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a judge saw in one image, in its own order."""

    detections: Mapping[str, np.ndarray]
    """Class to ``(N, 5)`` float32: x0, y0, x1, y1, score."""
    colors: Mapping[str, Sequence[str]]
    """Class to the colour of each of its detections, empty where the judge did not look. Needed for the classes whose colour a row asks."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether an image shows what its row asks, and why not."""

    correct: bool
    reason: str
    """One line per failure; empty when correct. The two names of a diagonal are sorted."""
    kept: Mapping[str, tuple[int, ...]]
    """Class to the detections that counted, best first, as indices into the judge's order; only classes with any."""
    exact: bool
    """Correct, and for every class exactly as many detections kept as asked (0 for a class that is not asked)."""


def read_observation(data: object, *, where: str) -> Observation:
    """Check a stored observation: ``{"detections": {class: [[x0, y0, x1, y1, score], ...]}, "colors": {class: [colour, ...]}}``.

    Other keys (width, height) are left alone.

    Raises:
        UserError: Names the place and the class.
    """
    if not isinstance(data, dict) or not isinstance(data.get("detections"), dict) or not isinstance(data.get("colors", {}), dict):
        raise UserError(f"{where}: an observation needs 'detections' and 'colors', each an object of lists by class")
    detections = {name: _boxes(rows, f"{where}, detections of {name!r}") for name, rows in data["detections"].items()}
    colors: dict[str, Sequence[str]] = {}
    for name, names in data.get("colors", {}).items():
        found = len(detections.get(name, ()))
        if not isinstance(names, list) or len(names) != found or not all(isinstance(color, str) for color in names):
            raise UserError(f"{where}, colors of {name!r}: need one colour name for each of its {found} detections")
        colors[name] = names
    return Observation(detections=detections, colors=colors)


def judge_image(row: Row, seen: Observation, thresholds: Thresholds = OFFICIAL) -> Verdict:
    """Judge one image by the official rules.

    Each include item is judged on its best `count` detections only, in the row's order; exclude items on all kept detections.

    Differs: detections of equal score are taken in reverse detector order (a stable ascending sort, reversed); the official script's
    sort leaves their order to the platform. The two names of a diagonal are sorted in the reason; there they follow a set's order.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, evaluate_image and evaluate.

    Raises:
        UserError: A colour is asked of a class whose colours the judge did not report.
    """
    limit = thresholds.counting if row.tag == "counting" else thresholds.detection
    kept = {name: _kept(boxes, limit, thresholds) for name, boxes in seen.detections.items()}
    kept = {name: indices for name, indices in kept.items() if indices}
    reasons: list[str] = []
    matched: list[np.ndarray | None] = []
    for item in row.include:
        candidates = kept.get(item.name, ())[: item.count]
        reason = _include_failure(item, candidates, seen, matched, thresholds)
        reasons += [reason] if reason else []
        matched.append(None if reason else seen.detections[item.name][list(candidates)])
    for item in row.exclude:
        found = len(kept.get(item.name, ()))
        if found >= item.count:
            reasons.append(f"expected {item.name}<{item.count}, found {found}")
    return Verdict(correct=not reasons, reason="\n".join(reasons), kept=kept, exact=not reasons and _nothing_more(row, kept))


def _include_failure(
    item: Include, candidates: Sequence[int], seen: Observation, matched: Sequence[np.ndarray | None], thresholds: Thresholds
) -> str:
    """Say why an include item fails, or nothing. Position is not judged where the count or the colour failed."""
    if len(candidates) < item.count:
        return f"expected {item.name}>={item.count}, found {len(candidates)}"
    if item.color is not None:
        if item.name not in seen.colors:
            raise UserError(f"the judge reported no colours for {item.name!r}, but the row asks for {item.color}")
        found = [seen.colors[item.name][index] for index in candidates]
        if "" in found:
            raise UserError(f"the judge did not look at the colours of all objects of {item.name!r} that count under these thresholds")
        if found.count(item.color) < item.count:
            listed = ", ".join(f"{found.count(color)} {color}" for color in COLOURS if color in found)
            return f"expected {item.color} {item.name}>={item.count}, found {found.count(item.color)} {item.color}; and {listed}"
    if item.position is None:
        return ""
    relation, target = item.position
    others = matched[target]
    if others is None:
        return f"no target for {item.name} to be {relation}"
    for box in seen.detections[item.name][list(candidates)]:
        for other in others:
            holding = relations(box, other, threshold=thresholds.position)
            if relation not in holding:
                return f"expected {item.name} {relation} target, found {' and '.join(holding)} target"
    return ""


def _kept(boxes: np.ndarray, limit: float, thresholds: Thresholds) -> tuple[int, ...]:
    """Return the indices of the detections of one class that count, best first."""
    scores = boxes[:, 4]
    order = np.argsort(scores, kind="stable")[::-1]
    left = [int(index) for index in order[scores[order] > np.float32(limit)][: thresholds.max_objects]]
    if thresholds.max_overlap == 1:
        return tuple(left)
    kept: list[int] = []
    for index in left:
        if all(iou(boxes[better], boxes[index]) < thresholds.max_overlap for better in kept):
            kept.append(index)
    return tuple(kept)


def _nothing_more(row: Row, kept: Mapping[str, Sequence[int]]) -> bool:
    asked: dict[str, int] = {}
    for item in row.include:  # items of one class are independent clauses, not a sum
        asked[item.name] = max(item.count, asked.get(item.name, 0))
    return all(len(indices) == asked.get(name, 0) for name, indices in kept.items())


def _boxes(rows: object, where: str) -> np.ndarray:
    if isinstance(rows, list) and not rows:
        return np.empty((0, 5), dtype=np.float32)
    try:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused below
            boxes = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        boxes = np.empty((0, 0))
    if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
        raise UserError(f"{where}: each must be [x0, y0, x1, y1, score], all finite numbers")
    return boxes


def group_of(metadata: JsonObject) -> str:
    """Name the group of a row: rows with the same JSON text, keys in order, are one prompt, as in the official summary."""
    return hashlib.sha256(json.dumps(metadata).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """One judged image, as the summary sees it."""

    tag: str
    group: str
    """Images of one prompt share it."""
    correct: bool


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """One task's images."""

    correct: int
    n: int

    @property
    def score(self) -> float:
        """The share of images that are right."""
        return self.correct / self.n


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The official summary's numbers, fractions in [0, 1]."""

    total_images: int
    total_prompts: int
    correct_images: float
    correct_prompts: float
    """Share of prompts with at least one right image."""
    tasks: Mapping[str, TaskSummary]
    """In the order of first appearance."""
    overall: float
    """Unweighted mean of the task scores."""

    def text(self) -> str:
        """Write the summary as the official script prints it.

        Source: djghosh13/geneval @ af4902f24d3c, evaluation/summary_scores.py.
        """
        tasks = "".join(f"{tag:<16} = {task.score:.2%} ({task.correct} / {task.n})\n" for tag, task in self.tasks.items())
        return (
            f"Summary\n=======\nTotal images: {self.total_images}\nTotal prompts: {self.total_prompts}\n"
            f"% correct images: {self.correct_images:.2%}\n% correct prompts: {self.correct_prompts:.2%}\n\n"
            f"Task breakdown\n==============\n{tasks}\nOverall score (avg. over tasks): {self.overall:.5f}\n"
        )


def summarise(results: Sequence[ImageResult]) -> Summary:
    """Sum up judged images as the official script does: only images that exist count.

    Source: djghosh13/geneval @ af4902f24d3c, evaluation/summary_scores.py.

    Raises:
        UserError: There is nothing to sum up.
    """
    if not results:
        raise UserError("there are no judged images to sum up")
    groups: dict[str, bool] = {}
    by_task: dict[str, list[bool]] = {}
    for result in results:
        groups[result.group] = groups.get(result.group, False) or result.correct
        by_task.setdefault(result.tag, []).append(result.correct)
    tasks = {tag: TaskSummary(correct=sum(flags), n=len(flags)) for tag, flags in by_task.items()}
    return Summary(
        total_images=len(results),
        total_prompts=len(groups),
        correct_images=sum(result.correct for result in results) / len(results),
        correct_prompts=sum(groups.values()) / len(groups),
        tasks=tasks,
        overall=math.fsum(task.score for task in tasks.values()) / len(tasks),
    )
