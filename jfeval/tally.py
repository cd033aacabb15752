"""Counting what a run holds: finished, failed and why."""

from collections.abc import Mapping
from dataclasses import replace

from jfeval import provenance
from jfeval.asking import Drawn
from jfeval.locks import record_held
from jfeval.schema import Json, JsonObject, RunRecord
from jfeval.store import Store


class Spent:
    """What batches have cost since the record was last written."""

    def __init__(self) -> None:
        self.cost: JsonObject = {}
        self.halved: list[tuple[int, int]] = []

    def add(self, drawn: Drawn) -> None:
        """Count one more batch."""
        self.cost = provenance.add_cost(self.cost, drawn.cost)
        self.halved += drawn.halved


def update_counts(store: Store, *, protocol: str | None = None, spent: Spent | None = None) -> RunRecord:
    """Count what is stored and write that, with times and memory, into the record."""
    with record_held(store.path):
        return _update_counts(store, protocol, spent or Spent())


def _update_counts(store: Store, protocol: str | None, spent: Spent) -> RunRecord:
    record, outputs, asked = store.record(), store.output_facts(), store.sample_ids()
    judgements = store.judgement_errors() if record.judge_fingerprint else {}
    errors = _errors(asked, outputs, judgements)
    drawn = [i for i in asked if i in outputs and not outputs[i][0]]
    finished = sum(1 for i in drawn if i not in errors and (not record.judge_fingerprint or i in judgements))
    seconds = {stage: round(value, 3) for stage, value in store.stage_seconds().items()}
    facts = provenance.add_cost(provenance.add_cost(record.provenance, spent.cost), provenance.cost(0, 0.0))
    facts |= {"seconds": {**stored_seconds(record), **seconds}, "images": sum(outputs[i][1] for i in drawn)}
    if spent.halved:
        known = facts.get("out_of_memory")
        facts["out_of_memory"] = [*(known if isinstance(known, list) else []), *({"tried": a, "then": b} for a, b in spent.halved)]
    judged = sum(outputs[i][1] for i in drawn if i in judgements and not judgements[i])
    if judged and seconds.get("judge"):
        facts["judged_images_per_second"] = round(judged / seconds["judge"], 3)
    counts = replace(record.counts, asked=len(asked), finished=finished, failed=len(errors))
    record = replace(record, counts=counts, provenance=facts, protocol=protocol or record.protocol)
    store.write_record(record)
    return record


def stored_seconds(record: RunRecord) -> dict[str, Json]:
    """Return the record's wall time by stage."""
    seconds = record.provenance.get("seconds")
    return dict(seconds) if isinstance(seconds, dict) else {}


def failure_summary(store: Store, *, shown: int = 5) -> str:
    """Say which samples failed and why, the first few of them."""
    errors = failures(store)
    lines = [f"  {sample_id}: {reason}" for sample_id, reason in list(errors.items())[:shown]]
    more = [f"  and {len(errors) - shown} more"] if len(errors) > shown else []
    return "\n".join([f"{len(errors)} of {len(store.sample_ids())} samples failed:", *lines, *more])


def failures(store: Store) -> dict[str, str]:
    """Return why each failed sample failed, in the samples' order."""
    judgements = store.judgement_errors() if store.record().judge_fingerprint else {}
    return _errors(store.sample_ids(), store.output_facts(), judgements)


def _errors(asked: list[str], outputs: Mapping[str, tuple[str, int]], judgements: Mapping[str, str]) -> dict[str, str]:
    """Return why each failed sample failed, in the samples' order."""
    reasons = ((sample_id, outputs.get(sample_id, ("", 0))[0] or judgements.get(sample_id, "")) for sample_id in asked)
    return {sample_id: reason for sample_id, reason in reasons if reason}
