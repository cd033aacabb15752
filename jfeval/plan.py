"""What a run will do, fixed before any model is loaded: which samples, in which batches, with which noise, under which fingerprint."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError, unknown
from jfeval.files import encodable
from jfeval.schema import Edition, ImageJob, ImageRequest, JsonObject, Sample
from jfeval.settings import RunSettings

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive samples that go to the model together."""

    rows: tuple[tuple[int, Sample], ...]
    """Each sample with its position in the benchmark's full list."""
    key: str
    """Names this composition, so that a resumed run can tell whether a stored neighbour came from the same batch."""

    @property
    def size(self) -> int:
        """Images or questions in it."""
        return sum(request_size(sample) for _, sample in self.rows)


def request_size(sample: Sample) -> int:
    """Return how many images or answers a sample asks for."""
    return sample.request.num_images if isinstance(sample.request, ImageRequest) else 1


def image_seed(run_seed: int, sample_id: str, index: int) -> int:
    """Return the seed of one image's own generator, in [0, 2**63): the same whatever the batch, the worker and the limit."""
    digest = hashlib.sha256(f"{run_seed}\0{sample_id}\0{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def image_jobs(rows: Sequence[tuple[int, Sample]], run_seed: int) -> list[ImageJob]:
    """List every image that the samples ask for, in order."""
    return [
        ImageJob(prompt=sample.request.prompt, seed=image_seed(run_seed, sample.id, index), row=row, index=index)
        for row, sample in rows
        if isinstance(sample.request, ImageRequest)
        for index in range(sample.request.num_images)
    ]


def evenly_spread(samples: Sequence[Sample], limit: int | None) -> list[tuple[int, Sample]]:
    """Choose ``limit`` samples, as equally over tasks as they allow and evenly spaced within each, in the benchmark's order.

    Returns:
        Each chosen sample with its position in ``samples``.
    """
    if limit is None or limit >= len(samples):
        return list(enumerate(samples))
    positions: dict[str, list[int]] = {}
    for position, sample in enumerate(samples):
        positions.setdefault(sample.task, []).append(position)
    quota = dict.fromkeys(positions, 0)
    left = limit
    while left:
        for task in positions:
            if left and quota[task] < len(positions[task]):
                quota[task] += 1
                left -= 1
    chosen = [rows[i * len(rows) // quota[task]] for task, rows in positions.items() for i in range(quota[task])]
    return [(position, samples[position]) for position in sorted(chosen)]


def plan_batches(rows: Sequence[tuple[int, Sample]], batch_size: int) -> list[Batch]:
    """Cut samples, in order, into batches of at most ``batch_size`` images or questions (at least one sample each)."""
    batches: list[list[tuple[int, Sample]]] = []
    room = 0
    kind: type | None = None
    for row, sample in rows:
        size = request_size(sample)
        if not batches or size > room or type(sample.request) is not kind:
            batches.append([])
            room = batch_size
        batches[-1].append((row, sample))
        room -= size
        kind = type(sample.request)
    return [Batch(rows=tuple(batch), key=digest([sample.id for _, sample in batch])[:16]) for batch in batches]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that is fixed but for its model."""

    settings: RunSettings
    protocol: str
    rows: tuple[tuple[int, Sample], ...]
    """The samples asked for, each with its position in the full list."""
    available: int
    batches: tuple[Batch, ...]
    """Cut from the list of samples alone, so the same for any number of workers; empty while their size is left to a probe."""
    data_identity: JsonObject

    @property
    def edition(self) -> Edition:
        """Which data; `make_plan` checked that the benchmark has it."""
        return self.settings.edition  # pyright: ignore[reportReturnType]

    @property
    def images(self) -> int:
        """How many images or answers it asks for."""
        return sum(request_size(sample) for _, sample in self.rows)

    def with_batch_size(self, batch_size: int) -> "Plan":
        """Return the same plan in batches of another size."""
        return replace(self, settings=replace(self.settings, batch_size=batch_size), batches=tuple(plan_batches(self.rows, batch_size)))

    def inputs(self, model_identity: JsonObject) -> JsonObject:
        """Return everything that can change an output."""
        s = self.settings
        asked: JsonObject = {"benchmark": s.benchmark, "edition": s.edition, "seed": s.seed, "model": s.model}
        if own := settled(s.benchmark_settings):
            asked["benchmark_settings"] = own
        return {**asked, "data_identity": self.data_identity, "model_identity": model_identity}


def settled(settings: Mapping[str, object]) -> JsonObject:
    """Return a benchmark's settings without what is left open and without places on this machine: their content is hashed elsewhere."""
    return {key: value for key, value in settings.items() if value is not None and not isinstance(value, Path)}  # pyright: ignore


def protocols_of(benchmark: "Benchmark", edition: Edition) -> tuple[str, ...]:
    """Return the ways of scoring that an edition has, the default first: the benchmark's, unless its editions differ in them."""
    own = getattr(benchmark, "protocols_of", None)
    return benchmark.protocols if own is None else own(edition)


def make_plan(settings: RunSettings, benchmark: "Benchmark") -> Plan:
    """Fix samples and batches. Loads no model.

    Raises:
        UserError: The benchmark lacks the edition or the protocol, or its data is malformed.
    """
    if settings.edition not in benchmark.editions:
        raise unknown(f"edition of {settings.benchmark}", settings.edition, benchmark.editions)
    edition: Edition = settings.edition  # pyright: ignore[reportAssignmentType]
    protocols = protocols_of(benchmark, edition)
    protocol = settings.protocol or protocols[0]
    if protocol not in protocols:
        raise unknown(f"protocol of {settings.benchmark}", protocol, protocols)
    samples = benchmark.samples(edition, seed=settings.seed, data=settings.data)
    if not samples:
        raise UserError(f"{settings.benchmark} ({edition}) has no samples")
    bad = next((sample.id for sample in samples if sample.id != encodable(sample.id)), None)
    if bad is not None:
        raise UserError(f"{settings.benchmark} ({edition}) has a sample whose id is no text that can be stored: {bad[:80]!a}")
    if len({sample.id for sample in samples}) < len(samples):
        raise UserError(f"{settings.benchmark} ({edition}) has samples with the same id")
    rows = evenly_spread(samples, settings.limit)
    return Plan(
        settings=settings,
        protocol=protocol,
        rows=tuple(rows),
        available=len(samples),
        batches=tuple(plan_batches(rows, settings.batch_size)) if settings.batch_size else (),
        data_identity=benchmark.data_identity(edition, seed=settings.seed, data=settings.data),
    )


def digest(value: object) -> str:
    """Return the sha256 of a JSON value written canonically: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def changed_keys(old: JsonObject, new: JsonObject) -> list[str]:
    """Name what differs between two trees of fingerprint inputs, as ``key: old -> new``, keys dotted and sorted."""
    before, after = _flatten(old), _flatten(new)
    missing = "absent"
    return [
        f"{key}: {_short(before.get(key, missing))} -> {_short(after.get(key, missing))}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, missing) != after.get(key, missing)
    ]


def _flatten(tree: JsonObject, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
