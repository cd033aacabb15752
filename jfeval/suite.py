"""Suites: several benchmarks under stated protocols in one command, each an ordinary run, and one table of measured beside printed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jfeval.errors import unknown
from jfeval.schema import Metric

if TYPE_CHECKING:
    from jfeval.settings import RunSettings
    from jfeval.store import Store


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One benchmark of a suite."""

    benchmark: str
    protocol: str = ""
    """Empty for the benchmark's first."""
    needs: Literal["generate", "answer"] = "generate"
    """What a model must be able to do for it."""
    recipe: Mapping[str, float] = field(default_factory=dict)
    """Settings of a JanusFlow checkpoint that the suite's source states for this benchmark; they hold where a person gives none."""


SUITES: Mapping[str, tuple[Entry, ...]] = {
    "paper": (
        Entry(benchmark="pope", protocol="vlmevalkit-nov2024", needs="answer"),
        Entry(benchmark="mmbench", protocol="vlmevalkit-nov2024", needs="answer"),
        Entry(benchmark="seed", protocol="vlmevalkit-nov2024", needs="answer"),
        Entry(benchmark="gqa", protocol="official", needs="answer"),
        Entry(benchmark="geneval", protocol="official"),
        Entry(benchmark="dpg", protocol="official"),
        Entry(benchmark="mjhq", recipe={"guidance_scale": 2.0, "num_steps": 30}),
    ),
}
"""The seven benchmarks of JanusFlow's tables, with the scorers its authors used as far as known. Source: arXiv 2411.07975, section 4.2;
MJHQ's recipe, the only one that is stated: section 4.3."""
_JANUSFLOW = "janusflow"
"""The model that a recipe is for: a checkpoint. The embedded model is drawn from as its card says."""


def suite(name: str) -> tuple[Entry, ...]:
    """Return a suite's benchmarks.

    Raises:
        UserError: There is no such suite; names those there are.
    """
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]


def settings_of(entry: Entry, settings: "RunSettings") -> "RunSettings":
    """Return the settings of one benchmark's run; with ``out`` given, its folder stands in there under the benchmark's name."""
    out = settings.out / entry.benchmark if settings.out is not None else None
    return replace(settings, benchmark=entry.benchmark, protocol=entry.protocol, out=out)


def recipe_of(entry: Entry, model: str) -> dict[str, float]:
    """Return the settings that a benchmark's entry gives a model, for a person's own to stand above."""
    return dict(entry.recipe) if model == _JANUSFLOW else {}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the closing table."""

    benchmark: str
    metric: str
    protocol: str
    measured: str
    printed: str
    """What papers print for the model that was named; a dash where nothing comparable is."""


def lines(
    stores: "Sequence[Store]", missing: Mapping[str, str], against: str, not_applicable: Mapping[str, str] | None = None
) -> Iterator[Line]:
    """Yield the headline numbers of finished runs beside printed ones, then what could not be run or does not apply, and why.

    Args:
        stores: The finished runs.
        missing: Benchmark to the reason why it was not run.
        against: The model whose printed numbers stand beside; see ``paper_results.csv``.
        not_applicable: Benchmark to the reason why the model is not asked.
    """
    from jfeval.reports.paper import references

    for store in stores:
        record = store.record()
        printed = {
            key: value
            for reference in references(record.benchmark, record.edition, record.protocol)
            if reference.model == against
            for key, value in reference.values.items()
        }
        for metric in store.metrics():
            if metric.headline or metric.paper:
                number = printed.get((metric.name, metric.task))
                quoted = f"{number:.3f}" if number is not None else "-"
                name = f"{metric.name} {metric.task}".strip()
                yield Line(benchmark=record.benchmark, metric=name, protocol=metric.protocol, measured=_measured(metric), printed=quoted)
    for word, reasons in (("not run", missing), ("not applicable", not_applicable or {})):
        for benchmark, reason in reasons.items():
            yield Line(benchmark=benchmark, metric=word, protocol="-", measured="-", printed=reason)


def _measured(metric: Metric) -> str:
    interval = f" [{metric.ci_low:.3f}, {metric.ci_high:.3f}]" if metric.ci_low is not None and metric.ci_high is not None else ""
    return f"{metric.value:.3f}{interval} n={metric.n}"


def folder(settings: "RunSettings", name: str) -> Path:
    """Return where the suite's report goes."""
    return settings.out or Path("runs") / f"suite-{name}"
