"""One run as one file that anyone can judge and score again: what was asked, every output, every observation, the numbers.

::

    manifest.json       the format, and the sha256 of every other member
    run.json            the record; settings that are paths of the writer's machine stay behind
    inputs.json         what the fingerprint hashes
    samples.jsonl       the samples
    outputs.jsonl       what the model returned
    judgements.jsonl    what the judge saw
    images/ab/SHA256.*  the images
    kept/SHA256.*       what scoring reads beside them, such as the features of reference images
    results/PROTOCOL/metrics.json   the writer's numbers, for readers; a reader's own are computed anew
    results/PROTOCOL/scores.jsonl   the writer's verdicts, one image or answer a line, likewise

It is a ZIP archive of fixed dates and order: the same run gives the same bytes. Unpacking trusts nothing: names, sizes and hashes are
checked before anything is written.
"""

import dataclasses
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.schema import Judgement, Metric, Output, Score
from jfeval.shards import Shard
from jfeval.store import Store

FORMAT = "jfeval-bundle-1"
MAX_BYTES = 64 * 2**30
"""Most bytes a bundle may unpack to."""
MAX_TEXT = 2**30
"""Most bytes of one member that is no image."""
MAX_IMAGE = 256 * 2**20
"""Most bytes of an image."""
_DATE = (1980, 1, 1, 0, 0, 0)
_TEXTS = ("run.json", "inputs.json", "samples.jsonl", "outputs.jsonl", "judgements.jsonl")
_KINDS = {"outputs.jsonl": Output, "judgements.jsonl": Judgement}
_IMAGE = re.compile(r"images/([0-9a-f]{2})/(\1[0-9a-f]{62})\.(png|jpg|webp)")
_KEPT = re.compile(r"kept/[0-9a-f]{64}\.(npy|npz|json)")
_RESULT = re.compile(r"results/([A-Za-z0-9][A-Za-z0-9._-]*)/metrics\.json")
_SCORES = re.compile(r"results/[A-Za-z0-9][A-Za-z0-9._-]*/scores\.jsonl")


def pack(store: Store, out: Path, files: Sequence[Path] = ()) -> int:
    """Write a run as one file.

    Args:
        store: A run, whole or not; what it lacks stays lacking.
        out: The file, replaced when it is whole.
        files: What else scoring needs; see `scoring_files`.

    Returns:
        How many images it holds.

    Raises:
        UserError: The run cannot be read, or the file not written, or a member would be larger than `unpack` takes.
    """
    digests: dict[str, str] = {}
    images = 0
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w") as archive:
            for name, data in _members(store, files):
                if len(data) > _most(name):
                    raise UserError(f"{name} of {store.path} has {len(data)} bytes; a bundle's may have {_most(name)}")
                digests[name] = hashlib.sha256(data).hexdigest()
                images += name.startswith("images/")
                _add(archive, name, data)
            _add(archive, "manifest.json", _json({"format": FORMAT, "files": digests}))
        part.replace(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return images


def scoring_files(store: Store) -> tuple[list[Path], list[Path]]:
    """List the files outside a run that scoring it reads: those that are here, and those that are not.

    Raises:
        UserError: The run's record is damaged.
    """
    from jfeval.registry import list_benchmarks, load_benchmark

    record = store.record()
    if record.benchmark not in list_benchmarks():
        return [], []
    needed = getattr(load_benchmark(record.benchmark, **record.benchmark_settings), "files_for", None)
    here: list[Path] = []
    missing: list[Path] = []
    for file in needed(record.judge_identity) if needed else ():
        found = next((one for one in (file, store.path / "kept" / file.name) if one.is_file()), None)
        here += [found] if found else []
        missing += [] if found else [file]
    return here, missing


def unpack(path: Path, folder: Path) -> dict[str, list[Metric]]:
    """Make a run folder of a bundle, ready to be scored and reported.

    Args:
        path: The bundle.
        folder: A folder that is not there or empty.

    Returns:
        The numbers that the bundle states, by protocol. They are not stored: score the folder for your own.

    Raises:
        UserError: It is no bundle, it is damaged, or it is larger than bundles may be; nothing is left behind.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; give a new folder with --out")
    work = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    try:
        with _opened(path) as archive:
            claimed = _unpack(archive, _manifest(archive, path), path, Store(work))
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return claimed


def _unpack(archive: zipfile.ZipFile, digests: dict[str, str], path: Path, store: Store) -> dict[str, list[Metric]]:
    """Write every member into a run folder, and return the numbers that are stated."""
    claimed: dict[str, list[Metric]] = {}
    judged: dict[str, str] = {}
    rows: dict[str, list] = {}
    for name, digest in sorted(digests.items()):
        data = _read(archive, name, digest, path)
        if found := _RESULT.fullmatch(name):
            claimed[found[1]] = _rows(data, Metric, path, name, key="metrics")
        elif _SCORES.fullmatch(name):
            judged |= dict.fromkeys((str(row.sample_id) for row in _rows(data, Score, path, name)), name)
        elif name in _KINDS:
            rows[name] = _rows(data, _KINDS[name], path, name)
        else:
            write_atomically(store.path / name, data, flush=False)
    for sample_id in judged.keys() - set(store.sample_ids()):
        raise UserError(f"{path}: {judged[sample_id]} is damaged (it judges {sample_id[:80]!r}, which is no sample of the run)")
    record = store.record()
    with Shard(store.path, "bundle") as shard:
        shard.add_outputs(record.fingerprint, "bundle", rows["outputs.jsonl"])
        shard.add_judgements(record.judge_fingerprint, ((one, 0.0) for one in rows["judgements.jsonl"]))
    return claimed


def _members(store: Store, files: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield every member but the manifest, in order."""
    yield "inputs.json", (store.path / "inputs.json").read_bytes()
    stated = store.inputs().get("benchmark_settings")  # without places on this machine
    record = dataclasses.replace(store.record(), benchmark_settings=stated if isinstance(stated, dict) else {})
    yield "run.json", _json(dataclasses.asdict(record))
    yield "samples.jsonl", (store.path / "samples.jsonl").read_bytes()
    outputs, judgements = store.outputs(), store.judgements()
    order = store.sample_ids()
    yield "outputs.jsonl", _lines(outputs[one] for one in order if one in outputs)
    yield "judgements.jsonl", _lines(judgements[one] for one in order if one in judgements)
    for protocol in sorted(store.protocols()):
        yield f"results/{protocol}/metrics.json", (store.path / "results" / protocol / "metrics.json").read_bytes()
        yield f"results/{protocol}/scores.jsonl", _lines(store.scores(protocol))
    for image in sorted((store.path / "images").glob("??/*")):
        name = f"images/{image.parent.name}/{image.name}"
        if _IMAGE.fullmatch(name):
            yield name, image.read_bytes()
    for file in sorted(files, key=lambda one: one.name):
        yield f"kept/{file.name}", file.read_bytes()


def _lines(rows: Iterable[Output] | Iterable[Judgement] | Iterable[Score]) -> bytes:
    return "".join(json.dumps(dataclasses.asdict(row), sort_keys=True) + "\n" for row in rows).encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_STORED if name.startswith(("images/", "kept/")) else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as a bundle: {error}") from error


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, str]:
    """Check names and sizes of all members, and return their hashes."""
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    strange = [
        name
        for name in sizes
        if name not in (*_TEXTS, "manifest.json") and not any(form.fullmatch(name) for form in (_IMAGE, _KEPT, _RESULT, _SCORES))
    ]
    if strange or len(sizes) != len(archive.infolist()):
        raise UserError(f"{path} holds what no bundle holds, such as {(strange or ['one name twice'])[0][:100]!r}")
    if sum(sizes.values()) > MAX_BYTES or any(size > _most(name) for name, size in sizes.items()):
        raise UserError(f"{path} unpacks to more than bundles may hold ({MAX_BYTES >> 30} GiB in all)")
    if "manifest.json" not in sizes:
        raise UserError(f"{path} is no bundle: it has no manifest.json; `jfeval bundle RUN --out FILE` makes one")
    try:
        manifest = json.loads(_bounded(archive, "manifest.json"))
        digests = manifest["files"]
        if manifest["format"] != FORMAT or not all(isinstance(one, str) for one in digests.values()):
            raise ValueError(f"its format is {str(manifest['format'])[:40]!r}, not {FORMAT!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: manifest.json is damaged or of another version ({error})") from error
    if missing := sorted({*_TEXTS, *digests} - set(sizes)) or sorted(set(sizes) - set(digests) - {"manifest.json"}):
        raise UserError(f"{path} and its manifest differ, first in {missing[0][:100]!r}")
    return digests


def _most(name: str) -> int:
    """Return how many bytes a member may have."""
    return MAX_IMAGE if name.startswith("images/") else MAX_TEXT


def _read(archive: zipfile.ZipFile, name: str, digest: str, path: Path) -> bytes:
    data = _bounded(archive, name)
    found = hashlib.sha256(data).hexdigest()
    image = _IMAGE.fullmatch(name)
    if found != digest or (image and found != image[2]):
        raise UserError(f"{path}: {name} is not what the manifest says (sha256 differs); get the bundle again")
    return data


def _bounded(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a member, but never more than its entry says: archives can lie."""
    member: IO[bytes]
    with archive.open(name) as member:
        return member.read(archive.getinfo(name).file_size)


def _rows(data: bytes, kind: type, path: Path, name: str, *, key: str = "") -> list:
    try:
        rows = json.loads(data)[key] if key else [json.loads(line) for line in data.decode("utf-8").split("\n") if line]
        return [kind(**row) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: {name} is damaged ({str(error)[:200]})") from error
