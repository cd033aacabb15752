"""MJHQ-30K: how near drawn images are to reference images of the same prompts, as sets, overall and per category.

The published form is read in `mjhq_rows`; features, distance and CLIP score of photographs are in `photo_sets`. The shapes edition has the
same form (ten categories, one image a prompt, a reference image each); what is seen there is in `scene_sets`.

Source: Li et al., "Playground v2.5" (arXiv 2402.17245), section 4.3, and the data set playgroundai/MJHQ-30K (categories, one image a
prompt, distance overall and per category).
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.image_set import ImageSet, evenly
from jfeval.benchmarks.mjhq_rows import META, Row, read_prompts, reference_images
from jfeval.benchmarks.photo_sets import Settings
from jfeval.benchmarks.scene_sets import scene_reference
from jfeval.errors import UserError
from jfeval.fetching.lock import UNPINNED, read_lock
from jfeval.schema import ImageRequest, JsonObject, Sample

if TYPE_CHECKING:
    from jfeval.benchmarks.features import ImageFile
    from jfeval.benchmarks.shapes.scene import Color, Scene

PER_CATEGORY = 64
"""Prompts of each category of the shapes edition; ten categories make 20 images for each of the network's 32 features."""
MOST_OBJECTS = 3

_DEFAULTS = Settings()


class MJHQ(ImageSet):
    """Distance of drawn images to reference images, overall and in ten categories: those of the synthetic world are its ten colours."""

    name = "mjhq"
    categories = True

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        super().__init__(settings)

    def _published(self, folder: Path) -> list[Sample]:
        rows = read_prompts(folder, any_size=self.settings.any_size)
        return [_sample(row.id, row.category, row.prompt, {"category": row.category}) for row in self._asked(rows)]

    def _asked(self, rows: Sequence[Row]) -> list[Row]:
        """Take all prompts, or so many of each category, evenly spaced in the file's order."""
        wanted = self.settings.images
        if not wanted or wanted == len(rows):
            return list(rows)
        by_category: dict[str, list[Row]] = {}
        for row in rows:
            by_category.setdefault(row.category, []).append(row)
        each, rest = divmod(wanted, len(by_category))
        if rest or any(each > len(own) for own in by_category.values()):
            raise UserError(f"images={wanted} cannot be taken evenly from {len(by_category)} categories of {len(rows):,} prompts")
        kept = {own[place].id for own in by_category.values() for place in evenly(len(own), each)}
        return [row for row in rows if row.id in kept]

    def _reference(self, folder: Path) -> "Sequence[ImageFile]":
        return reference_images(folder, read_prompts(folder, any_size=self.settings.any_size), any_size=self.settings.any_size)

    def _source(self, folder: Path) -> JsonObject:
        lock = read_lock(folder)
        file = lock.files.get(META) if lock else None
        return {
            "name": "playgroundai/MJHQ-30K",
            "revision": lock.revision if lock else UNPINNED,
            "file_sha256": file.sha256 if file else UNPINNED,
            "asked": self.settings.images or "all",
        }

    def _drawn(self, seed: int) -> list[Sample]:
        return [
            _sample(f"{index:05d}", category, prompt, {"category": category, **scene_reference(scene)})
            for index, (category, prompt, scene) in enumerate(_scenes(seed))
        ]


def _sample(name: str, category: str, prompt: str, reference: JsonObject) -> Sample:
    return Sample(id=name, task=category, request=ImageRequest(prompt=prompt, num_images=1), reference=reference, cluster=name)


@lru_cache(maxsize=2)
def _scenes(seed: int) -> "tuple[tuple[str, str, Scene], ...]":
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
