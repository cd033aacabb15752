"""An ablation as it is written down before it runs, and its results as rows of a CSV file that grows.

The YAML says which variants there are, how they are evaluated, and what is claimed, with metric, direction and margin. Results are rows
``variant, seed, digest, step, metric, value ...``; a digest covers every setting of the training and its evaluation, so rows that are in
the file need not be made again, on any machine.
"""

import csv
import hashlib
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from jfeval.errors import UserError, unknown
from jfeval.files import write_atomically
from jfeval.registry import benchmark_settings, list_benchmarks, load_benchmark
from jfeval.settings import resolve


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One benchmark that every variant is evaluated on."""

    benchmark: str
    limit: int | None = None
    """Samples, spread evenly over tasks; None for all."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the benchmark."""
    needs: Literal["generation", "understanding"] = "generation"
    """The task; a variant that was not trained on it is not asked."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """By how much ``better`` is ahead of ``than`` in one metric is expected to exceed a threshold."""

    metric: str
    """``benchmark.metric``."""
    better: str
    than: str
    lower: bool = False
    """Whether lower numbers are better. What is compared is then ``than`` minus ``better``, in the metric's unit as the margin is."""

    @property
    def pair(self) -> tuple[str, str]:
        """Return the variants in the order in which a positive difference speaks for the claim."""
        return (self.than, self.better) if self.lower else (self.better, self.than)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is claimed before anything was run."""

    name: str
    text: str
    kind: Literal["superiority", "non-inferiority"]
    margin: float
    """Superiority: the difference exceeds it. Non-inferiority: the difference exceeds its negative."""
    comparisons: tuple[Comparison, ...]
    """All must hold. Those of one metric are controls of one another: none is refuted before all of them agree."""

    def __post_init__(self) -> None:
        """Refuse a margin that makes no claim."""
        object.__setattr__(self, "comparisons", tuple(_as(Comparison, each) for each in self.comparisons))
        if self.margin < 0 or (self.kind == "non-inferiority" and self.margin == 0):
            raise ValueError(f"claim {self.name!r}: the margin must be positive (or 0 for superiority), not {self.margin}")
        if not self.comparisons:
            raise ValueError(f"claim {self.name!r} compares nothing")

    @property
    def threshold(self) -> float:
        """Return what the mean difference must exceed."""
        return self.margin if self.kind == "superiority" else -self.margin


@dataclass(frozen=True, kw_only=True)
class AblationSpec:
    """One ablation."""

    title: str = "Ablation"
    recipe: str = ""
    """Recipe of the base, relative to the YAML file."""
    variants: dict[str, str] = field(default_factory=dict)
    """Name to the variant's YAML file, relative to this one."""
    base: str = "F"
    """The variant that the others are compared with."""
    final: str = "stage2"
    """The stage whose model is evaluated."""
    edition: str = "shapes"
    prompts_seed: int = 0
    """Draws the prompts and the noise of every evaluation. All trainings see the same, so that seeds and prompts are crossed."""
    sampler: dict[str, Any] = field(default_factory=dict)
    """How pictures are drawn; `SamplerSettings`."""
    evaluate: tuple[Evaluation, ...] = ()
    curve: tuple[Evaluation, ...] = ()
    """What is evaluated during the final stage, every ``loop.evaluate_every`` updates."""
    claims: tuple[Claim, ...] = ()
    results: str = ""
    """CSV file of committed results, relative to the YAML file; read, and written only where asked for by name."""
    machine: str = ""
    """What the following seconds are of, in words."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What each part of the base takes there, and ``evaluation``, for the time that is said at the start; see `reckon`."""

    def __post_init__(self) -> None:
        """Refuse what refers to nothing."""
        for name, cls in (("evaluate", Evaluation), ("curve", Evaluation), ("claims", Claim)):
            object.__setattr__(self, name, tuple(_as(cls, each) for each in getattr(self, name)))
        if not self.recipe or not self.variants:
            raise UserError("an ablation needs a recipe and variants")
        if self.base not in self.variants:
            raise unknown("base variant", self.base, self.variants)
        for asked in (*self.evaluate, *self.curve):
            benchmark_settings(asked.benchmark, asked.settings)
        for claim in self.claims:
            for each in claim.comparisons:
                for variant in (each.better, each.than):
                    if variant not in self.variants:
                        raise unknown(f"variant in claim {claim.name!r}", variant, self.variants)
                if trained_on_captions(each.metric, self.edition):
                    raise UserError(
                        f"claim {claim.name!r} compares {each.metric}, which is by weights that were trained on captions; variants may "
                        "read through them or align to them, so no verdict can rest on it. Compare a number that an oracle or an "
                        "untrained network gives"
                    )


def trained_on_captions(metric: str, edition: str) -> bool:
    """Tell whether weights that learned from captions have a part in ``benchmark.metric``; variants may read through or align to such."""
    benchmark, _, name = metric.partition(".")
    if benchmark not in list_benchmarks():
        return False
    declared: Mapping[str, Collection[str]] = getattr(load_benchmark(benchmark), "trained_on_captions", {})
    return name in declared.get(edition, ())


def _as(cls: type, value: Any) -> Any:  # noqa: ANN401 - the class's instance
    """Build a dataclass from a mapping, which is what YAML gives inside lists."""
    if not isinstance(value, Mapping):
        return value
    names = [item.name for item in fields(cls)]
    for key in value:
        if key not in names:
            raise unknown(f"key of {cls.__name__.lower()}", str(key), names)
    try:
        return cls(**value)
    except TypeError as error:
        raise UserError(f"{cls.__name__.lower()}: {error}") from error


def read_spec(file: Path) -> AblationSpec:
    """Read an ablation's YAML.

    Raises:
        UserError: The file is missing, is no YAML, has an unknown key, or names a variant that it does not list.
    """
    spec = resolve(AblationSpec, file=file)
    missing = [name for name, path in spec.variants.items() if not (file.parent / path).is_file()]
    if missing:
        raise UserError(f"{file}: the YAML files of the variants {', '.join(missing)} do not exist")
    return spec


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of one training."""

    variant: str
    seed: int
    digest: str
    step: int
    """Updates done in the final stage."""
    final: bool
    """Whether the training was finished; otherwise the row is a point of its learning curve."""
    metric: str
    value: float
    updates: int = 0
    """Over all stages, as the following."""
    understanding_samples: int = 0
    generation_samples: int = 0
    text_samples: int = 0
    operations: float = 0.0
    """Estimated floating-point operations."""
    seconds: float = 0.0
    """Wall time of training, on whatever machine it was."""
    edition: str = ""
    """Whose prompts and questions it was evaluated on."""
    version: str = ""
    """Of jfeval, with the commit that the code was at."""
    items: str = ""
    """Where the metric is a mean over prompts: how many outputs each prompt has, a colon, and a digit for each prompt in order, the right
    ones among them; see `item_values`."""

    @property
    def quoted(self) -> bool:
        """Whether the metric is one by which its benchmark is quoted."""
        return self.metric.rpartition(".")[2] in ("overall", "accuracy", "pooled_accuracy")


def read_rows(file: Path) -> list[Row]:
    """Read results; none where there is no file.

    Raises:
        UserError: A line is not of the form; names it.
    """
    if not file.is_file():
        return []
    kinds = {item.name: item.type for item in fields(Row)}
    rows = []
    with file.open(encoding="utf-8", newline="") as handle:
        for number, raw in enumerate(csv.DictReader(handle), 2):
            try:
                rows.append(Row(**{name: _read(raw[name], kind) for name, kind in kinds.items()}))
            except (KeyError, ValueError, TypeError) as error:
                raise UserError(f"{file} line {number} is no row of ablation results: {error}") from error
    return rows


def _read(text: str, kind: object) -> Any:  # noqa: ANN401 - one of the few types of a row
    if kind is bool:
        return {"True": True, "False": False}[text]
    if kind in (int, float, str):
        return kind(text)  # pyright: ignore[reportCallIssue]
    return float(text) if text else None


def append_rows(file: Path, rows: Sequence[Row]) -> None:
    """Add results to a file, which is replaced in one step; a row of the same training, step and metric replaces the old one."""
    kept = {_key(row): row for row in [*read_rows(file), *rows]}
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [item.name for item in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in sorted(kept.values(), key=_key):
        writer.writerow({name: "" if value is None else value for name, value in asdict(row).items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue().encode())


def _key(row: Row) -> tuple[str, int, str, int, bool, str]:
    """Tell rows apart: the end of a learning curve and the final evaluation are of the same update."""
    return row.variant, row.seed, row.digest, row.step, row.final, row.metric


def item_digits(right: Sequence[int], each: int, value: float) -> str:
    """Write what every prompt contributed to a metric; nothing where the metric is no mean over them.

    Args:
        right: Right outputs of each prompt, in order.
        each: Outputs per prompt, 1 to 9.
        value: The metric.

    >>> item_digits([4, 2, 0], 4, 0.5), item_digits([4, 2, 0], 4, 0.6)
    ('4:420', '')
    """
    mean = sum(right) / (each * len(right)) if right and 1 <= each <= 9 else None
    return "" if mean is None or abs(mean - value) > 1e-6 else f"{each}:{''.join(str(n) for n in right)}"


def item_values(items: str) -> list[float]:
    """Read `Row.items` as every prompt's mean.

    >>> item_values("4:420")
    [1.0, 0.5, 0.0]
    """
    each, _, digits = items.partition(":")
    return [int(digit) / int(each) for digit in digits]


def training_digest(training: str, spec: AblationSpec, world: str = "") -> str:
    """Return what identifies one training with its evaluation: 16 hexadecimal digits.

    Args:
        training: Digest of every setting of the variant's recipe, the seed among them.
        spec: Its evaluations and its sampler are part of it; claims are not.
        world: Digest of the rules of the world that the data and the edition follow, where they follow any.
    """
    asked = [[_asked(e) for e in spec.evaluate], [_asked(e) for e in spec.curve], spec.sampler, spec.edition, spec.prompts_seed]
    value = [training, *asked, spec.final, world]
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _asked(evaluation: Evaluation) -> dict[str, Any]:
    """Return what identifies an evaluation; settings came later, and none change nothing."""
    return {key: value for key, value in asdict(evaluation).items() if key != "settings" or value}


@dataclass(frozen=True, kw_only=True)
class Reckoned:
    """How long a sweep takes on the machine that its YAML names."""

    shared: float
    """Seconds of the parts that are made once."""
    trainings: tuple[float, ...]
    """Seconds of each training with its evaluation."""

    def words(self, machine: str) -> str:
        """Say it.

        >>> Reckoned(shared=300, trainings=(420, 480)).words("two quiet cores")
        'about 20 minutes on two quiet cores: 5 for what they share, 7 to 8 for each training'
        """
        shared, total = self.shared / 60, (self.shared + sum(self.trainings)) / 60
        least, most = (round(each(self.trainings) / 60) for each in (min, max))
        each = f"{least} to {most}" if least < most else str(most)
        return f"about {total:.0f} minutes on {machine}: {shared:.0f} for what they share, {each} for each training"


def reckon(
    spec: AblationSpec, stages: Collection[str], *, missing: Collection[str], base: float, trainings: Sequence[tuple[float, float]]
) -> Reckoned | None:
    """Reckon how long a sweep takes from the seconds in its YAML.

    Args:
        spec: The ablation.
        stages: Names of the stages of the base.
        missing: Names of the shared parts that are not made yet.
        base: Floating-point operations of the base's stages.
        trainings: For each training that is to come, those of its stages, and the share of the evaluations that it is asked for.

    Returns:
        None where the YAML gives no seconds, or nothing is to be trained.
    """
    if not spec.seconds or not trainings or not base:
        return None
    staged, asked = sum(spec.seconds.get(name, 0.0) for name in stages), spec.seconds.get("evaluation", 0.0)
    return Reckoned(
        shared=sum(spec.seconds.get(name, 0.0) for name in missing),
        trainings=tuple(staged * operations / base + asked * share for operations, share in trainings),
    )
