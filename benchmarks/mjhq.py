"""MJHQ-30K: how near drawn images are to reference images of the same prompts, as sets, overall and per category.

The shapes edition has the published form (ten categories, one image a prompt, a reference image each). Its distance is in the features of
a fixed untrained network and is named so: it is no Inception FID. Beside it stands what the oracle sees, exactly.

Source: Li et al., "Playground v2.5" (arXiv 2402.17245), section 4.3, and the data set playgroundai/MJHQ-30K (categories, one image a
prompt, distance overall and per category).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.fid_metrics import frechet_metrics, kernel_metric
from jfeval.benchmarks.scorers import fixed_features
from jfeval.benchmarks.scorers.scene_distance import total_variation
from jfeval.errors import UserError, unknown
from jfeval.schema import Edition, ImageRequest, Json, JsonObject, Judgement, Metric, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.benchmarks.base import Judge
    from jfeval.benchmarks.shapes.scene import Color, Scene

PROTOCOL = fixed_features.NAME
PER_CATEGORY = 64
"""Prompts of each category of the shapes edition; ten categories make 20 images for each of the network's 32 features."""
MOST_OBJECTS = 3

_FRECHET, _KERNEL = "frechet_random_conv", "kernel_random_conv"
_SIDES = ("found", "reference")
_KINDS = {
    "count": "numbers of objects in an image",
    "color": "colours of objects",
    "shape": "shapes of objects",
}


class MJHQ:
    """Distance of drawn images to reference images, overall and in ten categories: those of the synthetic world are its ten colours."""

    name = "mjhq"
    editions: tuple[Edition, ...] = ("shapes",)
    protocols: tuple[str, ...] = (PROTOCOL,)

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every prompt in order; see `Benchmark.samples`."""
        self._check(edition, data)
        samples = []
        for index, (category, prompt, scene) in enumerate(_drawn(seed)):
            things: list[Json] = [
                {"shape": thing.shape, "color": thing.color, "size": thing.size, "x": thing.x, "y": thing.y} for thing in scene.things
            ]
            request = ImageRequest(prompt=prompt, num_images=1)
            reference: JsonObject = {"category": category, "things": things}
            samples.append(Sample(id=f"{index:05d}", task=category, request=request, reference=reference, cluster=f"{index:05d}"))
        return samples

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return where prompts and reference images come from, and their hash."""
        samples = self.samples(edition, seed=seed, data=data)
        content = json.dumps([[s.reference, getattr(s.request, "prompt", "")] for s in samples], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return {"name": f"{self.name}-shapes", "seed": seed, "per_category": PER_CATEGORY, "rows": len(samples), "sha256": digest}

    def judge(self, edition: Edition) -> "Judge":
        """Load the fixed network and the oracle."""
        self._check(edition, None)
        return SceneFeatures()

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Carry each image's features and objects, and its reference's, to the aggregate.

        Raises:
            UserError: An unknown protocol, or observations of another judge.
        """
        self._check_protocol(protocol)
        scores = []
        for index, seen in enumerate(judgement.observations):
            where = f"sample {sample.id}, image {index}"
            sides = [_side(seen, side, where) for side in _SIDES]
            values = {"objects": float(len(sides[0][1]))}
            for side, (_, objects) in zip(_SIDES, sides, strict=True):
                values.update({f"{side} {key}": float(n) for key, n in _count(objects).items()})
            labels = {side: packed for side, (packed, _) in zip(_SIDES, sides, strict=True)}
            scores.append(Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, index=index, values=values, labels=labels))
        return scores

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return the Frechet distance (the headline), the kernel distance overall and per category, and the objects' distances.

        Raises:
            UserError: An unknown protocol, or fewer than two images.
        """
        self._check_protocol(protocol)
        if len(scores) < 2:
            raise UserError(f"a distance of sets needs at least 2 judged images, got {len(scores)}")
        found, reference = (_stack(scores, side) for side in _SIDES)
        first, *rest = frechet_metrics([found], [reference], name=_FRECHET, protocol=protocol)
        headline = replace(first, headline=True)
        metrics = [headline, *rest, kernel_metric(found, reference, name=_KERNEL, protocol=protocol)]
        metrics += [_variation(scores, kind, protocol) for kind in _KINDS]
        for category in dict.fromkeys(score.task for score in scores):
            rows = np.array([score.task == category for score in scores])
            if rows.sum() > 1:
                metrics.append(kernel_metric(found[rows], reference[rows], name=_KERNEL, protocol=protocol, task=category))
        return metrics

    def _check(self, edition: Edition, data: Path | None) -> None:
        if edition == "official":
            raise UserError(
                "mjhq's official edition is not part of this version's runs; two folders of images are compared under the published "
                "recipes by `python -m jfeval.benchmarks.fid` (docs/fid.md). To evaluate a model now: `--edition shapes`"
            )
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)
        if data is not None:
            raise UserError(f"the shapes edition draws its prompts from the seed and reads no data; leave out --data {data}")

    def _check_protocol(self, protocol: str) -> None:
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)


class SceneFeatures:
    """Sees features of the fixed network and the oracle's objects, in an image and in its reference."""

    name = "random-conv-and-oracle"

    def identity(self) -> JsonObject:
        """Return what can change an observation."""
        from jfeval.benchmarks.shapes.oracle import VERSION

        return {"judge": self.name, **fixed_features.identity(), "detector_version": VERSION}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Report features and objects of each image and of the sample's reference."""
        from jfeval.benchmarks.shapes.render import render

        reference = render(_scene(sample))
        return tuple({"found": _look(image), "reference": _look(reference)} for image in images)


def _look(image: "Image") -> JsonObject:
    from jfeval.benchmarks.shapes.oracle import detect

    objects: list[Json] = [[one.color, one.shape] for one in detect(image)]
    return {"features": fixed_features.pack(fixed_features.features([image])[0]), "objects": objects}


def _scene(sample: Sample) -> "Scene":
    from jfeval.benchmarks.shapes.scene import Scene, Thing

    things = sample.reference.get("things")
    try:
        return Scene(things=tuple(Thing(**thing) for thing in things))  # pyright: ignore
    except TypeError as error:
        raise UserError(f"sample {sample.id}: the stored reference is no scene ({error})") from error


def _side(seen: Mapping[str, Json], side: str, where: str) -> tuple[str, list[tuple[str, str]]]:
    look = seen.get(side)
    packed = look.get("features") if isinstance(look, dict) else None
    objects = look.get("objects") if isinstance(look, dict) else None
    if not isinstance(packed, str) or not isinstance(objects, list):
        raise UserError(f"{where}: an observation of mjhq has features and objects under {side!r}; judge these images again")
    fixed_features.unpack(packed, where=where)
    return packed, [(str(color), str(shape)) for color, shape in objects]  # pyright: ignore


def _count(objects: Sequence[tuple[str, str]]) -> Counter[str]:
    """Count what distances are taken of: the number of objects, and each colour and shape."""
    return Counter([f"count {len(objects)}", *(f"color {color}" for color, _ in objects), *(f"shape {shape}" for _, shape in objects)])


def _stack(scores: Sequence[Score], side: str) -> np.ndarray:
    return np.stack([fixed_features.unpack(score.labels[side], where=f"sample {score.sample_id}") for score in scores])


def _variation(scores: Sequence[Score], kind: str, protocol: str) -> Metric:
    sides = [[{k: v for k, v in score.values.items() if k.startswith(f"{side} {kind} ")} for score in scores] for side in _SIDES]
    plain = [
        [{key.removeprefix(f"{side} "): v for key, v in row.items()} for row in rows] for side, rows in zip(_SIDES, sides, strict=True)
    ]
    variation = total_variation(*plain)
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
        detail=f"Total variation between the {_KINDS[kind]} that the oracle finds in drawn and in reference images: 0 alike, 1 disjoint.",
    )


@lru_cache(maxsize=2)
def _drawn(seed: int) -> "tuple[tuple[str, str, Scene], ...]":
    """Draw categories, prompts and reference scenes of the test split, all prompts different."""
    from jfeval.benchmarks.dpg_shapes import describe
    from jfeval.benchmarks.shapes.scene import COLORS, arrange, bucket, scene_rng

    rows: list[tuple[str, str, Scene]] = []
    for color in COLORS:
        rng = scene_rng(seed, f"mjhq/{color}", 0)
        found: dict[str, Scene] = {}
        while len(found) < PER_CATEGORY:
            scene = arrange(rng, _kinds(rng, color))
            if bucket(scene) == "test":
                found.setdefault(describe(scene), scene)
        rows += [(color, prompt, scene) for prompt, scene in found.items()]
    return tuple(rows)


def _kinds(rng: np.random.Generator, color: "Color") -> list:
    from jfeval.benchmarks.shapes.scene import SEEN_PAIRS, pick

    own = [pair for pair in SEEN_PAIRS if pair[0] == color]
    return [pick(rng, own) for _ in range(int(rng.integers(1, MOST_OBJECTS + 1)))]
