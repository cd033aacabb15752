"""The tables of a report: leaderboards, a run's tasks, and the recipe and provenance behind every number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jfeval.reports.paper import references
from jfeval.reports.status import status
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import benchmark_label, edition_words, flatten, label
from jfeval.schema import Metric, RunRecord
from jfeval.store import Store

__all__ = ["Cell", "Column", "Group", "Table", "group_runs", "leaderboard", "leaderboard_table", "recipe_tables", "task_table"]

MAX_DIFFERENCES = 6
"""Most settings named in a leaderboard row; the recipe names all."""

NOT_RANKED = ("prompt_any",)
"""Numbers that a leaderboard leaves to the task table: they grow with the number of tries and do not rank models."""

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

    @property
    def title(self) -> str:
        """Name the group in a few words."""
        whole = "" if self.complete else ", incomplete runs (not to be ranked)"
        return f"{benchmark_label(self.benchmark)}, {self.edition} edition, protocol {self.protocol}{whole}"

    @property
    def words(self) -> str:
        """Say what the edition's numbers may be compared with."""
        return edition_words(self.edition, self.benchmark)


def group_runs(stores: Sequence[Store]) -> list[Group]:
    """Put runs together only where benchmark, edition, protocol and wholeness agree; complete runs come first.

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
        ordered = tuple(sorted(runs, key=lambda run: _rank(run, protocol)))
        groups.append(Group(benchmark=benchmark, edition=edition, protocol=protocol, complete=complete, runs=ordered))
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
    main = _task_metric([m for one in metrics for m in one])
    keys = [key for key in keys if (key[0] == main if key[1] else key[0] not in NOT_RANKED)]
    first = {key: next(m for one in metrics for m in one if (m.name, m.task) == key) for key in keys}
    columns = [Column(key="model", label="model"), Column(key="seed", label="seed", kind="count", aside=True)]
    columns += [Column(key=_column_key(m), label=_task_label(m), kind="metric", detail=m.detail) for m in first.values()]
    columns += [Column(key="prompts", label="prompts", kind="count", aside=True), Column(key="edition", label="edition", aside=True)]
    columns += [Column(key="protocol", label="protocol", aside=True)]
    differing = _differences([run.record() for run in group.runs])
    columns += [Column(key="differs", label="differs in", aside=True)] if differing else []
    rows = []
    for run, own in zip(group.runs, metrics, strict=True):
        record = run.record()
        by_key = {(m.name, m.task): m for m in own}
        cells = [Cell(value=model_words(record), mark=status(record).mark), Cell(value=record.seed)]
        cells += [_metric_cell(by_key.get(key)) for key in keys]
        cells += [Cell(value=_finished(record)), Cell(value=record.edition), Cell(value=group.protocol)]
        cells += [Cell(value=_difference_words(record, differing))] if differing else []
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
    notes += ["Rows marked as printed are quoted from papers, not measured here; their recipes are often unknown."] if quoted else []
    notes += [] if group.complete else ["These runs are limited, partial or failed: their numbers are not the benchmark's."]
    return Table(title=group.title, columns=tuple(columns), rows=tuple(rows), notes=tuple(notes))


def task_table(store: Store, protocol: str | None = None) -> Table:
    """Return a run's numbers: one row per task, then the numbers over all tasks.

    Args:
        store: The run.
        protocol: Which protocol's numbers; None takes the run's own.
    """
    record = store.record()
    protocol = protocol or record.protocol
    metrics = store.metrics(protocol)
    main = _task_metric(metrics)
    more = list(dict.fromkeys(m.name for m in metrics if m.task and m.name != main))
    by_key = {(m.name, m.task): m for m in metrics}
    tasks = list(dict.fromkeys(m.task for m in metrics if m.task))
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
    for task in tasks:
        own = by_key.get((main, task))
        words = label(task) if own is None else _task_label(own)
        rows.append(_task_row(words, own, [by_key.get((name, task)) for name in more], guessed=guessed))
    totals = []
    for metric in over_all:
        if metric.name in more and any(m.headline for m in over_all):
            continue
        beside = [by_key.get((name, "")) if metric.headline else None for name in more]
        totals.append(len(rows))
        rows.append(_task_row(label(metric.name), metric, beside, guessed=guessed))
    mark = status(record).mark
    title = f"{benchmark_label(record.benchmark)}, {record.edition} edition, protocol {protocol}: {record.model}, seed {record.seed}"
    notes = [f"{label(m.name)}: {m.detail}" for m in over_all if m.detail]
    notes += [f"To hold against the paper: {_task_label(m)}. {m.paper}" for m in metrics if m.paper and record.edition == "official"]
    notes = [*([f"Not a full run: {mark}."] if mark else []), *notes, "Brackets: 95 % interval over prompts."]
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), notes=tuple(notes), totals=tuple(totals))


def recipe_tables(stores: Sequence[Store]) -> list[Table]:
    """Return what stands behind the numbers, one column per run: the run, model and recipe, data, judge, provenance.

    With several runs a row whose values differ between them is marked.
    """
    records = [store.record() for store in stores]
    sections: dict[str, list[Mapping[str, str]]] = {"run": [_run_facts(store) for store in stores]}
    for name in dict.fromkeys(key for record in records for key in record.identities):
        sections[name] = [flatten(_tree(record.identities.get(name))) for record in records]
    sections["provenance"] = [flatten(record.provenance) for record in records]
    names = [f"{record.model}, seed {record.seed}" for record in records]
    columns = (Column(key="setting", label="setting"), *(Column(key=f"run{i}", label=name) for i, name in enumerate(names)))
    tables = []
    for name, facts in sections.items():
        rows = []
        for key in dict.fromkeys(key for one in facts for key in one):
            values = [one.get(key, "–") for one in facts]
            rows.append((Cell(value=key, mark="differs" if len(set(values)) > 1 else ""), *(Cell(value=value) for value in values)))
        if rows:
            tables.append(Table(title=label(name), columns=columns, rows=tuple(rows)))
    return tables


def _run_facts(store: Store) -> dict[str, str]:
    """Return a run's own settings, its counts and how long it took."""
    record = store.record()
    seconds = [output.seconds for output in store.outputs().values()]
    facts: dict[str, object] = {name: getattr(record, name) for name in ("model", "benchmark", "edition", "protocol", "seed", "limit")}
    counts = record.counts
    facts["prompts"] = {"available": counts.available, "asked": counts.asked, "finished": counts.finished, "failed": counts.failed}
    facts |= {"started_at": record.started_at, "fingerprint": record.fingerprint}
    if sum(seconds) > 0:
        facts["seconds generating"] = f"{sum(seconds):.1f} in all, {sum(seconds) / len(seconds):.3f} a prompt"
    return flatten(facts)


def _tree(value: object) -> Mapping[str, object]:
    """Return an identity as a mapping, whatever it is."""
    return value if isinstance(value, Mapping) else {"identity": value}


def _task_metric(metrics: Sequence[Metric]) -> str:
    """Return the name of the metric that a task is quoted by: ``task`` where there is one, else the first that has a task."""
    names = [metric.name for metric in metrics if metric.task]
    return "task" if "task" in names or not names else names[0]


def _column_order(metric: Metric) -> int:
    """Order columns: the headline first, tasks next, other numbers last."""
    return 0 if metric.headline else 1 if metric.task else 2


def _task_label(metric: Metric) -> str:
    """Name a number of a task: by the task alone where that is its usual number, else with the number's own name."""
    return label(metric.name) if not metric.task else label(metric.task if metric.name == "task" else f"{metric.task}, {metric.name}")


def _column_key(metric: Metric) -> str:
    """Name a metric's column for machines."""
    return f"{metric.name}.{metric.task}" if metric.task else metric.name


def _metric_cell(metric: Metric | None) -> Cell:
    """Turn a metric into a cell; a missing one is an empty cell."""
    if metric is None:
        return Cell()
    return Cell(value=float(metric.value), low=metric.ci_low, high=metric.ci_high, n=metric.n)


def _task_row(name: str, metric: Metric | None, more: Sequence[Metric | None], *, guessed: bool) -> tuple[Cell, ...]:
    """Build one row of a task table."""
    n, clusters = (metric.n, metric.clusters) if metric else (None, None)
    chance = [Cell(value=metric.chance if metric else None)] if guessed else []
    return (Cell(value=name), _metric_cell(metric), *(_metric_cell(m) for m in more), *chance, Cell(value=n), Cell(value=clusters))


def model_words(record: RunRecord) -> str:
    """Name a run's model, and that it was not shown the images where it was not."""
    return f"{record.model}, images withheld" if withheld(record) else record.model


def withheld(record: RunRecord) -> bool:
    """Tell whether a run asked its questions without their images."""
    return record.data_identity.get("images_withheld") is True


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


def _rank(store: Store, protocol: str) -> tuple[float, str, int, str, str]:
    """Order runs within a group."""
    record = store.record()
    headline = next((metric.value for metric in store.metrics(protocol) if metric.headline), -_LAST)
    return (-headline, record.model, record.seed, record.fingerprint, record.name)


def _differences(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the dotted keys of the model's identity in which runs of a group differ, short values only."""
    flats = [flatten(_tree(record.identities.get("model"))) for record in records]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    short = [key for key in keys if all(len(flat.get(key, "")) <= 24 for flat in flats)]
    return tuple(key for key in short if len({flat.get(key) for flat in flats}) > 1)[:MAX_DIFFERENCES]


def _difference_words(record: RunRecord, keys: Sequence[str]) -> str:
    """Say a run's values of the keys in which it differs from others."""
    flat = flatten(_tree(record.identities.get("model")))
    return ", ".join(f"{key.rpartition('.')[2]} {flat[key]}" for key in keys if key in flat)
