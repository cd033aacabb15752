"""A soft score beside GenEval's verdict: how nearly a picture shows what its row asks, for training that needs a slope. Not GenEval's.

The mean over the row's clauses, each in [0, 1]: for an include item the mean score of its best `count` detections, missing ones 0; times
the mean probability of its colour (a softmax over the ten logits; 1 or 0 where a judge gives names alone); times 1 where the best
detections stand as asked, else 0. For an exclude item 1 less the score of the detection that is too many. No threshold acts.
"""

import math
from typing import Any

import numpy as np

from jfeval.benchmarks.geneval_rows import Include, Row
from jfeval.benchmarks.geneval_rules import Observation, read_observation
from jfeval.benchmarks.scorers.colour import COLOURS
from jfeval.benchmarks.scorers.relations import relations
from jfeval.schema import JsonObject


def soft_score(row: Row, observation: JsonObject, *, where: str) -> float:
    """Return the mean over the row's clauses, in [0, 1].

    Raises:
        UserError: The observation is none.
    """
    seen = read_observation(observation, where=where)
    logits: Any = observation.get("color_logits", {})
    best = {name: np.argsort(boxes[:, 4], kind="stable")[::-1] for name, boxes in seen.detections.items()}
    clauses = [_include(item, row, seen, best, logits) for item in row.include]
    for item in row.exclude:
        order = best.get(item.name, np.empty(0, int))
        clauses.append(1.0 - float(seen.detections[item.name][order[item.count - 1], 4]) if len(order) >= item.count else 1.0)
    return math.fsum(clauses) / len(clauses)


def _include(item: Include, row: Row, seen: Observation, best: dict[str, np.ndarray], logits: Any) -> float:  # noqa: ANN401  JSON
    chosen = [int(index) for index in best.get(item.name, ())[: item.count]]
    total = 0.0
    for index in chosen:
        colour = _colour(item, index, seen, logits) if item.color else 1.0
        total += float(seen.detections[item.name][index, 4]) * colour
    share = total / item.count
    if item.position is None or not chosen:
        return share
    relation, target = item.position
    other = row.include[target].name
    if not len(best.get(other, ())):
        return 0.0
    pair = seen.detections[item.name][chosen[0]], seen.detections[other][int(best[other][0])]
    return share if relation in relations(*pair) else 0.0


def _colour(item: Include, index: int, seen: Observation, logits: Any) -> float:  # noqa: ANN401  JSON
    """Return how probable the asked colour is for one detection; 0 where the judge did not look."""
    given = logits.get(item.name, []) if isinstance(logits, dict) else []
    if index < len(given) and len(given[index]) == len(COLOURS):
        powers = np.exp(np.asarray(given[index], dtype=np.float64) - max(given[index]))
        return float(powers[COLOURS.index(item.color)] / powers.sum())  # pyright: ignore[reportArgumentType]
    return float(seen.colors.get(item.name, [""] * (index + 1))[index] == item.color)
