"""Samples that want a look: those that failed, the slowest, and answers that answer nothing."""

from collections.abc import Sequence

from jfeval.reports.naming import run_names
from jfeval.reports.table import Cell, Column, Table
from jfeval.reports.tables import Group, metric_cell
from jfeval.reports.text import label, one_line
from jfeval.schema import ImageRequest, Sample
from jfeval.store import Store

MOST_FAILED = 100
"""Failed samples that are listed; all are counted."""
MOST_SLOW = 5
"""Slowest samples that are listed of one run."""
MOST_SLOW_IN_ALL = 50
ANSWER_KINDS = ("empty", "refused", "ambiguous", "uninferred")
"""Metrics that count answers from which nothing could be read."""

_ITEM = (Column(key="run", label="run"), Column(key="sample", label="sample"), Column(key="task", label="task"))


def failed_table(runs: Sequence[Store]) -> Table | None:
    """List samples without a result and why; None where every sample asked for has one."""
    rows: list[tuple[Cell, ...]] = []
    unfinished = count = 0
    for run, name in zip(runs, run_names([run.record() for run in runs]), strict=True):
        facts, judged = run.output_facts(), run.judgement_errors()
        errors = {key: error or judged.get(key, "") for key, (error, _) in facts.items()}
        unfinished += run.record().counts.asked - len(facts)
        wanted = {key for key, error in errors.items() if error}
        count += len(wanted)
        if wanted and len(rows) < MOST_FAILED:
            rows += [_item(name, s, Cell(value=one_line(errors[s.id], 300))) for s in run.samples() if s.id in wanted]
    if not rows and not unfinished:
        return None
    notes = [f"{count} failed{f'; the first {MOST_FAILED} are listed' if count > MOST_FAILED else ''}."]
    notes += [f"{unfinished} more are not finished; the same command goes on."] if unfinished else []
    columns = (*_ITEM, Column(key="error", label="error"), Column(key="prompt", label="prompt"))
    return Table(title=f"Failed samples: {count}", columns=columns, rows=tuple(rows[:MOST_FAILED]), notes=tuple(notes))


def slowest_table(runs: Sequence[Store]) -> Table | None:
    """List the samples that took each run longest; None where no time is stored."""
    rows: list[tuple[float, tuple[Cell, ...]]] = []
    for run, name in zip(runs, run_names([run.record() for run in runs]), strict=True):
        seconds = {key: output.seconds for key, output in run.outputs().items() if output.seconds > 0}
        slow = sorted(seconds, key=lambda key: (-seconds[key], key))[:MOST_SLOW]
        by_id = {sample.id: sample for sample in run.samples() if sample.id in slow}
        rows += [(seconds[key], _item(name, by_id[key], Cell(value=round(seconds[key], 4)))) for key in slow if key in by_id]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: -row[0])[:MOST_SLOW_IN_ALL]
    columns = (*_ITEM, Column(key="seconds", label="seconds", kind="number"), Column(key="prompt", label="prompt"))
    notes = (f"The {MOST_SLOW} slowest of each run. Samples of one batch share its time equally, so whole batches may stand here.",)
    return Table(title="Slowest samples", columns=columns, rows=tuple(row for _, row in rows), notes=notes)


def answers_table(group: Group) -> Table | None:
    """Count each run's answers that were empty, refusals, or named no option; None for a benchmark that does not count them."""
    found = [{m.name: m for m in run.metrics(group.protocol) if not m.task and m.name in ANSWER_KINDS} for run in group.runs]
    kinds = [kind for kind in ANSWER_KINDS if any(kind in own for own in found)]
    if not kinds:
        return None
    details = {kind: next(own[kind].detail for own in found if kind in own) for kind in kinds}
    columns = (
        Column(key="run", label="run"),
        *(Column(key=kind, label=label(kind), kind="metric", detail=details[kind]) for kind in kinds),
    )
    names = run_names([run.record() for run in group.runs])
    rows = tuple((Cell(value=name), *(metric_cell(own.get(kind)) for kind in kinds)) for name, own in zip(names, found, strict=True))
    notes = ("Shares of all answers, under the protocol's own reading. Brackets: 95 % interval.",)
    return Table(title=f"Answers that answer nothing: {group.title}", columns=columns, rows=rows, notes=notes)


def _item(run: str, sample: Sample, value: Cell) -> tuple[Cell, ...]:
    """Build a sample's row around one value of its own."""
    request = sample.request
    words = request.prompt if isinstance(request, ImageRequest) else request.question
    return (Cell(value=run), Cell(value=one_line(sample.id, 80)), Cell(value=label(sample.task)), value, Cell(value=one_line(words, 200)))
