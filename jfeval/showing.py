"""What a run, or one sample of it, is: where every number comes from. Lines of plain text, with nothing in them that drives a terminal."""

from collections.abc import Iterator, Mapping

from jfeval.console import clean
from jfeval.errors import unknown
from jfeval.schema import ImageRequest, JsonObject, RunRecord, Sample
from jfeval.store import Store
from jfeval.summary import completeness, heading, interval, label

_LONGEST = 4000
"""Characters of one text that are shown."""


def run_lines(store: Store) -> list[str]:
    """Say what a run was asked, what it is made with, what it cost, and its numbers with both errors."""
    record = store.record()
    rows = [("run", str(store.path)), ("", heading(record)), ("", completeness(record))]
    rows += [("fingerprint", record.fingerprint), ("judge fingerprint", record.judge_fingerprint or "none")]
    rows += [("batch size", str(record.batch_size)), ("limit", str(record.limit or "none"))]
    rows += [("started", record.started_at), ("finished", record.finished_at or "not finished")]
    for name, identity in record.identities.items():
        rows += [(f"{name}.{key}", value) for key, value in _flat(identity)]
    rows += [(f"benchmark settings.{key}", value) for key, value in _flat(record.benchmark_settings)]
    rows += [(key, value) for key, value in _flat(record.provenance) if key != "images"]
    rows += list(_rates(record).items())
    lines = [f"{key:<24} {value}".rstrip() if key else value for key, value in rows]
    for protocol in store.protocols():
        lines += ["", f"protocol {protocol}{' (shown by default)' if protocol == record.protocol else ''}"]
        for metric in store.metrics(protocol):
            errors = [f"{name} {value:.4f}" for name, value in (("se_items", metric.se), ("se_seed", metric.se_seed)) if value is not None]
            words = [label(metric), f"{metric.value:.4f}", f"{interval(metric)} over items", *errors]
            lines.append("  " + "  ".join([*words, f"n={metric.n} clusters={metric.clusters}"]))
    return [clean(line) for line in lines]


def sample_lines(store: Store, sample_id: str) -> list[str]:
    """Say what one sample asked, what came back, what the judge saw, and each verdict with its reason.

    Raises:
        UserError: The run has no such sample.
    """
    sample = next((sample for sample in store.samples() if sample.id == sample_id), None)
    if sample is None:
        raise unknown(f"sample of {store.path}", sample_id, store.sample_ids()[:20])
    output, judgement = store.outputs().get(sample_id), store.judgements().get(sample_id)
    lines = [f"sample {sample.id}   task {sample.task}   cluster {_short(sample.cluster)}", *_asked(sample)]
    lines += [f"reference: {_short(str(sample.reference))}"]
    if output is None:
        return [clean(line) for line in [*lines, "not drawn or answered yet"]]
    lines += [f"error: {output.error}"] if output.error else []
    lines += [f"answer: {_short(output.text)}"] if output.text else []
    lines += [f"image {index}: {store.image_path(sha)}" for index, sha in enumerate(output.images)]
    kept = store.finished().get(sample_id)
    lines.append(
        f"took {output.seconds:.3f} s; {f'batch {kept.batch}' if kept else 'image files are missing: the same run draws it again'}"
    )
    if judgement is not None:
        lines += [f"judge's error: {judgement.error}"] if judgement.error else []
        lines += [f"judge saw in image {index}: {_short(str(seen))}" for index, seen in enumerate(judgement.observations)]
    for protocol in store.protocols():
        for score in (score for score in store.scores(protocol) if score.sample_id == sample_id):
            values = " ".join(f"{name}={value:g}" for name, value in score.values.items())
            reason = f": {_short(score.reason)}" if score.reason else ""
            lines.append(f"{protocol}, image or answer {score.index}: {values}{reason}")
    return [clean(line) for line in lines]


def _asked(sample: Sample) -> list[str]:
    request = sample.request
    if isinstance(request, ImageRequest):
        return [f"prompt ({request.num_images} images): {_short(request.prompt)}"]
    lines = [f"question ({len(request.images)} images): {_short(request.question)}"]
    lines += [f"system: {_short(request.system)}"] if request.system else []
    return lines + [f"option: {_short(option)}" for option in request.options]


def _rates(record: RunRecord) -> dict[str, str]:
    """Return speeds: of one worker while it works, loading left out."""
    facts = record.provenance
    seconds = facts.get("seconds")
    generate = seconds.get("generate") if isinstance(seconds, dict) else None
    images, tokens, token_seconds = facts.get("images"), facts.get("tokens"), facts.get("token_seconds")
    rates: dict[str, str] = {}
    if isinstance(images, int) and images:
        rates["images"] = str(images)
        if isinstance(generate, int | float) and generate:
            rates["images per second"] = f"{images / generate:.3f} a worker"
    if isinstance(tokens, int) and isinstance(token_seconds, int | float) and token_seconds:
        rates["tokens per second"] = f"{tokens / token_seconds:.1f} a worker"
    return rates


def _flat(tree: Mapping[str, object] | JsonObject, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _size(value) if key.endswith("_bytes") and isinstance(value, int) else _short(str(value))


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _short(text: str) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
    return shown.replace("\n", "\n    ")  # so that no text begins a line of its own
