"""COCO captions: how near images drawn from 30,000 captions are to the photographs of COCO 2014's validation set.

No list of the 30,000 captions is common to papers: each draws its own, one caption an image. Here the images are those whose numbers have
the smallest sha256, so that the draw is even, the same everywhere, and part of the data's identity. The reference is the whole validation
set, as in the script that papers cite.

The published form is read in `coco_rows`; features, distance and CLIP score of photographs are in `photo_sets`. The shapes edition asks for
scenes of the synthetic world by one caption each; what is seen there is in `scene_sets`.

Source: Lin et al., "Microsoft COCO" (arXiv 1405.0312); mingukkang/GigaGAN @ b2d371642f37, evaluation/evaluation.py (reference: val2014).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.benchmarks.coco_rows import read_captions, reference_images
from jfeval.benchmarks.image_set import ImageSet
from jfeval.benchmarks.photo_sets import Settings
from jfeval.benchmarks.ready import ReadySet, by_stem, last_number
from jfeval.benchmarks.scene_sets import scene_reference
from jfeval.errors import UserError
from jfeval.fetching.lock import UNPINNED, read_lock
from jfeval.schema import ImageRequest, JsonObject, Sample

if TYPE_CHECKING:
    from jfeval.benchmarks.features import ImageFile
    from jfeval.benchmarks.shapes.scene import Scene

ASKED = 30_000
SHAPES_PROMPTS = 640
"""Prompts of the shapes edition: 20 images for each of the network's 32 features."""

_TASK = "captions"
_DEFAULTS = Settings()


class COCO(ImageSet):
    """Distance of images drawn from captions to the photographs that the captions are of: COCO's, or scenes of the synthetic world."""

    name = "coco"

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        super().__init__(settings)

    def ready(self, folder: Path, rows: "Sequence[tuple[int, Sample]]") -> ReadySet:
        """Find ready images by the number of COCO's image at the end of their name: 42.png or COCO_val2014_000000000042.jpg."""
        return by_stem(folder, rows, stem=last_number)

    def _published(self, folder: Path) -> list[Sample]:
        captions = read_captions(folder, any_size=self.settings.any_size)
        wanted = self.settings.images or min(ASKED, len(captions))
        if wanted > len(captions):
            raise UserError(f"images={wanted} cannot be drawn from {len(captions):,} captioned images")
        drawn = sorted(captions, key=lambda one: hashlib.sha256(str(one.image).encode()).digest())[:wanted]
        return [_sample(str(one.image), one.caption, {"image": one.image}) for one in sorted(drawn, key=lambda one: one.image)]

    def _reference(self, folder: Path) -> "Sequence[ImageFile]":
        return reference_images(folder, any_size=self.settings.any_size)

    def _source(self, folder: Path) -> JsonObject:
        lock = read_lock(folder)
        return {
            "name": "COCO 2014 validation captions",
            "revision": lock.revision if lock else UNPINNED,
            "asked": self.settings.images or ASKED,
            "draw": "one caption of each image; images with the smallest sha256 of their number",
        }

    def _drawn(self, seed: int) -> list[Sample]:
        return [_sample(f"{index:05d}", prompt, scene_reference(scene)) for index, (prompt, scene) in enumerate(_scenes(seed))]


def _sample(name: str, prompt: str, reference: JsonObject) -> Sample:
    return Sample(id=name, task=_TASK, request=ImageRequest(prompt=prompt, num_images=1), reference=reference, cluster=name)


@lru_cache(maxsize=2)
def _scenes(seed: int) -> "tuple[tuple[str, Scene], ...]":
    """Draw scenes of the test split with one caption each, all captions different."""
    from jfeval.benchmarks.shapes.language import caption
    from jfeval.benchmarks.shapes.scene import sample_scene, scene_rng

    found: dict[str, Scene] = {}
    index = 0
    while len(found) < SHAPES_PROMPTS:
        rng = scene_rng(seed, "coco", index)
        index += 1
        scene = sample_scene(rng, "test")
        found.setdefault(caption(scene, rng), scene)
    return tuple(found.items())
