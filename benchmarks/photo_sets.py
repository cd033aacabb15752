"""Sets of photographs: Inception's features of generated images under a named recipe, their distance to a reference, and the CLIP score.

Features lie in the run's store and are read from there at each pass, so that no pass holds more than a few hundred of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.benchmarks.features import ImageFile, Network, in_archive, in_folder, mixed_sizes
from jfeval.benchmarks.fid_metrics import FULL, frechet_metrics, kernel_metric, label, mean_metric, with_influence
from jfeval.benchmarks.prompt_files import PromptSettings, asked_prompt
from jfeval.benchmarks.reference import Reference, ReferenceSource, stored_reference
from jfeval.benchmarks.scorers.clip_folder import PUBLISHED
from jfeval.benchmarks.scorers.clip_score import FORMS, ClipScore
from jfeval.benchmarks.scorers.fixed_features import pack, unpack
from jfeval.benchmarks.scorers.frechet_error import estimate_frechet
from jfeval.benchmarks.scorers.image_recipes import RECIPES
from jfeval.benchmarks.scorers.inception import WEIGHTS, Inception
from jfeval.errors import UserError
from jfeval.fetching.lock import fetched_folder
from jfeval.schema import JsonObject, Judged, Metric, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_FOR_KERNEL = 5_000
"""Images of each side that the kernel distance reads, evenly spread: it compares all pairs."""
CLIP = "clip_score"
CLIP_DATA = PUBLISHED.partition("/")[2]
"""Name of the data set that holds the paper's CLIP."""

_ROWS = 512
_PAPER = "JanusFlow's number is FID-30k after GigaGAN's script; its resolution of 256 is that script's default and not stated in the paper."


@dataclass(frozen=True, kw_only=True)
class Settings(PromptSettings):
    """Which prompts are drawn from, and what the official edition needs; of the rest the shapes edition reads only contrastive."""

    weights: Path | None = None
    """Inception's converted weights; by default where `jfeval data fetch inception` stores them."""
    reference: Path | None = None
    """What to compare with: a folder or ZIP archive of images, or an .npz file of their statistics; by default the data's own images."""
    clip: Path | None = None
    """Folder of a CLIP in transformers' form, for the CLIP score; by default where `jfeval data fetch clip-vit-large-patch14` stores it.
    Where nothing is there, there is no CLIP score."""
    clip_form: str = "plain"
    """Prefix and resizing of the CLIP score: plain or gigagan."""
    contrastive: Path | None = None
    """Folder of a contrastive encoder as ``jfeval export OUT/contrastive`` writes it, for the shapes edition's similarity of picture and
    prompt; by default the embedded one. Where there is none, there is no such number."""
    cache: Path = Path("runs") / "features"
    """Folder for the reference's features."""
    images: int = 0
    """Ask only for so many images, evenly spread over categories: 10000 for FID-10k; 0 for all that the benchmark asks."""
    any_size: bool = False
    """Take another number of prompts or reference images than the published one."""

    def __post_init__(self) -> None:
        """Check the prompts, and what needs no file."""
        super().__post_init__()
        if self.clip_form not in FORMS:
            raise ValueError(f"clip_form must be one of {', '.join(FORMS)}, not {self.clip_form}")
        if self.images < 0:
            raise ValueError(f"images must not be negative, got {self.images}")


class PhotoFeatures:
    """Sees Inception's features of generated images and, where CLIP is at hand, how well they fit their prompts.

    Args:
        network: Inception under the recipe.
        reference: What they will be compared with.
        clip: For the CLIP score; None for none.
    """

    name = "inception"

    def __init__(self, network: Network, reference: ReferenceSource, clip: ClipScore | None = None) -> None:
        self._network, self._reference, self._clip = network, reference, clip

    def identity(self) -> JsonObject:
        """Return what can change an observation, and what it will be held against; makes the reference's features where they are not."""
        clip = self._clip.identity() if self._clip else None
        return {**self._network.identity(), "reference": self._reference.identity(), "clip": clip}

    def observe(self, sample: Sample, images: "Sequence[Image]") -> tuple[JsonObject, ...]:
        """Report each image's size, features and CLIP score."""
        return self.observe_many([(sample, images)])[0]

    def observe_many(self, work: "Sequence[tuple[Sample, Sequence[Image]]]") -> list[tuple[JsonObject, ...]]:
        """Report on the images of several samples, all in one batch."""
        pictures = [image for _, images in work for image in images]
        rows, _ = self._network.features(pictures)
        seen: list[JsonObject] = [
            {"size": f"{image.width}x{image.height}", "features": pack(row)} for image, row in zip(pictures, rows, strict=True)
        ]
        if self._clip is not None:
            prompts = [asked_prompt(sample) for sample, images in work for _ in images]
            for one, score in zip(seen, self._clip.scores(pictures, prompts), strict=True):
                one[CLIP] = score
        found = iter(seen)
        return [tuple(next(found) for _ in images) for _, images in work]


def photo_judge(settings: Settings, recipe: str, own_images: Callable[[], Sequence[ImageFile]]) -> PhotoFeatures:
    """Load the networks and find the reference.

    Args:
        settings: Where they are.
        recipe: One of `RECIPES`.
        own_images: Lists the data's own reference images; called where no other reference is named.

    Raises:
        UserError: Weights or reference are missing; says what gets them.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = Inception(settings.weights or fetched_folder("inception") / WEIGHTS, recipe, device=device)
    place = settings.reference
    if place is not None and place.suffix == ".npz":
        source = ReferenceSource(network, settings.cache, statistics=place)
    else:
        images = own_images() if place is None else in_archive(place) if place.suffix == ".zip" else in_folder(place)
        source = ReferenceSource(network, settings.cache, images=images)
    folder = settings.clip or fetched_folder(CLIP_DATA)
    clip = ClipScore(folder, settings.clip_form, device=device) if settings.clip or folder.is_dir() else None
    return PhotoFeatures(network, source, clip)


class Seen:
    """The stored features of some samples, read anew at each pass."""

    def __init__(self, judged: Judged, samples: Sequence[Sample]) -> None:
        self._judged, self._samples = judged, samples

    def __iter__(self) -> Iterator[np.ndarray]:
        rows: list[np.ndarray] = []
        for sample in self._samples:
            for index, seen in enumerate(self._judged.read(sample.id).observations):
                rows.append(unpack(str(seen.get("features")), where=f"sample {sample.id}, image {index}"))
            if len(rows) >= _ROWS:
                yield np.stack(rows)
                rows = []
        if rows:
            yield np.stack(rows)


def photo_results(judged: Judged, *, protocol: str, places: Sequence[Path], categories: bool) -> tuple[list[Score], list[Metric]]:
    """Return FID with its error (the headline), without bias, KID, the CLIP score, each category's distance, and a score per image.

    A category's distance is of a tenth of the images and is named for that number: it is not to be read beside the whole set's.

    Args:
        judged: What `PhotoFeatures` saw.
        protocol: The recipe.
        places: Folders that the reference's features may lie in, tried in order.
        categories: Give each task's distance to the reference images of the same category.

    Raises:
        UserError: Fewer than two images, images of mixed size, or the reference is not at hand.
    """
    scores = _scores(judged)
    reference = stored_reference(judged.judge, places)
    whole = estimate_frechet(Seen(judged, judged.samples), reference.given)
    first, *rest = frechet_metrics(whole, name=f"fid_{label(len(scores))}", protocol=protocol)
    paper = _PAPER if len(scores) == FULL and protocol == RECIPES[0] else ""
    metrics = [replace(first, headline=True, paper=paper), *rest]
    metrics += _kernel(judged, judged.samples, reference, None, protocol)
    metrics += _clip(scores, judged.judge, protocol)
    tasks: dict[str, list[Sample]] = defaultdict(list)
    for sample in judged.samples:
        tasks[sample.task].append(sample)
    for task, samples in tasks.items() if categories else ():
        metrics += _category(judged, task, samples, reference, protocol)
    return with_influence(scores, whole.influence), metrics


def _scores(judged: Judged) -> list[Score]:
    """Look at every observation once: its size, and what two runs are compared by."""
    sizes: dict[str, list[str]] = defaultdict(list)
    scores: list[Score] = []
    for sample in judged.samples:
        for index, seen in enumerate(judged.read(sample.id).observations):
            sizes[str(seen.get("size"))].append(f"{sample.id}, image {index}")
            score = seen.get(CLIP)
            values = {CLIP: float(score)} if isinstance(score, int | float) else {}
            scores.append(Score(sample_id=sample.id, task=sample.task, cluster=sample.cluster, index=index, values=values))
    if len(scores) < 2:
        raise UserError(f"a distance of sets needs at least 2 judged images, got {len(scores)}")
    if len(sizes) > 1:
        raise mixed_sizes(dict(sizes))
    return scores


def _category(judged: Judged, task: str, samples: Sequence[Sample], reference: Reference, protocol: str) -> list[Metric]:
    """Return one category's distance to the reference images of its folder; nothing where there are too few, or no folders."""
    places = reference.features.positions(task) if reference.features else np.zeros(0, dtype=int)
    if reference.features is None or len(places) < 2 or len(samples) < 2:
        return []
    found = estimate_frechet(Seen(judged, samples), reference.features.batches(places))
    own = frechet_metrics(found, name=f"fid_{label(found.n)}", protocol=protocol, task=task)
    return [own[0], *_kernel(judged, samples, reference, places, protocol, task)]


def _kernel(
    judged: Judged, samples: Sequence[Sample], reference: Reference, places: np.ndarray | None, protocol: str, task: str = ""
) -> list[Metric]:
    """Return the kernel distance over at most `MOST_FOR_KERNEL` images of each side; nothing where the reference is statistics alone."""
    if reference.features is None:
        return []
    some = samples if len(samples) <= MOST_FOR_KERNEL else [samples[i * len(samples) // MOST_FOR_KERNEL] for i in range(MOST_FOR_KERNEL)]
    drawn = np.concatenate([part.astype(np.float32) for part in Seen(judged, some)])
    wanted = reference.features.some(MOST_FOR_KERNEL) if places is None else reference.features.rows[places[:MOST_FOR_KERNEL]]
    return [kernel_metric(drawn, wanted, name="kid", protocol=protocol, task=task)]


def _clip(scores: Sequence[Score], judge: JsonObject, protocol: str) -> list[Metric]:
    """Return the mean CLIP score; nothing where CLIP was not at hand."""
    values = [score.values[CLIP] for score in scores if CLIP in score.values]
    about = judge.get("clip")
    if len(values) < len(scores) or not isinstance(about, dict):
        return []
    detail = (
        f"Mean of 100 x cosine of image and prompt in CLIP {about.get('backbone')}; prefix {about.get('prefix')!r}, "
        f"resize {about.get('resize')}, activation {about.get('activation')}."
    )
    return [mean_metric(values, name=CLIP, protocol=protocol, detail=detail)]
