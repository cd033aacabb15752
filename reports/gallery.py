"""The gallery's data: what was asked once, and every run's pictures, verdicts and reasons, as one JSON value for the page's script."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from jfeval.reports.gallery_sample import given_key, result_json, sample_json
from jfeval.reports.images import BUDGET, embed
from jfeval.reports.items import verdict_name
from jfeval.reports.naming import run_names, withheld
from jfeval.reports.status import status
from jfeval.reports.text import benchmark_label, label, one_line
from jfeval.schema import ImageRequest, Json, JsonObject, Output, Sample, Score
from jfeval.store import Store

MOST_RESULTS = 16_000
"""Most samples of all runs together that the page holds; beyond, every benchmark's are thinned alike, evenly over its list."""
MOST_PICTURES = 8_000
"""The same for pictures."""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the page's script draws."""

    data: JsonObject
    """``sets`` (what was asked), ``runs`` (what came back, in their set's order) and ``images``, which are referred to by position."""
    left_out: int
    """How many stored pictures are not shown: missing, unreadable, or over the file's budget."""
    samples: int
    """Samples shown, each counted once however many runs it has."""
    stored: int
    """Samples there are."""


@dataclass(kw_only=True)
class _Run:
    """One run, read once."""

    store: Store
    samples: dict[str, Sample]
    outputs: Mapping[str, Output]
    given: Mapping[str, tuple[str, ...]]
    """Hashes of the pictures that came with each question."""


@dataclass(kw_only=True)
class _Set:
    """Runs that were asked the same, and what that was."""

    runs: list[_Run] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)

    def takes(self, run: _Run) -> bool:
        """Tell whether a run's samples are the same as those here, as far as both have them."""
        one, two = self.runs[0].store.record(), run.store.record()
        if (one.benchmark, one.edition, one.seed, withheld(one)) != (two.benchmark, two.edition, two.seed, withheld(two)):
            return False
        known = {key: pictures for other in self.runs for key, pictures in other.given.items()}
        return all(
            _asked(self.samples[key]) == _asked(sample) and known[key] == run.given[key]
            for key, sample in run.samples.items()
            if key in self.samples
        )


def build_gallery(stores: Sequence[Store], *, budget: int = BUDGET, beside: Path | None = None) -> Gallery:
    """Collect the samples of every run, with each picture embedded once.

    Args:
        stores: The runs, in the order of the page's choice.
        budget: Most characters that the embedded pictures may take.
        beside: Folder of the page, from which full pictures are linked where that path does not lead far off; None links none.
    """
    runs = [_read(store) for store in stores]
    sets: list[_Set] = []
    place: dict[int, int] = {}
    for i, run in enumerate(runs):
        place[i] = next((k for k, one in enumerate(sets) if one.takes(run)), len(sets))
        if place[i] == len(sets):
            sets.append(_Set())
        sets[place[i]].runs.append(run)
        sets[place[i]].samples |= {key: sample for key, sample in run.samples.items() if key not in sets[place[i]].samples}
    stored = sum(len(one.samples) for one in sets)
    _thin(sets)
    uris = embed(_readers(sets), budget=budget)
    position = {key: i for i, key in enumerate(uris)}
    asked: list[Json] = [_set_json(one, position, beside) for one in sets]
    names = run_names([run.store.record() for run in runs])
    drawn: list[Json] = [
        _run_json(run, name, place[i], sets[place[i]], position, beside) for i, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    return Gallery(
        data={"sets": asked, "runs": drawn, "images": list(uris.values())},
        left_out=len(_readers(sets)) - len(uris),
        samples=sum(len(one.samples) for one in sets),
        stored=stored,
    )


def _read(store: Store) -> _Run:
    samples = {sample.id: sample for sample in store.samples()}
    given = {
        key: () if isinstance(sample.request, ImageRequest) else tuple(given_key(data) for data in sample.request.images)
        for key, sample in samples.items()
    }
    return _Run(store=store, samples=samples, outputs=store.outputs(), given=given)


def _asked(sample: Sample) -> tuple[object, ...]:
    request = sample.request
    words = request.prompt if isinstance(request, ImageRequest) else request.question
    return sample.task, words, sample.reference


def _thin(sets: Sequence[_Set]) -> None:
    """Drop samples, evenly over each benchmark's list, until the page can hold the rest."""
    results = sum(len(run.samples) for one in sets for run in one.runs)
    pictures = sum(len(run.outputs[key].images) for one in sets for run in one.runs for key in run.samples if key in run.outputs)
    pictures += len({key for one in sets for run in one.runs for keys in run.given.values() for key in keys})
    share = min(1.0, MOST_RESULTS / max(results, 1), MOST_PICTURES / max(pictures, 1))
    for one in sets:
        keys = list(one.samples)
        kept = max(1, math.floor(share * len(keys)))
        chosen = {keys[i * len(keys) // kept] for i in range(kept)} if keys else set()
        one.samples = {key: sample for key, sample in one.samples.items() if key in chosen}


def _readers(sets: Sequence[_Set]) -> dict[str, Callable[[], bytes | None]]:
    """Return how to read every picture that is to be shown, each once."""
    readers: dict[str, Callable[[], bytes | None]] = {}
    for one in sets:
        for run in one.runs:
            for key in one.samples:
                output = run.outputs.get(key) if key in run.samples else None
                for sha in (*run.given.get(key, ()), *(output.images if output else ())):
                    readers.setdefault(sha, lambda store=run.store, sha=sha: store.read_image(sha))
    return readers


def _set_json(one: _Set, position: Mapping[str, int], beside: Path | None) -> JsonObject:
    """Return what was asked."""
    tasks = list(dict.fromkeys(sample.task for sample in one.samples.values()))
    given = {key: pictures for run in reversed(one.runs) for key, pictures in run.given.items()}
    picture = _picture(one.runs[0].store, position, beside)
    samples: list[Json] = [sample_json(s, tasks.index(s.task), given[key], picture) for key, s in one.samples.items()]
    record = one.runs[0].store.record()
    name = f"{benchmark_label(record.benchmark)} {record.edition}"
    return {"name": name, "tasks": [[one_line(task, 80), label(task)] for task in tasks], "samples": samples}


def _run_json(run: _Run, name: str, place: int, own: _Set, position: Mapping[str, int], beside: Path | None) -> JsonObject:
    """Return what one run answered, in the order of what was asked; null where it was not asked."""
    judgements, scores = run.store.judgements(), run.store.scores()
    verdict = verdict_name(scores)
    by_sample: dict[str, list[Score]] = {}
    for score in scores:
        by_sample.setdefault(score.sample_id, []).append(score)
    picture = _picture(run.store, position, beside)
    results: list[Json] = [
        result_json(sample, run.outputs.get(key), judgements.get(key), by_sample.get(key, []), verdict, picture)
        if key in run.samples
        else None
        for key, sample in own.samples.items()
    ]
    mark = status(run.store.record()).mark
    return {"name": name, "mark": mark, "set": place, "files": _folder(run.store, beside), "results": results}


def _picture(store: Store, position: Mapping[str, int], beside: Path | None) -> Callable[[str], JsonObject]:
    """Return how to say where a picture is: its place in the file and, where files are linked, its name in the run's folder."""
    linked = bool(_folder(store, beside))

    def where(sha: str) -> JsonObject:
        path = store.image_path(sha)
        found: JsonObject = {"src": position.get(sha, -1)}
        if linked and path.is_file():
            found["file"] = f"{path.parent.name}/{path.name}"
        return found

    return where


def _folder(store: Store, beside: Path | None) -> str:
    """Return the relative address of a run's pictures; empty where the page's folder and its neighbours do not hold them.

    A longer way round would write the names of folders into the page that are nobody's business.
    """
    if beside is None:
        return ""
    here, there = beside.resolve(), (store.path / "images").resolve()
    above = here.parent if here.parent != here.parent.parent else here
    for base, prefix in ((here, ""), (above, "../")):
        if there.is_relative_to(base):
            return prefix + quote(there.relative_to(base).as_posix())
    return ""
