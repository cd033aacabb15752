"""The leaderboard in other forms than HTML, from the same tables: text, CSV, Markdown, Parquet, and a model card's ``model-index``."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import yaml

from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.reports import build
from jfeval.reports.overview import overview
from jfeval.reports.status import status
from jfeval.reports.tables import draws, group_runs, leaderboard
from jfeval.reports.text import benchmark_label, one_line
from jfeval.schema import Metric, RunRecord
from jfeval.store import Store

Format: TypeAlias = Literal["html", "table", "csv", "markdown", "parquet", "model-index"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".html": "html",
    ".txt": "table",
    ".csv": "csv",
    ".md": "markdown",
    ".parquet": "parquet",
    ".yaml": "model-index",
}
"""What a file's name says about its form."""


def format_of(path: Path) -> Format:
    """Read the form off a file's name.

    Raises:
        UserError: The name says nothing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"what form should {path} have? Name it {', '.join('*' + s for s in SUFFIXES)}, or give --format.")
    return SUFFIXES[path.suffix.lower()]


def export(stores: Sequence[Store], out: Path, form: Format) -> Path:
    """Write runs in a form; return the file's path.

    Raises:
        UserError: There is no run, the file cannot be written, or no run may be quoted in a model card.
    """
    if form == "html":
        return build.write_report(stores, out)
    if not stores:
        raise UserError("no run to report on; name at least one run folder, for example `jfeval report runs/*`.")
    try:
        write_atomically(out, _content(stores, form))
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror or error}; name another file with --out.") from error
    return out


def _content(stores: Sequence[Store], form: Format) -> bytes:
    """Return the file's bytes."""
    tables = leaderboard(stores)
    if form == "model-index":
        return yaml.safe_dump(model_index(stores), sort_keys=False, allow_unicode=True, width=120).encode()
    if form == "parquet":
        import pandas as pd

        frames = [table.to_frame() for table in tables]
        whole = pd.concat([frame.assign(table=table.title) for frame, table in zip(frames, tables, strict=True)], ignore_index=True)
        buffer = io.BytesIO()
        whole.to_parquet(buffer, index=False)
        return buffer.getvalue()
    forms = {"csv": lambda t: t.to_csv(), "markdown": lambda t: t.to_markdown(), "table": lambda t: t.to_text() + "\n"}
    shown = tables if form == "csv" else [*overview(stores), *tables]
    return "\n".join(forms[form](table) for table in shown).encode()


def model_index(stores: Sequence[Store]) -> dict[str, Any]:
    """Return the ``model-index`` of a Hugging Face model card: the headline number and the tasks of every full run.

    A run that is limited, partial or failed is left out: a card has no place for the warning that belongs to it.

    Raises:
        UserError: No run is left.

    Source: Hugging Face Hub documentation, "Model Cards", section on evaluation results.
    """
    by_model: dict[str, list[dict[str, Any]]] = {}
    for group in group_runs(stores):
        for run in group.runs:
            record = run.record()
            if status(record).complete:
                result = _result(record, run.metrics(group.protocol), group.protocol, drawn=draws(run))
                by_model.setdefault(one_line(record.shown, 200), []).append(result)
    if not by_model:
        raise UserError("none of these runs is whole, and a model card must not quote limited, partial or failed runs")
    return {"model-index": [{"name": name, "results": results} for name, results in by_model.items()]}


def _result(record: RunRecord, metrics: Sequence[Metric], protocol: str, *, drawn: bool) -> dict[str, Any]:
    """Return one entry of a model's results."""
    dataset = {
        "name": f"{benchmark_label(record.benchmark)} ({record.edition})",
        "type": f"{record.benchmark}-{record.edition}",
        "args": {"protocol": protocol, "seed": record.seed, "fingerprint": record.fingerprint},
    }
    shown = [metric for metric in metrics if metric.headline or metric.name == "task"]
    return {
        "task": {"type": "text-to-image" if drawn else "visual-question-answering"},
        "dataset": dataset,
        "metrics": [_quoted(metric) for metric in shown],
    }


def _quoted(metric: Metric) -> dict[str, Any]:
    """Return a metric as a card quotes it."""
    entry: dict[str, Any] = {"type": metric.name, "name": metric.task or metric.name, "value": round(float(metric.value), 6)}
    if metric.ci_low is not None and metric.ci_high is not None:
        entry["args"] = {"confidence_interval_95": [round(metric.ci_low, 6), round(metric.ci_high, 6)], "n": metric.n}
    return entry
