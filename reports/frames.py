"""Tidy pandas frames of stored runs: one row per metric, one row per judged image or answer."""

from collections.abc import Sequence

import pandas as pd

from jfeval.reports.status import status
from jfeval.schema import ImageRequest
from jfeval.store import Store

RUN_COLUMNS = ("fingerprint", "title", "model", "benchmark", "edition", "seed", "limit", "status", "complete")
METRIC_COLUMNS = (*RUN_COLUMNS, "protocol", "name", "task", "value", "ci_low", "ci_high", "se", "n", "clusters", "headline", "detail")
SAMPLE_COLUMNS = (*RUN_COLUMNS, "protocol", "sample_id", "task", "cluster", "index", "prompt", "image", "text", "reason", "error")


def metrics_frame(stores: Sequence[Store]) -> pd.DataFrame:
    """Return one row per metric of every run, with `METRIC_COLUMNS`."""
    rows: list[dict[str, object]] = []
    for store in stores:
        run = _run_columns(store)
        for metric in (metric for protocol in store.protocols() for metric in store.metrics(protocol)):
            rows.append({**run, **{name: getattr(metric, name) for name in METRIC_COLUMNS if name not in RUN_COLUMNS}})
    return pd.DataFrame(rows, columns=pd.Index(METRIC_COLUMNS))


def samples_frame(stores: Sequence[Store]) -> pd.DataFrame:
    """Return one row per score of every run, and one per failed sample.

    Columns are `SAMPLE_COLUMNS`, then one per score name, for example ``correct``; a failed sample has no values there.
    """
    rows: list[dict[str, object]] = []
    names: dict[str, None] = {}
    for store in stores:
        run = {**_run_columns(store), "protocol": store.record().protocol}
        outputs = store.outputs()
        scores: dict[str, list[dict[str, object]]] = {}
        for score in store.scores():
            names.update(dict.fromkeys(score.values))
            values: dict[str, object] = {"cluster": score.cluster, "index": score.index, "reason": score.reason}
            values.update(score.values)
            scores.setdefault(score.sample_id, []).append(values)
        for sample in store.samples():
            output = outputs.get(sample.id)
            prompt = sample.request.prompt if isinstance(sample.request, ImageRequest) else sample.request.question
            base = {**run, "sample_id": sample.id, "task": sample.task, "cluster": sample.cluster, "prompt": prompt}
            base |= {"text": output.text if output else "", "error": output.error if output else "not finished"}
            for values in scores.get(sample.id) or ([{}] if base["error"] else []):
                index = values.get("index", 0)
                images = output.images if output else ()
                image = images[index] if isinstance(index, int) and index < len(images) else ""
                rows.append({**base, "image": image, **values})
    return pd.DataFrame(rows, columns=pd.Index([*SAMPLE_COLUMNS, *(name for name in names if name not in SAMPLE_COLUMNS)]))


def _run_columns(store: Store) -> dict[str, object]:
    """Return what every row says about its run."""
    record = store.record()
    whole = status(record)
    named = {name: getattr(record, name) for name in ("fingerprint", "model", "benchmark", "edition", "seed", "limit")}
    named["title"] = record.shown
    return {**named, "status": whole.mark or "complete", "complete": whole.complete}
