"""The tables of a report: leaderboards, and a run's tasks."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jfeval.reports.naming import difference_words, differences, model_words, run_names, withheld
from jfeval.reports.paper import references
from jfeval.reports.separation import NOTE, Standings
from jfeval.reports.status import status
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, edition_words, label
from jfeval.schema import ImageRequest, Metric, RunRecord
from jfeval.store import Store

NOT_RANKED = ("prompt_any",)
"""Numbers that a leaderboard leaves to the task table: they grow with the number of tries and do not rank models."""

_SIZED = re.compile(r"(.+)_([0-9]+k?)(_corrected)?")
"""A distance that depends on how many images it is of and is named for them, such as ``fid_30k``."""
_LAST = 1_000_000
_SAME = 5e-4


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs whose numbers may stand in one column."""

    benchmark: str
    edition: str
    protocol: str
    complete: bool
    runs: tuple[Store, ...]
    number: str = ""
    """The headline number, where runs under this protocol have different ones, as FID-10k and FID-30k; empty where they agree."""

    @property
    def title(self) -> str:
        """Name the group in a few words."""
        number = f", {label(self.number)}" if self.number else ""
        whole = "" if self.complete else ", incomplete runs (not to be ranked)"
        return f"{benchmark_label(self.benchmark)}, {self.edition} edition, protocol {self.protocol}{number}{whole}"

    @property
    def primary(self) -> bool:
        """True where the protocol is the one that at least one of the runs asked for; others were scored beside it."""
        return any(run.record().protocol == self.protocol for run in self.runs)

    @property
    def draws(self) -> bool:
        """True for a benchmark of drawing, false for one of understanding."""
        return draws(self.runs[0])

    @property
    def words(self) -> str:
        """Say what the edition's numbers may be compared with."""
        return edition_words(self.edition, self.benchmark)


def draws(store: Store) -> bool:
    """Tell whether a run asked for pictures, not for answers."""
    return any(isinstance(sample.request, ImageRequest) for sample in store.samples()[:1])


def group_runs(stores: Sequence[Store]) -> list[Group]:
    """Put runs together only where benchmark, edition, protocol, wholeness and headline number agree; complete runs come first.

    Within a group the best headline number comes first; ties go by model, seed, fingerprint and folder name.
    So the order of `stores` is of no account.
    """
    found: dict[tuple[str, str, str, bool], list[Store]] = {}
    for store in stores:
        record = store.record()
        for protocol in store.protocols() or [record.protocol]:
            found.setdefault((record.benchmark, record.edition, protocol, status(record).complete), []).append(store)
    groups = []
    for (benchmark, edition, protocol, complete), runs in sorted(found.items(), key=lambda item: (*item[0][:3], not item[0][3])):
        alike = _by_headline(runs, protocol)
        for number, own in alike.items():
            ordered = tuple(sorted(own, key=lambda run: _rank(run, protocol)))
            apart = number if len(alike) > 1 else ""
            groups.append(Group(benchmark=benchmark, edition=edition, protocol=protocol, complete=complete, runs=ordered, number=apart))
    return groups


def leaderboard(stores: Sequence[Store]) -> list[Table]:
    """Return one table per benchmark, edition, protocol and wholeness, one row per run."""
    return [leaderboard_table(group) for group in group_runs(stores)]


def leaderboard_table(group: Group) -> Table:
    """Return a group's leaderboard: the headline number, each task, then the other numbers over all tasks.

    Below the runs of a benchmark's official edition stand the numbers that papers print, marked as such.
    """
    metrics = [run.metrics(group.protocol) for run in group.runs]
    keys = list(dict.fromkeys((m.name, m.task) for m in sorted((m for one in metrics for m in one), key=_column_order)))
    main = _board_metric([m for one in metrics for m in one])
    keys = [key for key in keys if (key[0] == main if key[1] else key[0] not in NOT_RANKED)]
    first = {key: next(m for one in metrics for m in one if (m.name, m.task) == key) for key in keys}
    columns = [Column(key="model", label="model"), Column(key="seed", label="seed", kind="count", aside=True)]
    columns += [Column(key=_column_key(m), label=label(m.task or m.name), kind="metric", detail=_column_detail(m)) for m in first.values()]
    columns += [Column(key="prompts", label="prompts", kind="count", aside=True), Column(key="edition", label="edition", aside=True)]
    columns += [Column(key="protocol", label="protocol", aside=True)]
    differing = differences([run.record() for run in group.runs])
    columns += [Column(key="differs", label="differs in", aside=True)] if differing else []
    rows = []
    found = [{(m.name, m.task): m for m in own} for own in metrics]
    ranked = [group.complete and not withheld(run.record()) for run in group.runs]
    compare = Standings(group.runs, group.protocol, ranked)
    standings = {key: compare.of([own.get(key) for own in found]) for key in keys}
    for i, (run, own) in enumerate(zip(group.runs, found, strict=True)):
        record = run.record()
        cells = [Cell(value=model_words(record), mark=status(record).mark), Cell(value=record.seed)]
        cells += [replace(metric_cell(own.get(key)), standing=standings[key][i]) for key in keys]
        cells += [Cell(value=_finished(record)), Cell(value=record.edition), Cell(value=group.protocol)]
        cells += [Cell(value=difference_words(record, differing))] if differing else []
        rows.append(tuple(cells))
    chances = {key: chance for key in keys if (chance := _shared_chance(key, metrics)) is not None}
    if chances:
        cells = [Cell(value="guessing", mark="chance, computed from the rows"), Cell(), *(Cell(value=chances.get(key)) for key in keys)]
        rows.append((*cells, *(Cell() for _ in columns[len(cells) :])))
    printed = references(group.benchmark, group.edition, group.protocol) if group.complete else []
    quoted = [(one, {key: one.values[key] for key in keys if key in one.values}) for one in printed]
    quoted = [(one, values) for one, values in quoted if values]
    for one, values in quoted:
        cells = [Cell(value=one.model, mark=f"printed: {one.source}"), Cell()]
        cells += [*(Cell(value=values.get(key)) for key in keys), Cell(), Cell(value=group.edition), Cell(value=group.protocol)]
        rows.append((*cells, *(Cell() for _ in columns[len(cells) :])))
    notes = [f"{group.words}.", "Brackets: 95 % interval over prompts."]
    notes += [NOTE] if any(any(standing) for standing in standings.values()) else []
    notes += ["Rows marked as printed are quoted from papers, not measured here; their recipes are often unknown."] if quoted else []
    notes += [] if group.complete else ["These runs are limited, partial or failed: their numbers are not the benchmark's."]
    return Table(title=group.title, columns=tuple(columns), rows=tuple(rows), notes=tuple(notes))


def task_table(store: Store, protocol: str | None = None, *, name: str = "") -> Table:
    """Return a run's numbers: one row per task, then the numbers over all tasks.

    Args:
        store: The run.
        protocol: Which protocol's numbers; None takes the run's own.
        name: Names the run; empty for its model and seed.
    """
    record = store.record()
    protocol = protocol or record.protocol
    metrics = store.metrics(protocol)
    main = main_metrics(metrics)
    more = list(dict.fromkeys(m.name for m in metrics if m.task and m is not main[m.task]))
    by_key = {(m.name, m.task): m for m in metrics}
    over_all = sorted((m for m in metrics if not m.task), key=_column_order)
    score = Column(key="score", label="score", kind="metric", detail="Value of the row, with its 95 % interval over prompts.")
    columns = [Column(key="task", label="task"), score]
    columns += [Column(key=name, label=label(name), kind="metric", detail=_detail(metrics, name)) for name in more]
    guessed = any(metric.chance is not None for metric in metrics)
    columns += [Column(key="chance", label="chance", kind="number", detail="What guessing scores on the same rows.")] if guessed else []
    columns += [
        Column(key="n", label="n", kind="count", detail="Images or answers scored."),
        Column(key="clusters", label="prompts", kind="count"),
    ]
    rows = []
    for task, own in main.items():
        beside = [None if name == own.name else by_key.get((name, task)) for name in more]
        rows.append(_task_row(_task_label(own), own, beside, guessed=guessed))
    totals = []
    for metric in over_all:
        if metric.name in more and any(m.headline for m in over_all):
            continue
        beside = [by_key.get((name, "")) if metric.headline else None for name in more]
        totals.append(len(rows))
        rows.append(_task_row(label(metric.name), metric, beside, guessed=guessed))
    mark = status(record).mark
    title = f"{benchmark_label(record.benchmark)}, {record.edition} edition, protocol {protocol}: {name or run_names([record])[0]}"
    notes = [f"{label(m.name)}: {m.detail}" for m in over_all if m.detail]
    notes += [
        f"{label(name)} is of a task's images alone: another number than one of all images, with a larger bias. Not to be read beside it."
        for name in more
        if name in _of_other_sizes(metrics)
    ]
    notes += [f"To hold against the paper: {_task_label(m)}. {m.paper}" for m in metrics if m.paper and record.edition == "official"]
    notes = [*([f"Not a full run: {mark}."] if mark else []), *notes, "Brackets: 95 % interval over prompts."]
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), notes=tuple(notes), totals=tuple(totals))


def main_metrics(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """Return by task the metric that it is quoted by: ``task`` where there is one, else the first that may stand beside all tasks'."""
    found: dict[str, Metric] = {}
    apart = _of_other_sizes(metrics)
    for metric in metrics:
        if metric.task and metric.name not in apart and (metric.task not in found or metric.name == "task"):
            found[metric.task] = metric
    return found


def _board_metric(metrics: Sequence[Metric]) -> str:
    """Return the name of the metric whose tasks stand in a leaderboard; see `main_metrics`."""
    names = [metric.name for metric in main_metrics(metrics).values()]
    return "task" if "task" in names or not names else names[0]


def _of_other_sizes(metrics: Sequence[Metric]) -> set[str]:
    """Name the tasks' distances that are of another number of images than the same distance over all tasks, as FID-3k beside FID-30k.

    They never stand in one column, nor in a ranking.
    """
    whole: dict[str, set[str]] = defaultdict(set)
    for metric in metrics:
        if not metric.task and (found := _SIZED.fullmatch(metric.name)):
            whole[found[1]].add(found[2])
    sized = {metric.name: found for metric in metrics if metric.task and (found := _SIZED.fullmatch(metric.name))}
    return {name for name, found in sized.items() if found[1] in whole and found[2] not in whole[found[1]]}


def _column_order(metric: Metric) -> int:
    """Order columns: the headline first, tasks next, other numbers last."""
    return 0 if metric.headline else 1 if metric.task else 2


def _task_label(metric: Metric) -> str:
    """Name a number of a task: by the task alone where that is its usual number, else with the number's own name."""
    return label(metric.name) if not metric.task else label(metric.task if metric.name == "task" else f"{metric.task}, {metric.name}")


def _column_detail(metric: Metric) -> str:
    """Say what a column is, and of which metric a task's number is where its heading names the task alone."""
    named = f"{label(metric.name)}: " if metric.task and metric.name != "task" else ""
    return f"{named}{metric.detail}" + (" Lower is better." if metric.better == "lower" else "")


def _column_key(metric: Metric) -> str:
    """Name a metric's column for machines."""
    return f"{metric.name}.{metric.task}" if metric.task else metric.name


def metric_cell(metric: Metric | None) -> Cell:
    """Turn a metric into a cell; a missing one is an empty cell."""
    if metric is None:
        return Cell()
    return Cell(value=float(metric.value), low=metric.ci_low, high=metric.ci_high, n=metric.n)


def _task_row(name: str, metric: Metric | None, more: Sequence[Metric | None], *, guessed: bool) -> tuple[Cell, ...]:
    """Build one row of a task table."""
    n, clusters = (metric.n, metric.clusters) if metric else (None, None)
    chance = [Cell(value=metric.chance if metric else None)] if guessed else []
    return (Cell(value=name), metric_cell(metric), *(metric_cell(m) for m in more), *chance, Cell(value=n), Cell(value=clusters))


def _shared_chance(key: tuple[str, str], metrics: Sequence[Sequence[Metric]]) -> float | None:
    """Return what guessing scores where that is the same for all runs of a group, to the digits shown."""
    found = [m.chance for one in metrics for m in one if (m.name, m.task) == key and m.chance is not None]
    return found[0] if found and max(found) - min(found) < _SAME else None


def _detail(metrics: Sequence[Metric], name: str) -> str:
    """Return what the metrics of a name say about themselves."""
    return next((metric.detail for metric in metrics if metric.name == name and metric.detail), "")


def _finished(record: RunRecord) -> int:
    """Return how many prompts a run has answered."""
    return record.counts.finished


def _by_headline(runs: Sequence[Store], protocol: str) -> Mapping[str, Sequence[Store]]:
    """Sort runs by the name of their headline number; those that have none stand with the first."""
    found: dict[str, list[Store]] = defaultdict(list)
    for run in runs:
        found[next((metric.name for metric in run.metrics(protocol) if metric.headline), "")].append(run)
    nameless = found.pop("", []) if len(found) > 1 else []
    named = dict(sorted(found.items()))
    next(iter(named.values())).extend(nameless)
    return named


def _rank(store: Store, protocol: str) -> tuple[float, str, int, str, str]:
    """Order runs within a group."""
    record = store.record()
    found = next((metric for metric in store.metrics(protocol) if metric.headline), None)
    value = _LAST if found is None else found.value if found.better == "lower" else -found.value
    return (value, model_words(record), record.seed, record.fingerprint, record.name)
