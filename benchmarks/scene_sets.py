"""Sets of pictures of the synthetic world: what is seen in them and in their references, and how far apart the two sets are.

The distance is in the features of a fixed untrained network and is named so: it is no Inception FID. Beside it stands what the oracle
sees, exactly: numbers, colours and shapes of objects by total variation, their places by a kernel distance of layouts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.fid_metrics import as_kernel_metric, frechet_metrics, mean_metric, with_influence
from jfeval.benchmarks.prompt_files import asked_prompt
from jfeval.benchmarks.scorers import fixed_features
from jfeval.benchmarks.scorers.contrastive import SIMILARITY
from jfeval.benchmarks.scorers.frechet_error import estimate_frechet
from jfeval.benchmarks.scorers.kernel_distance import paired_kernel_distance
from jfeval.benchmarks.scorers.layout_distance import layout_distance
from jfeval.benchmarks.scorers.scene_distance import total_variation
from jfeval.benchmarks.shapes.world import CANVAS
from jfeval.errors import UserError
from jfeval.schema import Json, JsonObject, Judged, Metric, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.benchmarks.scorers.contrastive import ContrastiveEncoder
    from jfeval.benchmarks.shapes.scene import Scene

PROTOCOL = fixed_features.NAME
VERSION = 2
"""Of what an observation holds."""

_FRECHET, _KERNEL = "frechet_random_conv", "kernel_random_conv"
_SIDES = ("found", "reference")
_KINDS = {
    "count": "numbers of objects in an image",
    "color": "colours of objects",
    "shape": "shapes of objects",
}
_LAYOUT = (
    "Kernel distance between the places of objects that the oracle finds in drawn and in reference images, whatever the objects are: 0 "
    "alike. Unbiased; error of both sides."
)

Objects = list[tuple[str, str, float, float]]
"""Colour, shape and centre in pixels of each object that the oracle finds."""


class SceneFeatures:
    """Sees features of the fixed network and the oracle's objects, in an image and in its reference; and how well an image fits its prompt.

    Args:
        encoder: For the similarity of image and prompt; None for none.
    """

    name = "random-conv-and-oracle"
    image_size = CANVAS

    def __init__(self, encoder: "ContrastiveEncoder | None" = None) -> None:
        self._encoder = encoder

    def identity(self) -> JsonObject:
        """Return what can change an observation."""
        from jfeval.benchmarks.shapes.oracle import VERSION as DETECTOR

        encoder: JsonObject = {"contrastive": self._encoder.identity()} if self._encoder else {}
        return {"judge": self.name, "version": VERSION, **fixed_features.identity(), "detector_version": DETECTOR, **encoder}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Report features and objects of each image and of the sample's reference, and each image's similarity to the prompt."""
        from jfeval.benchmarks.shapes.render import render

        reference = render(read_scene(sample))
        wanted = _look(reference)
        seen: list[JsonObject] = [{"found": _look(image), "reference": wanted} for image in images]
        if self._encoder is not None:
            for one, score in zip(seen, self._encoder.scores(images, [asked_prompt(sample)] * len(images)), strict=True):
                one[SIMILARITY] = score
        return tuple(seen)


def scene_reference(scene: "Scene") -> JsonObject:
    """Return a reference scene in JSON, as a sample holds it; `read_scene` reads it back."""
    things: list[Json] = [{"shape": one.shape, "color": one.color, "size": one.size, "x": one.x, "y": one.y} for one in scene.things]
    return {"things": things}


def read_scene(sample: Sample) -> "Scene":
    """Return a sample's reference scene.

    Raises:
        UserError: It holds none.
    """
    from jfeval.benchmarks.shapes.scene import Scene, Thing

    things = sample.reference.get("things")
    try:
        return Scene(things=tuple(Thing(**thing) for thing in things))  # pyright: ignore
    except TypeError as error:
        raise UserError(f"sample {sample.id}: the stored reference is no scene ({error})") from error


def scene_results(judged: Judged, *, protocol: str, categories: bool) -> tuple[list[Score], list[Metric]]:
    """Return the Frechet distance (the headline), the kernel distance, the objects' distances, and a score per image.

    Args:
        judged: What `SceneFeatures` saw.
        protocol: Of the metrics.
        categories: Give each task's kernel distance too.

    Raises:
        UserError: Fewer than two images, or observations of another judge.
    """
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    objects: tuple[list[Objects], list[Objects]] = ([], [])
    scores: list[Score] = []
    for sample in judged.samples:
        for index, seen in enumerate(judged.read(sample.id).observations):
            values: dict[str, float] = {}
            for k, side in enumerate(_SIDES):
                features, things = _side(seen, side, f"sample {sample.id}, image {index}")
                found[k].append(features)
                objects[k].append(things)
                values.update({f"{side} {key}": float(n) for key, n in _count(things).items()})
            if isinstance(similarity := seen.get(SIMILARITY), int | float):
                values[SIMILARITY] = float(similarity)
            scores.append(Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, index=index, values=values))
    if len(scores) < 2:
        raise UserError(f"a distance of sets needs at least 2 judged images, got {len(scores)}")
    drawn, wanted = np.stack(found[0]), np.stack(found[1])
    estimate = estimate_frechet([drawn], [wanted])
    first, *rest = frechet_metrics(estimate, name=_FRECHET, protocol=protocol)
    metrics = [replace(first, headline=True), *rest, _kernel(drawn, wanted, protocol)]
    metrics += [_variation(objects, kind, protocol) for kind in _KINDS]
    places = ([[(x, y) for _, _, x, y in scene] for scene in side] for side in objects)
    metrics.append(as_kernel_metric(layout_distance(*places), name="layout_distance", protocol=protocol, detail=_LAYOUT))
    metrics += _similarity(scores, judged.judge, protocol)
    for category in dict.fromkeys(score.task for score in scores) if categories else ():
        rows = np.array([score.task == category for score in scores])
        if rows.sum() > 1:
            metrics.append(_kernel(drawn[rows], wanted[rows], protocol, category))
    return with_influence(scores, estimate.influence), metrics


def _kernel(drawn: np.ndarray, wanted: np.ndarray, protocol: str, task: str = "") -> Metric:
    found = paired_kernel_distance(drawn, wanted)
    detail = f"Kernel distance (cubic) of {found.n:,} images to their references, without bias; error of both sides."
    return as_kernel_metric(found, name=_KERNEL, protocol=protocol, task=task, detail=detail)


def _similarity(scores: Sequence[Score], judge: JsonObject, protocol: str) -> list[Metric]:
    """Return the mean similarity of image and prompt; nothing where the encoder was not at hand."""
    values = [score.values[SIMILARITY] for score in scores if SIMILARITY in score.values]
    about = judge.get("contrastive")
    if len(values) < len(scores) or not isinstance(about, dict):
        return []
    weights = str(about.get("weights_sha256"))[:12]
    detail = (
        f"Mean of 100 x cosine of image and prompt in a contrastive encoder (SigLIP's form, weights {weights}) "
        f"that was trained on {about.get('trained_on')}. Not CLIP, and no independent judge of models that read or align through it: no "
        f"verdict of an ablation rests on it. Prompts are cut to {about.get('text_tokens')} tokens."
    )
    return [mean_metric(values, name=SIMILARITY, protocol=protocol, detail=detail)]


def _look(image: "Image") -> JsonObject:
    from jfeval.benchmarks.shapes.oracle import detect

    objects: list[Json] = [[one.color, one.shape, (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2] for one in detect(image)]
    return {"features": fixed_features.pack(fixed_features.features([image])[0]), "objects": objects}


def _side(seen: Mapping[str, Json], side: str, where: str) -> tuple[np.ndarray, Objects]:
    look = seen.get(side)
    packed = look.get("features") if isinstance(look, dict) else None
    objects = look.get("objects") if isinstance(look, dict) else None
    if not isinstance(packed, str) or not isinstance(objects, list):
        raise UserError(f"{where}: an observation of a set has features and objects under {side!r}; judge these images again")
    things = [(str(color), str(shape), float(x), float(y)) for color, shape, x, y in objects]  # pyright: ignore
    return fixed_features.unpack(packed, where=where), things


def _count(objects: Objects) -> Counter[str]:
    """Count what distances are taken of: the number of objects, and each colour and shape."""
    colors, shapes = ([f"color {color}" for color, *_ in objects], [f"shape {shape}" for _, shape, *_ in objects])
    return Counter([f"count {len(objects)}", *colors, *shapes])


def _variation(objects: tuple[list[Objects], list[Objects]], kind: str, protocol: str) -> Metric:
    sides = ([{key: float(n) for key, n in _count(things).items() if key.startswith(f"{kind} ")} for things in side] for side in objects)
    variation = total_variation(*sides)
    low, high = variation.interval
    return Metric(
        name=f"{kind}_variation",
        protocol=protocol,
        value=variation.value,
        n=variation.n,
        clusters=variation.n,
        se=variation.se,
        ci_low=low,
        ci_high=high,
        better="lower",
        detail=f"Total variation between the {_KINDS[kind]} that the oracle finds in drawn and in reference images: 0 alike, 1 disjoint.",
    )
