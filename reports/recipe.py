"""Every setting behind every number: what the runs of a benchmark share, and where they differ."""

from collections.abc import Mapping, Sequence

from jfeval.reports.naming import run_names, tree
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.text import flatten, label
from jfeval.store import Store

DIFFERS = "differs"


def recipe_tables(stores: Sequence[Store]) -> list[Table]:
    """Return what stands behind the numbers, one column per run: the run, model and recipe, data, judge, provenance.

    With several runs a row whose values differ between them is marked, and so is each value that is not the most frequent one.
    """
    records = [store.record() for store in stores]
    sections: dict[str, list[Mapping[str, str]]] = {"run": [_run_facts(store) for store in stores]}
    for name in dict.fromkeys(key for record in records for key in record.identities):
        sections[name] = [flatten(tree(record.identities.get(name))) for record in records]
    sections["provenance"] = [flatten(record.provenance) for record in records]
    names = run_names(records)
    columns = (Column(key="setting", label="setting"), *(Column(key=f"run{i}", label=name) for i, name in enumerate(names)))
    tables = []
    for name, facts in sections.items():
        keys = dict.fromkeys(key for one in facts for key in one)
        rows = tuple(_row(key, [one.get(key, "–") for one in facts]) for key in keys)
        if rows:
            tables.append(Table(title=label(name), columns=columns, rows=rows))
    return tables


def _row(key: str, values: Sequence[str]) -> tuple[Cell, ...]:
    """Build one setting's row."""
    counts = {value: values.count(value) for value in dict.fromkeys(values)}
    usual = max(counts, key=lambda value: counts[value])
    common = counts[usual] > 1
    cells = [Cell(value=value, mark=DIFFERS if len(counts) > 1 and not (common and value == usual) else "") for value in values]
    return (Cell(value=key, mark=DIFFERS if len(counts) > 1 else ""), *cells)


def _run_facts(store: Store) -> dict[str, str]:
    """Return a run's own settings, its counts and how long it took."""
    record = store.record()
    seconds = [output.seconds for output in store.outputs().values()]
    facts: dict[str, object] = {
        name: getattr(record, name) for name in ("title", "model", "benchmark", "edition", "protocol", "seed", "limit")
    }
    facts |= {"batch_size": record.batch_size, "benchmark settings": record.benchmark_settings}
    counts = record.counts
    facts["prompts"] = {"available": counts.available, "asked": counts.asked, "finished": counts.finished, "failed": counts.failed}
    facts |= {"started_at": record.started_at, "fingerprint": record.fingerprint}
    if sum(seconds) > 0:
        facts["seconds generating"] = f"{sum(seconds):.1f} in all, {sum(seconds) / len(seconds):.3f} a prompt"
    return flatten(facts)
