"""The run folder as a place on disk: claimed before anything expensive, begun once, never shared by two different runs."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from jfeval import provenance
from jfeval.engine import ALONE, Engine
from jfeval.errors import DISK_ERRORS, UserError
from jfeval.files import is_part, write_atomically
from jfeval.locks import is_lock, record_held
from jfeval.plan import Plan, changed_keys, digest
from jfeval.schema import Counts, JsonObject, RunRecord
from jfeval.settings import to_yaml
from jfeval.store import Store

_PROBE = ".jfeval-probe"
_OURS = {"run.json", "inputs.json", "samples.jsonl", "settings.yaml", "shards", "images", "kept", "results", "report.html", _PROBE}
_MIN_FREE_BYTES = 16 * 2**20
_KEPT = ("tokens", "token_seconds", "out_of_memory", "peak_memory_bytes", "peak_accelerator_bytes")
"""What a record's provenance keeps of earlier invocations."""
_ADVICE = "Give another --out to keep both, or --overwrite to delete the stored run."


def begin(store: Store, plan: Plan, model_identity: JsonObject, load_seconds: float, engine: Engine = ALONE) -> None:
    """Write what is asked, or check that the folder asks for the same.

    Raises:
        UserError: The folder holds another run; or other shards of this one were given other samples or batches.
    """
    with record_held(store.path):
        _begin(store, plan, model_identity, load_seconds, engine)


def _begin(store: Store, plan: Plan, model_identity: JsonObject, load_seconds: float, engine: Engine) -> None:
    settings, inputs = plan.settings, plan.inputs(model_identity)
    facts = provenance.collect()
    facts |= {"seconds": {"load": round(load_seconds, 3)}, "engine": engine.facts()}
    record = RunRecord(
        name=store.path.resolve().name,
        model=settings.model,
        title=settings.shown,
        benchmark=settings.benchmark,
        edition=settings.edition,  # pyright: ignore[reportArgumentType]
        protocol=plan.protocol,
        seed=settings.seed,
        limit=settings.limit,
        batch_size=settings.batch_size,
        benchmark_settings={key: str(value) if isinstance(value, Path) else value for key, value in settings.benchmark_settings.items()},
        model_identity=model_identity,
        data_identity=plan.data_identity,
        fingerprint=digest(inputs),
        counts=Counts(available=plan.available, asked=len(plan.rows), finished=0, failed=0),
        provenance=facts,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    samples = [sample for _, sample in plan.rows]
    if store.exists():
        check_same(store, inputs)
        before = store.record()
        if engine.part:
            if (before.batch_size, store.sample_ids()) != (settings.batch_size, [sample.id for sample in samples]):
                raise UserError(
                    f"{store.path} holds the same run with another --limit or --batch-size; its shards and stages must agree in both"
                )
            return  # the record is of all of them
        kept = {key: before.provenance[key] for key in _KEPT if key in before.provenance}
        record = replace(record, provenance={**kept, **provenance.add_cost(facts, kept)})
        record = replace(record, started_at=before.started_at, judge_identity=before.judge_identity)
        record = replace(record, judge_fingerprint=before.judge_fingerprint)
        if store.sample_ids() != [sample.id for sample in samples]:
            shutil.rmtree(store.path / "results", ignore_errors=True)  # they are of another selection
    write_atomically(store.path / "settings.yaml", to_yaml(settings).encode())
    store.write_samples(samples)
    store.write_inputs(inputs)
    store.write_record(record)


def check_same(store: Store, inputs: JsonObject, keys: Sequence[str] | None = None, *, advice: str = _ADVICE) -> None:
    """Refuse to mix two runs in one folder.

    Args:
        store: The folder's run.
        inputs: What is asked.
        keys: Compare only these.
        advice: Ends the error: what whoever asked can do.

    Raises:
        UserError: They differ; names the keys.
    """
    before = store.inputs()
    chosen = keys or sorted(before.keys() | inputs.keys())
    changed = changed_keys({k: before.get(k) for k in chosen}, {k: inputs.get(k) for k in chosen})
    if changed:
        listed = "\n  ".join(changed)
        raise UserError(f"{store.path} holds a run with other inputs; stored -> asked:\n  {listed}\n{advice}")


def make_writable(folder: Path) -> None:
    """Make a folder and write a probe into it, before anything expensive.

    Raises:
        UserError: It cannot be written.
    """
    probe = folder / _PROBE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(probe, b"probe" * 1000)
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the output folder {folder}: {error.strerror or error}. Give another --out.") from error


def claim(folder: Path) -> None:
    """Make a run's folder and see that it can be written.

    Raises:
        UserError: It cannot be written, or it holds something that is no run.
    """
    make_writable(folder)
    strangers = sorted(name for path in folder.iterdir() if not _is_ours(name := path.name))
    if strangers and not (folder / "run.json").is_file():
        raise UserError(f"{folder} holds other files ({', '.join(strangers[:3])}) and no run; give an empty or new folder as --out.")


def _is_ours(name: str) -> bool:
    return name in _OURS or is_part(name) or is_lock(name)


def empty(folder: Path) -> None:
    """Delete a run's files, and nothing else, the record first so that a half-deleted run is none."""
    for name in ["run.json", *sorted(_OURS - {"run.json"})]:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete half-written files that a killed process left; the folder's lock is held."""
    for pattern in (".*.part", "images/*/.*.part", "results/*/.*.part"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def check_space(folder: Path, plan: Plan, side: int) -> None:
    """Say before generating that the disk cannot hold the run: a PNG takes about a byte a pixel, and often less."""
    needed = max(_MIN_FREE_BYTES, plan.images * side * side)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 2**20:.0f} MiB free and {plan.images} images may take {needed / 2**20:.0f} MiB. "
            "Free some space, or give another --out."
        )


@contextmanager
def full_disk_explained(store: Store, plan: Plan) -> Iterator[None]:
    """Turn the system's word for a full or read-only disk into what is stored and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        done = len(store.outputs())
        raise UserError(
            f"cannot write to {store.path}: {os.strerror(error.errno or 0)}. {done} of {len(plan.rows)} samples are stored and stay "
            "usable; mend that and run the same command again to continue."
        ) from error
