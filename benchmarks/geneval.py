"""GenEval: does a picture show the objects, counts, colours and positions that its prompt asks for.

Rows are in `geneval_rows`, the verdict on one image and the official summary in `geneval_rules`; here they become a benchmark with
error bars. Source: Ghosh, Hajishirzi and Schmidt, "GenEval" (arXiv 2310.11513); djghosh13/geneval @ af4902f24d3c.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jfeval.benchmarks.geneval_rows import CLASSES_FILE, METADATA_FILE, TAGS, Row, Tag, parse_row, read_rows
from jfeval.benchmarks.geneval_rules import ImageResult, group_of, judge_image, read_observation, summarise
from jfeval.benchmarks.prompt_files import PromptSettings, identity_of, protocols_under, with_prompts
from jfeval.benchmarks.scorers.metrics import as_metric
from jfeval.errors import UserError, unknown
from jfeval.fetching.lock import fetched_folder
from jfeval.schema import EDITIONS, Edition, ImageRequest, JsonObject, Judgement, Metric, Sample, Score
from jfeval.stats import Estimate, clustered_mean, mean_of

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Judge

NUM_IMAGES = 4
"""Images per prompt. Source: djghosh13/geneval @ af4902f24d3c, generation/diffusers_generate.py, n_samples."""

PER_TASK = 60
"""Prompts per task of the shapes edition; of a smaller world as many as it has."""

REVISION = "af4902f24d3ca90ebbb446dd9891a59e0f82725f"
PUBLISHED = {
    METADATA_FILE: "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
    CLASSES_FILE: "608f6a0e5c8ca1c7a92b818430141fe268c85b7930b50f4160f1d65893b5bacd",
}
"""sha256 of the published files at that revision of djghosh13/geneval."""

_OVERALL = "Unweighted mean of the task means (shares of right images), as published results are quoted."
_TASK = "Share of right images of the task."
_IMAGE_MEAN = "Share of right images over all tasks together; weights tasks by their number of prompts."
_PROMPT_ANY = "Share of prompts with at least one right image (the official script's '% correct prompts')."
_EXACT = (
    "Everything asked and nothing more: the image is right, and of every class exactly as many objects are detected as asked, none of a "
    "class that is not asked. Mean of the task means. GenEval itself forgives extra objects outside the counting task. What the judge "
    "does not report as an object (a smear, a malformed shape) is not counted."
)


@dataclass(frozen=True, kw_only=True)
class Settings(PromptSettings):
    """Which prompts are drawn from, and what the official edition's judge is made of; the shapes edition needs no weights."""

    detector: Path | None = None
    """Mask2Former: mmdetection's checkpoint file (2.x or 3.x), or a folder in transformers' form as a labelled fallback; ``mmdet:FILE``
    runs it in mmdetection itself. By default what ``jfeval data fetch geneval-detector`` stored."""
    clip: Path | None = None
    """CLIP ViT-L/14 in transformers' form; ``open_clip:FOLDER`` runs it in open_clip. By default what
    ``jfeval data fetch clip-vit-large-patch14`` stored."""


_DEFAULTS = Settings()


class GenEval:
    """553 prompts about everyday objects (official), or as many kinds of prompt about coloured shapes (shapes)."""

    name = "geneval"
    editions: tuple[Edition, ...] = EDITIONS
    protocols: tuple[str, ...] = ("official",)
    tasks: tuple[Tag, ...] = TAGS
    trained_on_captions: Mapping[Edition, tuple[str, ...]] = {
        "official": ("overall", "colors", "color_attr", "image_mean", "prompt_any", "exact_scene")
    }
    """CLIP says the colours of the official edition: the two tasks about them, and what they are part of."""
    golden_families: tuple[str, ...] = ("geneval", "mask2former")
    excerpt: Path | None = Path(__file__).parent / "excerpts" / "geneval"
    """24 of the official scorer's recorded verdicts; metadata rows are the published ones (MIT), detections synthetic."""

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        self.settings = settings
        self.protocols = protocols_under(self.protocols, settings)

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every prompt in order; see `Benchmark.samples`."""
        published, rows = self._rows(edition, seed, data)
        samples = [_sample(index, metadata, row) for index, (metadata, row) in enumerate(zip(published, rows, strict=True))]
        return with_prompts(samples, self.settings)

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return where the rows come from and their hash; for official data also whether they are the published ones."""
        return {**self._rows_identity(edition, seed, data), **identity_of(self.settings)}

    def _rows_identity(self, edition: Edition, seed: int, data: Path | None) -> JsonObject:
        published, _ = self._rows(edition, seed, data)
        if edition != "official":
            content = "\n".join(json.dumps(metadata) for metadata in published)
            digest = hashlib.sha256(content.encode()).hexdigest()
            per_task = len(published) // len(self.tasks)
            return {"name": f"{self.name}-{edition}", "seed": seed, "per_task": per_task, "rows": len(published), "sha256": digest}
        folder = _folder(data)
        digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PUBLISHED}
        same = digests == PUBLISHED
        identity: JsonObject = {
            "name": "djghosh13/geneval",
            "revision": REVISION if same else "",
            "published": same,
            "rows": len(published),
        }
        return {**identity, "sha256": dict(digests)}

    def judge(self, edition: Edition) -> "Judge":
        """Load the judge: Mask2Former and CLIP for photographs, the exact detector for the synthetic world.

        Raises:
            UserError: The edition is not known, or weights are missing or not what they should be.
        """
        self._check(edition)
        if edition == "official":
            from jfeval.benchmarks.geneval_parts import load_judge

            return load_judge(self.settings.detector, self.settings.clip)
        from jfeval.benchmarks.shapes.oracle import OracleDetector
        from jfeval.benchmarks.shapes.world import world_named

        return OracleDetector(world_named(edition).canvas)

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Turn what the judge saw into one verdict per image.

        Raises:
            UserError: An unknown protocol, or an observation that is not one.
        """
        self._check_protocol(protocol)
        row = parse_row(sample.reference, where=f"sample {sample.id}")
        scores = []
        for index, observation in enumerate(judgement.observations):
            seen = read_observation(observation, where=f"sample {sample.id}, image {index}")
            verdict = judge_image(row, seen)
            values = {"correct": float(verdict.correct), "exact_scene": float(verdict.exact)}
            scores.append(
                Score(sample_id=sample.id, task=row.tag, cluster=sample.cluster, index=index, values=values, reason=verdict.reason)
            )
        return scores

    def soft(self, sample: Sample, observation: JsonObject) -> float:
        """Return how nearly one picture shows what its row asks, in [0, 1]; see `geneval_soft`."""
        from jfeval.benchmarks.geneval_soft import soft_score

        return soft_score(parse_row(sample.reference, where=f"sample {sample.id}"), observation, where=f"sample {sample.id}")

    def check_rows(self, edition: Edition) -> list[JsonObject]:
        """Return a few rows of each kind of question, for a service to try its judge on before it starts."""
        first, second = ("dog", "bus") if edition == "official" else ("circle", "star")
        one, other = {"class": first, "count": 1}, {"class": second, "count": 1}
        return [
            {"tag": "single_object", "include": [one], "prompt": "one"},
            {"tag": "color_attr", "include": [{**one, "color": "red"}, {**other, "color": "green"}], "prompt": "two"},
            {"tag": "position", "include": [one, {**other, "position": ["left of", 0]}], "prompt": "three"},
        ]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return overall (the headline), each task, the image mean, prompts with a right image, and the exact scene.

        Intervals are over prompts, stratified by task: the images of one prompt form one cluster. Tasks without a scored image are left
        out of the means over tasks, as in the official summary, and the detail says so.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self._check_protocol(protocol)
        summary = summarise([ImageResult(tag=s.task, group=s.cluster, correct=s.values["correct"] == 1.0) for s in scores])
        tasks = [tag for tag in TAGS if tag in summary.tasks]
        missing = [tag for tag in self.tasks if tag not in summary.tasks]
        note = f" Without {', '.join(missing)}: no image scored." if missing else ""
        right = {tag: _estimate([s for s in scores if s.task == tag], "correct") for tag in tasks}
        exact = {tag: _estimate([s for s in scores if s.task == tag], "exact_scene") for tag in tasks}
        any_right = [_estimate_any([s for s in scores if s.task == tag]) for tag in tasks]

        def metric(name: str, estimate: Estimate, **more: Any) -> Metric:  # noqa: ANN401 - handed on
            return as_metric(estimate, name=name, protocol=protocol, **more)

        return [
            metric("overall", mean_of(list(right.values())), detail=_OVERALL + note, headline=True),
            *(metric("task", right[tag], task=tag, detail=_TASK) for tag in tasks),
            metric("image_mean", mean_of(list(right.values()), [e.n for e in right.values()]), detail=_IMAGE_MEAN),
            metric("prompt_any", mean_of(any_right, [e.n for e in any_right]), detail=_PROMPT_ANY),
            metric("exact_scene", mean_of(list(exact.values())), detail=_EXACT + note),
            *(metric("exact_scene", exact[tag], task=tag, detail=_EXACT) for tag in tasks),
        ]

    def _rows(self, edition: Edition, seed: int, data: Path | None) -> tuple[list[JsonObject], list[Row]]:
        self._check(edition)
        if edition == "official":
            return read_rows(_folder(data))
        if data is not None:
            raise UserError(f"the {edition} edition draws its prompts from the seed and reads no data; leave out --data {data}")
        from jfeval.benchmarks.shapes.world import world_named

        published = list(self._drawn(seed, edition))
        where, shapes = f"{self.name} ({edition}), seed {seed}", world_named(edition).shapes
        return published, [parse_row(m, where=f"{where}, row {i}", classes=shapes) for i, m in enumerate(published)]

    def _drawn(self, seed: int, world: str) -> tuple[JsonObject, ...]:
        return _drawn_metadata(seed, world)

    def _check(self, edition: Edition) -> None:
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)

    def _check_protocol(self, protocol: str) -> None:
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)


class GenEvalHeldOut(GenEval):
    """GenEval's colour tasks over colour-shape pairs that no stage of training has seen: composition, apart from memory."""

    name = "geneval-heldout"
    editions: tuple[Edition, ...] = ("shapes",)
    tasks: tuple[Tag, ...] = ("colors", "color_attr")

    def _drawn(self, seed: int, world: str) -> tuple[JsonObject, ...]:
        return _drawn_heldout_metadata(seed, world)


@lru_cache(maxsize=4)
def _drawn_metadata(seed: int, name: str) -> tuple[JsonObject, ...]:
    """Draw the rows of a world's edition; a run asks for them several times."""
    from jfeval.benchmarks.shapes.rows import geneval_rows, most_per_task
    from jfeval.benchmarks.shapes.world import world_named

    world = world_named(name)
    return tuple(row.metadata for row in geneval_rows(seed, min(PER_TASK, most_per_task(world)), world))


@lru_cache(maxsize=4)
def _drawn_heldout_metadata(seed: int, name: str) -> tuple[JsonObject, ...]:
    """Draw the held-out rows."""
    from jfeval.benchmarks.shapes.rows import heldout_rows, most_per_task
    from jfeval.benchmarks.shapes.world import world_named

    world = world_named(name)
    return tuple(row.metadata for row in heldout_rows(seed, min(PER_TASK, most_per_task(world)), world))


def _sample(index: int, metadata: JsonObject, row: Row) -> Sample:
    """Build a sample; rows with equal metadata are one cluster, as the official summary groups them."""
    request = ImageRequest(prompt=row.prompt, num_images=NUM_IMAGES)
    return Sample(id=f"{index:05d}", task=row.tag, request=request, reference=metadata, cluster=group_of(metadata))


def _folder(data: Path | None) -> Path:
    folder = fetched_folder("geneval") if data is None else data
    if data is None and not folder.is_dir():
        raise UserError(
            f"geneval's official edition needs --data FOLDER, a folder with {METADATA_FILE} and {CLASSES_FILE} of djghosh13/geneval "
            f"(revision {REVISION[:7]}); `jfeval data fetch geneval` gets it; or use --edition shapes, which needs no data"
        )
    return folder


def _estimate(scores: Sequence[Score], value: str) -> Estimate:
    """Average images; those of one prompt are one cluster, and differ by their noise alone."""
    values, prompts = [score.values[value] for score in scores], [score.cluster for score in scores]
    return clustered_mean(values, prompts, repeats=prompts)


def _estimate_any(scores: Sequence[Score]) -> Estimate:
    """Average prompts: 1 where any image is right."""
    prompts = {s.cluster: 0.0 for s in scores} | {s.cluster: 1.0 for s in scores if s.values["correct"] == 1.0}
    return clustered_mean(list(prompts.values()), list(prompts))
