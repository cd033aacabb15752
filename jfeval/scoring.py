"""Store -> scores -> metrics: pure rules over what is stored, repeatable under any protocol without the model."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jfeval.errors import UserError, unknown
from jfeval.plan import protocols_of
from jfeval.schema import JsonObject, Judged, Judgement, Metric, Output, Score
from jfeval.store import Store
from jfeval.tally import failures, stored_seconds, update_counts

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark, SetBenchmark


def score(store: Store, benchmark: "Benchmark", *, protocol: str = "") -> list[Metric]:
    """Score every judged sample and store verdicts and numbers under ``results/PROTOCOL``.

    A sample that failed has no score: it lowers the counts and is named, and never enters a mean as wrong.
    An output without a judge is scored as the observation ``{"text": answer}``.

    Args:
        store: A run, whole or not.
        benchmark: The benchmark it is of.
        protocol: Way of scoring; empty for the run's own.

    Raises:
        UserError: An unknown protocol, or nothing to score.
    """
    started = time.perf_counter()
    record = store.record()
    protocol = protocol or record.protocol
    allowed = protocols_of(benchmark, record.edition)
    if protocol not in allowed:
        raise unknown(f"protocol of {record.benchmark}", protocol, allowed)
    scores, metrics = _set_results(store, benchmark, protocol) if hasattr(benchmark, "score_set") else _results(store, benchmark, protocol)
    store.write_results(protocol, scores, metrics)
    record = update_counts(store, protocol=protocol)
    seconds: JsonObject = {**stored_seconds(record), "score": round(time.perf_counter() - started, 3)}
    whole = record.counts.finished + record.counts.failed == record.counts.asked
    finished_at = datetime.now(UTC).isoformat(timespec="seconds") if whole else ""
    store.write_record(replace(record, provenance={**record.provenance, "seconds": seconds}, finished_at=finished_at))
    return metrics


def _results(store: Store, benchmark: "Benchmark", protocol: str) -> tuple[list[Score], list[Metric]]:
    """Score sample by sample, then average."""
    judged = bool(store.record().judge_fingerprint)
    outputs = store.outputs()
    judgements = store.judgements() if judged else {}
    scores: list[Score] = []
    for sample in store.samples():
        output = outputs.get(sample.id)
        if output is None or output.error:
            continue
        judgement = judgements.get(sample.id) if judged else _answer(output)
        if judgement is not None and not judgement.error:
            scores.extend(benchmark.score(sample, judgement, protocol=protocol))
    if not scores:
        raise _nothing(store)
    return scores, benchmark.aggregate(scores, protocol=protocol)


def _set_results(store: Store, benchmark: "Benchmark", protocol: str) -> tuple[list[Score], list[Metric]]:
    """Hand over all that was judged at once, to be read as often as is needed and never held."""
    outputs, errors = store.output_facts(), store.judgement_errors()
    samples = tuple(s for s in store.samples() if s.id in outputs and not outputs[s.id][0] and errors.get(s.id) == "")
    if not samples:
        raise _nothing(store)
    with store.judgement_reader() as read:
        whole: SetBenchmark = benchmark  # pyright: ignore[reportAssignmentType]
        judged = Judged(samples=samples, read=read, judge=store.record().judge_identity, kept=store.kept)
        return whole.score_set(judged, protocol=protocol)


def _nothing(store: Store) -> UserError:
    failed = failures(store)
    if failed:
        sample_id, reason = next(iter(failed.items()))
        number = f"{len(failed)} of {len(store.sample_ids())} samples failed"
        return UserError(f"{number}, the first of them {sample_id}: {reason}. {store.path} has no finished sample to score")
    return UserError(f"{store.path} has no finished sample to score; run `jfeval run` with the same settings first")


def _answer(output: Output) -> Judgement | None:
    """Take an answer as the observation; pictures say nothing before they are judged."""
    return None if output.images else Judgement(sample_id=output.sample_id, observations=({"text": output.text},))
