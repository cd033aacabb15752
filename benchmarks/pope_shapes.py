"""POPE in the synthetic world: is a coloured shape in the picture, with random, popular and adversarial shapes that are not.

An object is a colour with a shape ("red circle"). As in POPE, every split asks about the same pictures and the same objects that are
there, and differs in those that are not: *random* ones, ones that are *popular* in the world, and ones that occur together with what is
there (*adversarial*). Frequency and co-occurrence are counted over scenes of the world, not over the edition's own.

Differs: POPE always takes the most frequent absent objects; here popular ones are drawn from the more frequent half, so that no object is
absent so often that the question alone gives the answer away.

Source: Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (arXiv 2305.10355), section 5.1.
"""

from collections import Counter
from functools import cache, partial

import numpy as np

from jfeval.benchmarks.pope_rows import SPLITS, Row, Split, join, parse_row
from jfeval.benchmarks.shapes.language import with_article
from jfeval.benchmarks.shapes.render import render_png
from jfeval.benchmarks.shapes.scene import Kind, Scene, sample_scene, scene_rng
from jfeval.benchmarks.shapes.world import FULL, World
from jfeval.schema import JsonObject

IMAGES = 75
PRESENT = 2
"""Objects asked per picture that are there; as many are asked, per split, that are not."""
ROWS_PER_SPLIT = 2 * PRESENT * IMAGES
_WORLD_SCENES = 3000
_WORLD_SEED = 0


def pope_rows(seed: int, world: World = FULL) -> list[Row]:
    """Draw the questions of one seed, 300 in each split; every picture is a test scene, which no training scene resembles."""
    files: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for index in range(IMAGES):
        rng = scene_rng(seed, "pope", index)
        scene = _scene(rng, world)
        there = _drawn(rng, sorted(set(scene.kinds)))
        for split in SPLITS:
            absent = _absent(scene, split, rng)
            for kind, label in [*((kind, "yes") for kind in there), *((kind, "no") for kind in absent)]:
                number = len(files[split]) + 1
                official: JsonObject = {
                    "question_id": number,
                    "image": f"{world.name}_{seed}_{index:06d}.png",
                    "text": f"Is there {with_article(' '.join(kind))} in the image?",
                    "label": label,
                }
                where = f"pope ({world.name}), seed {seed}, {split} {number}"
                row = parse_row(official, split, where=where, reader=partial(render_png, scene))
                files[split].append(row)
    return join(row for rows in files.values() for row in rows)


def _scene(rng: np.random.Generator, world: World) -> Scene:
    """Draw a test scene with enough different objects."""
    while True:
        scene = sample_scene(rng, "test", world)
        if len(set(scene.kinds)) >= PRESENT:
            return scene


def _absent(scene: Scene, split: Split, rng: np.random.Generator) -> list[Kind]:
    """Choose objects that are not in a scene, in the way of the split."""
    there, seen = set(scene.kinds), scene.world.seen
    absent = [seen[i] for i in rng.permutation(len(seen)) if seen[i] not in there]
    if split == "random":
        return absent[:PRESENT]
    alone, together = _world(scene.world)
    if split == "popular":
        return _drawn(rng, sorted(absent, key=lambda kind: -alone[kind])[: len(seen) // 2])
    return sorted(absent, key=lambda kind: -sum(together[kind, other] for other in there))[:PRESENT]


def _drawn(rng: np.random.Generator, kinds: list[Kind]) -> list[Kind]:
    return [kinds[i] for i in rng.permutation(len(kinds))[:PRESENT]]


@cache
def _world(world: World = FULL) -> tuple[Counter[Kind], Counter[tuple[Kind, Kind]]]:
    """Count in how many scenes of the world each object occurs, and each pair of objects."""
    alone: Counter[Kind] = Counter()
    together: Counter[tuple[Kind, Kind]] = Counter()
    for index in range(_WORLD_SCENES):
        kinds = set(sample_scene(scene_rng(_WORLD_SEED, "pope/world", index), "train", world).kinds)
        alone.update(kinds)
        together.update((a, b) for a in kinds for b in kinds if a != b)
    return alone, together
