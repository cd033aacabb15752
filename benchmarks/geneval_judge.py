"""GenEval's official judge: what a detector finds in a photograph, and which colour each found object has that a prompt colours.

Source: djghosh13/geneval @ af4902f24d3c, evaluation/evaluate_images.py, evaluate_image and color_classification.
Differs: colours are read of every object that could count, not only of the best few, so that other thresholds need no second look; the
network that tells them computes in float32 on every device.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.geneval_rows import parse_row
from jfeval.benchmarks.geneval_rules import OFFICIAL
from jfeval.benchmarks.scorers.clip import ClipEncoder
from jfeval.benchmarks.scorers.colour import CropSettings, build_classifier, colour_logits, colour_prompts, crop_object, name_colours
from jfeval.benchmarks.scorers.detector import Detector, Instances
from jfeval.errors import UserError, unknown
from jfeval.schema import Json, JsonObject, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_NAMES = """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
    laptop, computer mouse, tv remote, computer keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
    book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
CLASSES = tuple(" ".join(name.split()) for name in _NAMES.split(","))
"""The detector's labels by number, as GenEval names them. Source: djghosh13/geneval @ af4902f24d3c, evaluation/object_names.txt."""
REPORTED_ABOVE = 0.05
"""Objects of a lower score are not reported; both thresholds of the rules lie far above."""
VERSION = 1

_AT_ONCE = 16
"""Pictures whose masks are held together: 100 masks of 384x384 are 15 MB."""


class PhotoJudge:
    """Looks at photographs with a detector and a colour network.

    Args:
        detector: Finds objects; its labels are `CLASSES`.
        clip: Tells colours.
    """

    name = "geneval-official"

    def __init__(self, detector: Detector, clip: ClipEncoder) -> None:
        self.detector, self.clip = detector, clip
        self._classifiers: dict[str, np.ndarray] = {}

    def identity(self) -> JsonObject:
        """Return everything that can change an observation."""
        return {
            "version": VERSION,
            "reported_above": REPORTED_ABOVE,
            "coloured_above": OFFICIAL.detection,
            "detector": self.detector.identity(),
            "colour": self.clip.identity(),
        }

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Return for each picture ``width``, ``height``, ``detections``, ``colors`` and ``color_logits``, as `geneval_rules` reads them."""
        return self.observe_many([(sample, images)])[0]

    def observe_many(self, work: "Sequence[tuple[Sample, Sequence[Image]]]") -> list[tuple[JsonObject, ...]]:
        """Do the same for several samples, their pictures in common batches."""
        pictures = [(image, coloured_classes(sample)) for sample, images in work for image in images]
        seen = [one for start in range(0, len(pictures), _AT_ONCE) for one in self.look(pictures[start : start + _AT_ONCE])]
        left = iter(seen)
        return [tuple(next(left) for _ in images) for _, images in work]

    def look(self, pictures: "Sequence[tuple[Image, Sequence[str]]]") -> list[JsonObject]:
        """Look at pictures, each with the classes whose colours are asked for."""
        found = self.detector.detect([image for image, _ in pictures])
        crops: list[Image] = []
        places: list[tuple[int, str, int]] = []
        observations: list[JsonObject] = []
        for number, ((image, coloured), objects) in enumerate(zip(pictures, found, strict=True)):
            by_class = _by_class(objects)
            colors: dict[str, list[Json]] = {name: [""] * len(by_class[name]) for name in coloured if name in by_class}
            logits: dict[str, list[Json]] = {name: [[] for _ in by_class[name]] for name in colors}
            for name in colors:
                for place, index in enumerate(by_class[name]):
                    if objects.scores[index] > np.float32(OFFICIAL.detection):
                        crops.append(crop_object(image, objects.boxes[index], objects.masks[index], CropSettings()))
                        places.append((number, name, place))
            detections: dict[str, Json] = {name: [_row(objects, index) for index in indices] for name, indices in by_class.items()}
            size: JsonObject = {"width": image.width, "height": image.height}
            observations.append({**size, "detections": detections, "colors": {**colors}, "color_logits": {**logits}})
        if crops:
            for (number, name, place), feature in zip(places, self.clip.images(crops), strict=True):
                scores = colour_logits(feature[None], self._classifier(name))
                observations[number]["colors"][name][place] = name_colours(scores)[0]  # pyright: ignore
                observations[number]["color_logits"][name][place] = [round(float(score), 4) for score in scores[0]]  # pyright: ignore
        return observations

    def _classifier(self, name: str) -> np.ndarray:
        if name not in self._classifiers:
            self._classifiers[name] = build_classifier(self.clip.texts(colour_prompts(name)))
        return self._classifiers[name]


def coloured_classes(sample: Sample) -> list[str]:
    """List the classes whose colours a sample's row asks for.

    Raises:
        UserError: The row names a class that the detector does not tell.
    """
    row = parse_row(sample.reference, where=f"sample {sample.id}")
    for item in (*row.include, *row.exclude):
        if item.name not in CLASSES:
            raise UserError(f"sample {sample.id}: {unknown('class of the detector', item.name, CLASSES)}")
    return sorted({item.name for item in row.include if item.color is not None})


def _by_class(objects: Instances) -> dict[str, list[int]]:
    """Group the reported objects by class, in the detector's order."""
    found: dict[str, list[int]] = {}
    for index, (label, score) in enumerate(zip(objects.labels, objects.scores, strict=True)):
        if score >= np.float32(REPORTED_ABOVE):
            found.setdefault(CLASSES[int(label)], []).append(index)
    return found


def _row(objects: Instances, index: int) -> Json:
    return [*(float(edge) for edge in objects.boxes[index]), float(objects.scores[index])]
