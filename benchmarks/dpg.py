"""DPG-Bench: does a picture of a long prompt answer yes to every question that the prompt settles.

Rows are in `dpg_rows`, the rules of both protocols in `dpg_rules`, the synthetic world's prompts and judge in `dpg_shapes`.
Source: Hu et al., "ELLA" (arXiv 2403.05135); TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.benchmarks.dpg_grid import list_pictures, open_cells, usual_side
from jfeval.benchmarks.dpg_rows import (
    PROMPTS_FOLDER,
    QUESTIONS_FILE,
    Item,
    Question,
    check_graph,
    parse_reference,
    read_items,
    read_prompts,
)
from jfeval.benchmarks.dpg_rules import PROTOCOLS, Dropped, Picture, Protocol, judge_picture, read_answers
from jfeval.benchmarks.prompt_files import PromptSettings, identity_of, protocols_under, rules_of, with_prompts
from jfeval.benchmarks.ready import ReadySet
from jfeval.benchmarks.scorers.metrics import as_metric
from jfeval.errors import BadRequest, UserError, unknown
from jfeval.fetching.lock import UNPINNED, fetched_folder, read_lock
from jfeval.schema import Edition, ImageRequest, JsonObject, Judgement, Metric, Sample, Score
from jfeval.stats import Estimate, clustered_mean, seed_error

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.benchmarks.base import Judge

NUM_IMAGES = 4
"""Pictures per prompt. Source: TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench/dist_eval.sh, PIC_NUM."""
SHAPES_ITEMS = 200
"""Prompts of the shapes edition."""

_SCORE, _SCORE_OF, _DROPPED = "score", "score_", "dropped"
_ASKED, _YES = "asked: ", "yes: "
_OVERALL: dict[Protocol, str] = {
    "official": "Mean over prompts of the share of questions confirmed, a question counting only where its parents were; papers print it "
    "x 100. As the official script computes it: the file's first question is never asked.",
    "fixed": "Mean over prompts of the share of questions confirmed, a question counting only where all its ancestors were, wherever "
    "their rows stand and the file's first question included.",
}
_CATEGORY: dict[Protocol, str] = {
    "official": "Share of raw yes about the last picture of each prompt alone, before the dependency rule, pooled over questions: what "
    "papers print. Not a part of the overall, and above it.",
    "fixed": "Share of questions confirmed about all pictures, after the dependency rule, pooled over questions.",
}


@dataclass(frozen=True, kw_only=True)
class Settings(PromptSettings):
    """Which prompts are drawn from, and what the official judge needs."""

    judge: Path | None = None
    """Folder of mPLUG's published checkpoint, by default data/official/mplug; only the official edition reads it."""
    pictures: int = NUM_IMAGES
    """Pictures per prompt, 1 to 4: the official script's pic-num."""
    cell: int = 0
    """Width of one cell of ready grids in pixels, the official script's resolution; 0 for the one that most grids speak for."""

    def __post_init__(self) -> None:
        """Check the prompts, and what needs no file."""
        super().__post_init__()
        if not 1 <= self.pictures <= NUM_IMAGES:
            raise ValueError(f"pictures must be from 1 to {NUM_IMAGES}, not {self.pictures}")
        if self.cell < 0:
            raise ValueError(f"cell must not be negative, got {self.cell}")


_DEFAULTS = Settings()


class DPG:
    """1,065 long prompts with a graph of yes-no questions each (official), or many-sentence prompts of coloured shapes (shapes)."""

    name = "dpg"
    editions: tuple[Edition, ...] = ("official", "shapes")
    protocols: tuple[str, ...] = PROTOCOLS
    trained_on_captions: Mapping[Edition, tuple[str, ...]] = {
        "official": ("overall", *(f"overall_{name}" for name in PROTOCOLS), "l1", "l2"),
    }
    """mPLUG answers every question of the official edition."""
    golden_families: tuple[str, ...] = ("dpg", "mplug")
    excerpt: Path | None = None

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        self.settings = settings
        self.protocols = protocols_under(PROTOCOLS, settings)

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every prompt in order; see `Benchmark.samples`."""
        return with_prompts([_sample(item, self.settings.pictures) for item in self._items(edition, seed, data)], self.settings)

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return where the questions come from and the hash of prompts and questions as read."""
        items = self._items(edition, seed, data)
        content = json.dumps([[item.prompt, item.reference()] for item in items], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        counts: JsonObject = {"rows": len(items), "questions": sum(len(item.questions) for item in items), "sha256": digest}
        counts |= identity_of(self.settings)
        if edition == "shapes":
            return {"name": f"{self.name}-shapes", "seed": seed, **counts}
        folder = _folder(data)
        lock, file = read_lock(folder), hashlib.sha256((folder / QUESTIONS_FILE).read_bytes()).hexdigest()
        revision = lock.revision if lock else UNPINNED
        return {"name": "TencentQQGYLab/ELLA dpg_bench", "revision": revision, **counts, "questions_sha256": file}

    def judge(self, edition: Edition) -> "Judge":
        """Load the judge: mPLUG-large for photographs, the exact oracle for the synthetic world.

        Raises:
            UserError: The edition is not known, or mPLUG's checkpoint is not there.
        """
        self._check(edition)
        if edition == "official":
            from jfeval.benchmarks.scorers.mplug_judge import load_judge

            return load_judge(self.settings.judge)
        from jfeval.benchmarks.dpg_shapes import OracleVqa

        return OracleVqa()

    def ready(self, folder: Path, rows: Sequence[tuple[int, Sample]]) -> ReadySet:
        """Find ready pictures in the published layout, ITEM.png with a grid of two columns or ITEM/ with separate pictures.

        A grid of another size than is asked for fails its prompt and says both sizes.

        Raises:
            UserError: No such folder, none of its pictures is of a prompt, or two are of one.
        """
        count = self.settings.pictures
        listing = list_pictures(folder, [sample.id for _, sample in rows])
        if not listing.pictures:
            raise UserError(
                f"{folder} holds no picture of the {len(rows)} prompts ({len(listing.extra)} others); expected {rows[0][1].id}.png, a grid "
                f"of {count} cells, or the folder {rows[0][1].id} with {count} pictures"
            )
        side = self.settings.cell or usual_side(listing, count=count)

        def cells(files: tuple[Path, ...]) -> "list[Image]":
            try:
                return open_cells(files, count=count, side=side)
            except UserError as error:
                raise BadRequest(str(error)) from error

        files = {row: listing.pictures[sample.id] for row, sample in rows if sample.id in listing.pictures}
        return ReadySet(files, {row: sample.id for row, sample in rows}, listing.extra, cells)

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Turn the answers into one score per picture, with each category's counts.

        A prompt that the official script fails on has scores without a value and the reason; no mean of that protocol counts it.

        Raises:
            UserError: An unknown protocol, or observations that are not answers to the sample's questions.
        """
        known = self._check_protocol(protocol)
        questions = parse_reference(sample.reference, where=f"sample {sample.id}")
        answers = [read_answers(seen, where=f"sample {sample.id}, image {i}") for i, seen in enumerate(judgement.observations)]
        dropped = ""
        pictures: list[Picture | None] = [None] * len(answers)
        try:
            pictures = [judge_picture(questions, given, protocol=known) for given in answers]
        except Dropped as reason:
            dropped = f"the official script leaves this prompt out: {reason}"
        return [
            Score(
                sample_id=sample.id,
                task=sample.task,
                cluster=sample.cluster,
                index=index,
                values={**_values(picture, raw=known == "official"), **_other_score(questions, answers[index], known)},
                reason=picture.reason if picture else dropped,
            )
            for index, picture in enumerate(pictures)
        ]

    def soft(self, sample: Sample, observation: JsonObject) -> float:
        """Return the share of questions about one picture that are confirmed, by the rules without the script's quirks, in [0, 1]."""
        where = f"sample {sample.id}"
        return judge_picture(parse_reference(sample.reference, where=where), read_answers(observation, where=where), protocol="fixed").score

    def check_rows(self, edition: Edition) -> list[JsonObject]:
        """Return a few rows of questions, for a service to try its judge on before it starts."""
        self._check(edition)
        return [item.reference() for item in _drawn_items(0)[1:4]]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return the overall (the headline), the overall under the other protocol, then the broad and the fine categories.

        Intervals are over prompts: the pictures and questions of one prompt form one cluster.

        Raises:
            UserError: An unknown protocol, or no score.
        """
        known = self._check_protocol(protocol)
        kept = [score for score in scores if _SCORE in score.values]
        dropped = len({score.sample_id for score in scores} - {score.sample_id for score in kept})
        if not kept:
            raise UserError(f"no judged picture to average ({dropped} prompts dropped out)")
        note = f" {dropped} prompts dropped out, as in the official script." if dropped else ""
        overall = as_metric(overall_of(kept), name="overall", protocol=protocol, detail=_OVERALL[known] + note, headline=True)
        other = _other(known)
        beside = [score for score in scores if _SCORE_OF + other in score.values]
        second = overall_of(beside, _SCORE_OF + other) if beside else None
        counted = _last_pictures(kept) if known == "official" else kept
        categories = sorted({name.removeprefix(_ASKED) for score in counted for name in score.values if name.startswith(_ASKED)})
        broad = sorted({_broad(name) for name in categories})
        l1 = {name: [category for category in categories if _broad(category) == name] for name in broad}
        detail = _CATEGORY[known]
        return [
            overall,
            *([as_metric(second, name=f"overall_{other}", protocol=protocol, detail=_OVERALL[other])] if second else []),
            *(as_metric(_pooled(counted, l1[name]), name="l1", protocol=protocol, task=name, detail=detail) for name in broad),
            *(as_metric(_pooled(counted, [name]), name="l2", protocol=protocol, task=name, detail=detail) for name in categories),
        ]

    def _items(self, edition: Edition, seed: int, data: Path | None) -> list[Item]:
        self._check(edition)
        if edition == "official":
            return _official_items(_folder(data))
        if data is not None:
            raise UserError(f"the shapes edition draws its prompts from the seed and reads no data; leave out --data {data}")
        return list(_drawn_items(seed))

    def _check(self, edition: Edition) -> None:
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)

    def _check_protocol(self, protocol: str) -> Protocol:
        for known in PROTOCOLS:
            if protocol in self.protocols and rules_of(protocol) == known:
                return known
        raise unknown(f"protocol of {self.name}", protocol, self.protocols)


def overall_of(scores: Iterable[Score], value: str = _SCORE) -> Estimate:
    """Average pictures within each prompt, then prompts; the interval is over prompts."""
    prompts: dict[str, list[float]] = {}
    for score in scores:
        prompts.setdefault(score.cluster, []).append(score.values[value])
    means = [math.fsum(values) / len(values) for values in prompts.values()]
    pictures = [(value, prompt) for prompt, values in prompts.items() for value in values]
    noise = seed_error([value for value, _ in pictures], [prompt for _, prompt in pictures])
    return replace(clustered_mean(means, list(prompts)), se_seed=noise)


def _other(protocol: str) -> Protocol:
    return "fixed" if protocol == "official" else "official"


def _other_score(questions: Sequence[Question], answers: Sequence[str], protocol: str) -> dict[str, float]:
    """Score under the other protocol too, so that both are shown; empty where the official script fails."""
    other = _other(protocol)
    try:
        return {_SCORE_OF + other: judge_picture(questions, answers, protocol=other).score}
    except Dropped:
        return {}


def _values(picture: Picture | None, *, raw: bool) -> dict[str, float]:
    """Return a picture's score, and by category how many questions were asked and confirmed; a mark for a prompt that drops out."""
    if picture is None:
        return {_DROPPED: 1.0}
    asked = Counter(question.category for question in picture.questions.values())
    verdicts = picture.answered if raw else picture.counted
    yes = Counter(picture.questions[number].category for number, verdict in verdicts.items() if verdict)
    counts = {key: float(n) for name in asked for key, n in ((_ASKED + name, asked[name]), (_YES + name, yes[name]))}
    return {_SCORE: picture.score, **counts}


def _last_pictures(scores: Sequence[Score]) -> list[Score]:
    last: dict[str, Score] = {}
    for score in scores:
        if score.sample_id not in last or score.index > last[score.sample_id].index:
            last[score.sample_id] = score
    return list(last.values())


def _pooled(scores: Sequence[Score], categories: Sequence[str]) -> Estimate:
    """Estimate the share of confirmed questions of some categories, questions of one prompt being one cluster."""
    values: list[float] = []
    clusters: list[str] = []
    for score in scores:
        asked = int(sum(score.values.get(_ASKED + name, 0.0) for name in categories))
        yes = int(sum(score.values.get(_YES + name, 0.0) for name in categories))
        values += [1.0] * yes + [0.0] * (asked - yes)
        clusters += [score.cluster] * asked
    return clustered_mean(values, clusters)


def _broad(category: str) -> str:
    return category.split("-")[0].strip()


def _sample(item: Item, pictures: int) -> Sample:
    """Build a sample; its task is the collection its prompt is from, as the item's id names it."""
    request = ImageRequest(prompt=item.prompt, num_images=pictures)
    source = item.id.rstrip("0123456789") or "numbered"
    return Sample(id=item.id, task=source, request=request, reference=item.reference(), cluster=item.id)


@lru_cache(maxsize=2)
def _drawn_items(seed: int) -> tuple[Item, ...]:
    """Draw the shapes edition's prompts; a run asks for them several times."""
    from jfeval.benchmarks.dpg_shapes import draw_items

    return tuple(draw_items(seed, SHAPES_ITEMS))


def _official_items(folder: Path) -> list[Item]:
    items = read_items(folder / QUESTIONS_FILE)
    check_graph(items, where=str(folder / QUESTIONS_FILE))
    prompts = folder / PROMPTS_FOLDER
    return read_prompts(prompts, items) if prompts.is_dir() else items


def _folder(data: Path | None) -> Path:
    folder = fetched_folder("dpg") if data is None else data
    if data is None and not folder.is_dir():
        raise UserError(
            f"dpg's official edition needs --data FOLDER, a folder with {QUESTIONS_FILE} (and perhaps {PROMPTS_FOLDER}/) of dpg_bench in "
            "TencentQQGYLab/ELLA; `jfeval data fetch dpg` gets it; or use --edition shapes, which needs no data"
        )
    return folder
