"""A run's folder: what was asked, what came back, how it was judged, and the numbers.

::

    run.json                       RunRecord
    settings.yaml                  the settings as resolved, every field written out
    inputs.json                    everything the fingerprint hashes, to name what changed
    samples.jsonl                  the samples asked for, so that nothing below needs the benchmark's data
    shards/WORKER.sqlite           outputs and judgements, one file per writing process; merged on reading
    images/ab/SHA256.png           content-addressed
    kept/                          what scoring reads beside all this, in a run that came as a bundle
    results/PROTOCOL/metrics.json  numbers, and scores.parquet beside them: the same bytes for the same outputs
    report.html

No path outside the folder is needed to read it (settings.yaml repeats those that were given); it can be moved or copied.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from jfeval.errors import UserError
from jfeval.files import encodable, write_atomically
from jfeval.pictures import Pictures
from jfeval.schema import Counts, ImageRequest, JsonObject, Judgement, Metric, Output, RunRecord, Sample, Score, TextRequest

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAGIC = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
_VALUE_PREFIX, _LABEL_PREFIX = "value.", "label."


class Finished(NamedTuple):
    """One stored output, in as little as a run that goes on needs."""

    batch: str
    """Key of the planned batch that it came from."""
    failed: bool


class Store:
    """Reads one run folder, whole or unfinished; `jfeval.shards.Shard` writes its outputs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a run that exists.

        Raises:
            UserError: The folder is not a run, or its record cannot be read.
        """
        store = cls(Path(path))
        if not store.exists():
            raise UserError(f"{path} is not a run folder: it has no run.json. `jfeval run --out {path}` makes one.")
        store.record()
        return store

    def exists(self) -> bool:
        """Tell whether a run was begun here."""
        return (self.path / "run.json").is_file()

    @property
    def kept(self) -> Path | None:
        """Return the folder of files that came with the run because scoring reads them; None where there is none."""
        folder = self.path / "kept"
        return folder if folder.is_dir() else None

    # what was asked

    def record(self) -> RunRecord:
        """Return what the run was asked and how far it came."""
        raw = self._read_json("run.json")
        fields = {field.name for field in dataclasses.fields(RunRecord)}
        try:
            counts = Counts(**raw.pop("counts"))  # pyright: ignore[reportArgumentType, reportCallIssue]
            return RunRecord(counts=counts, **{k: v for k, v in raw.items() if k in fields})  # pyright: ignore[reportArgumentType]
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.path / 'run.json'} was written by another version of jfeval: {error}") from error

    def write_record(self, record: RunRecord) -> None:
        """Replace the record."""
        self._write_json("run.json", dataclasses.asdict(record))

    def inputs(self) -> JsonObject:
        """Return everything the fingerprint hashes."""
        return self._read_json("inputs.json")

    def write_inputs(self, inputs: JsonObject) -> None:
        """Store everything the fingerprint hashes."""
        self._write_json("inputs.json", inputs)

    def samples(self) -> list[Sample]:
        """List the samples asked for, in order; images of questions are read when they are looked at."""
        return self._read_samples(self._sample_from)

    def sample_ids(self) -> list[str]:
        """List the ids of the samples asked for, in order, without their contents."""
        return self._read_samples(lambda row: str(row["id"]))

    def write_samples(self, samples: Sequence[Sample]) -> None:
        """Store the samples asked for; images inside questions are stored by content."""
        lines = [json.dumps(self._sample_to(sample), ensure_ascii=True, sort_keys=True) for sample in samples]
        write_atomically(self.path / "samples.jsonl", "".join(line + "\n" for line in lines).encode())

    # what came back

    def outputs(self) -> dict[str, Output]:
        """Return stored outputs by sample id, failed ones included, merged over all shards."""

        def read(sample_id: str, error: str, images: str, text: str, seconds: float) -> Output:
            return Output(sample_id=sample_id, images=tuple(json.loads(images)), text=text, error=error, seconds=seconds)

        query = "SELECT sample_id, error, images, text, seconds FROM outputs WHERE fingerprint = ? ORDER BY rowid"
        return _merged(self._rows(query, self.record().fingerprint), read)

    def judgements(self) -> dict[str, Judgement]:
        """Return stored observations by sample id, failed ones included, merged over all shards."""
        query = "SELECT sample_id, error, observations FROM judgements WHERE fingerprint = ? ORDER BY rowid"
        return _merged(self._rows(query, self.record().judge_fingerprint), _judgement_from)

    @contextlib.contextmanager
    def judgement_reader(self) -> Iterator[Callable[[str], Judgement]]:
        """Give a function that reads one sample's observations, found as `judgements` finds them, without holding any.

        The function raises KeyError where nothing is stored, and UserError where a shard is damaged.
        """
        key = self.record().judge_fingerprint
        query = "SELECT sample_id, error, observations FROM judgements WHERE fingerprint = ? AND sample_id = ?"
        with contextlib.ExitStack() as held:
            paths = sorted((self.path / "shards").glob("*.sqlite"))
            shards = [(path, held.enter_context(contextlib.closing(_opened(path)))) for path in paths]

            def rows(sample_id: str) -> Iterator[tuple]:
                for path, shard in shards:
                    with _damage_named(path):
                        for row in shard.execute(query, (key, sample_id)):
                            yield row
                            if not row[1]:
                                return  # no other is chosen before one without an error

            yield lambda sample_id: _merged(rows(sample_id), _judgement_from)[sample_id]

    def output_facts(self) -> dict[str, tuple[str, int]]:
        """Return by sample id why a stored output failed (empty where it did not) and how many images it has: cheaper than `outputs`."""
        query = "SELECT sample_id, error, images FROM outputs WHERE fingerprint = ? ORDER BY rowid"
        rows = self._rows(query, self.record().fingerprint)
        return _merged(rows, lambda _, error, images: (error, len(json.loads(images))))

    def judgement_errors(self) -> dict[str, str]:
        """Return by sample id why the judge failed, empty where it did not: cheaper than `judgements`."""
        query = "SELECT sample_id, error FROM judgements WHERE fingerprint = ? ORDER BY rowid"
        return _merged(self._rows(query, self.record().judge_fingerprint), lambda _, error: error)

    def finished(self) -> dict[str, Finished]:
        """Return by sample id what is stored and usable: outputs whose image files are all there, failed ones included."""
        present = self._image_names()

        def read(_: str, error: str, images: str, batch: str) -> Finished | None:
            usable = images == "[]" or present.issuperset(json.loads(images))
            return Finished(batch, bool(error)) if usable else None

        query = "SELECT sample_id, error, images, batch FROM outputs WHERE fingerprint = ? ORDER BY rowid"
        found = _merged(self._rows(query, self.record().fingerprint), read)
        return {sample_id: output for sample_id, output in found.items() if output is not None}

    def stage_seconds(self) -> dict[str, float]:
        """Return wall time spent on what is stored, by stage, over every invocation."""
        record = self.record()
        queries = {"generate": ("outputs", record.fingerprint), "judge": ("judgements", record.judge_fingerprint)}
        return {
            stage: sum(row[0] or 0.0 for row in self._rows(f"SELECT SUM(seconds) FROM {table} WHERE fingerprint = ?", key))  # noqa: S608
            for stage, (table, key) in queries.items()
        }

    def _image_names(self) -> set[str]:
        """Return the content hashes of the image files that are there."""
        names: set[str] = set()
        with contextlib.suppress(FileNotFoundError):
            for folder in os.scandir(self.path / "images"):
                if folder.is_dir():
                    names.update(entry.name.partition(".")[0] for entry in os.scandir(folder))
        return names

    def image_path(self, sha: str) -> Path:
        """Return where the image with this content hash lies; the file may be missing in a damaged run.

        Raises:
            ValueError: ``sha`` is not a sha256 in hexadecimal (nothing else ever becomes part of a path).
        """
        if not _SHA256.fullmatch(sha):
            raise ValueError(f"not a sha256: {sha[:80]!r}")
        stem = self.path / "images" / sha[:2] / sha
        return next((path for ext in _MAGIC.values() if (path := stem.with_suffix(ext)).is_file()), stem.with_suffix(".png"))

    def read_image(self, sha: str) -> bytes | None:
        """Return an image file's bytes; None when it is missing or its content is not what its name says."""
        try:
            data = self.image_path(sha).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha else None

    def add_image(self, data: bytes) -> str:
        """Store one encoded image under its content hash and return that."""
        sha = hashlib.sha256(data).hexdigest()
        extension = next((ext for magic, ext in _MAGIC.items() if data.startswith(magic)), ".png")
        path = self.path / "images" / sha[:2] / f"{sha}{extension}"
        if not path.is_file() or path.stat().st_size != len(data):
            write_atomically(path, data, flush=False)  # the name is the check
        return sha

    # the numbers

    def protocols(self) -> list[str]:
        """List the protocols that scores are stored for."""
        return sorted(path.parent.name for path in (self.path / "results").glob("*/metrics.json"))

    def scores(self, protocol: str | None = None) -> list[Score]:
        """List the verdicts under a protocol (the record's when None), in sample order; empty when not scored yet."""
        import pyarrow.parquet

        path = self._results(protocol) / "scores.parquet"
        if not path.is_file():
            return []
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [_score_from(row) for row in rows]

    def metrics(self, protocol: str | None = None) -> list[Metric]:
        """List the numbers under a protocol (the record's when None); empty when not scored yet."""
        path = self._results(protocol) / "metrics.json"
        if not path.is_file():
            return []
        return [Metric(**row) for row in json.loads(path.read_text(encoding="utf-8"))["metrics"]]

    def write_results(self, protocol: str, scores: Sequence[Score], metrics: Sequence[Metric]) -> None:
        """Store verdicts and numbers; the same verdicts always give the same bytes."""
        import pyarrow.parquet

        buffer = io.BytesIO()
        pyarrow.parquet.write_table(_scores_table(scores), buffer, compression="zstd")
        write_atomically(self._results(protocol) / "scores.parquet", buffer.getvalue())
        rows = [dataclasses.asdict(metric) for metric in metrics]
        self._write_json(f"results/{self._results(protocol).name}/metrics.json", {"protocol": protocol, "metrics": rows})

    # parts

    def _results(self, protocol: str | None) -> Path:
        name = self.record().protocol if protocol is None else protocol
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"protocol {name[:80]!r} cannot name a folder")
        return self.path / "results" / name

    def _rows(self, query: str, key: str) -> Iterator[tuple]:
        """Yield the rows of every shard, shards in name order."""
        for path in sorted((self.path / "shards").glob("*.sqlite")):
            with _damage_named(path), contextlib.closing(_opened(path)) as shard:
                yield from shard.execute(query, (key,))

    def _read_json(self, name: str) -> dict:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}. Start anew with --overwrite or another --out.") from error

    def _write_json(self, name: str, value: object) -> None:
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
        write_atomically(self.path / name, (text + "\n").encode())

    def _read_samples(self, read: Callable[[dict], T]) -> list[T]:
        """Read something of every sample asked for; nothing where none was."""
        path = self.path / "samples.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
            return [read(json.loads(line)) for line in lines if line]
        except FileNotFoundError:
            return []
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); run the same command again to write it anew.") from error

    def _sample_to(self, sample: Sample) -> JsonObject:
        row = dataclasses.asdict(sample)
        if isinstance(sample.request, TextRequest):
            row["request"]["images"] = [self.add_image(data) for data in sample.request.images]
        row["kind"] = "text" if isinstance(sample.request, TextRequest) else "image"
        return row

    def _given_image(self, sha: str) -> bytes:
        return self.read_image(sha) or b""

    def _sample_from(self, row: dict) -> Sample:
        request, kind = row.pop("request"), row.pop("kind")
        if kind == "image":
            return Sample(request=ImageRequest(**request), **row)
        images = Pictures(*(partial(self._given_image, sha) for sha in request.pop("images")))
        options = tuple(request.pop("options", ()))
        return Sample(request=TextRequest(images=images, options=options, **request), **row)


def _merged(rows: Iterable[tuple], read: Callable[..., T]) -> dict[str, T]:
    """Read one row of each sample: the first without an error, or where every one has one, the first.

    Args:
        rows: Sample id, error and whatever else is read; several of one sample where several shards hold it, as after a failure that was
            tried again by a share or a stage of the run.
        read: Makes of a row's columns what is returned.
    """
    found: dict[str, T] = {}
    failed: set[str] = set()
    for sample_id, error, *more in rows:
        if sample_id not in found or (sample_id in failed and not error):
            found[sample_id] = read(sample_id, error, *more)
            (failed.add if error else failed.discard)(sample_id)
    return found


def _judgement_from(sample_id: str, error: str, observations: str) -> Judgement:
    return Judgement(sample_id=sample_id, observations=tuple(json.loads(observations)), error=error)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{_reading(path)}", uri=True, timeout=60)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn the database's word for a damaged shard into what mends it; a shard that nothing was written to has no tables."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if "no such table" not in str(error):
            raise UserError(f"shard {path} is damaged ({error}); `jfeval run` with the same command sets it aside.") from error


def _reading(path: Path) -> str:
    """Say how to open a shard for reading: a closed one with a write-ahead log of old can be read where nothing can be written.

    Source: SQLite, "Database File Format", section 1.3.3: byte 18 of the header is 2 for write-ahead logging, 1 for a rollback journal.
    """
    with path.open("rb") as file:
        logged = file.read(19)[18:] == b"\x02"
    return "immutable=1" if logged and not path.with_name(path.name + "-wal").exists() else "mode=ro"


def _scores_table(scores: Sequence[Score]) -> "pyarrow.Table":
    """Return one row per score; each score name is a column ``value.NAME``, each label ``label.NAME``, null where a score lacks it."""
    import pyarrow

    columns: dict[str, pyarrow.Array] = {
        "sample_id": pyarrow.array([s.sample_id for s in scores], pyarrow.string()),
        "task": pyarrow.array([encodable(s.task) for s in scores], pyarrow.string()),
        "cluster": pyarrow.array([encodable(s.cluster) for s in scores], pyarrow.string()),
        "index": pyarrow.array([s.index for s in scores], pyarrow.int32()),
        "reason": pyarrow.array([encodable(s.reason) for s in scores], pyarrow.string()),
    }
    for name in sorted({name for score in scores for name in score.values}):
        columns[_VALUE_PREFIX + name] = pyarrow.array([s.values.get(name) for s in scores], pyarrow.float64())
    for name in sorted({name for score in scores for name in score.labels}):
        columns[_LABEL_PREFIX + name] = pyarrow.array([_label(s, name) for s in scores], pyarrow.string())
    return pyarrow.table(columns)


def _label(score: Score, name: str) -> str | None:
    return encodable(score.labels[name]) if name in score.labels else None


def _score_from(row: dict) -> Score:
    values, labels = (
        {key.removeprefix(prefix): v for key, v in row.items() if key.startswith(prefix) and v is not None}
        for prefix in (_VALUE_PREFIX, _LABEL_PREFIX)
    )
    return Score(values=values, labels=labels, **{key: v for key, v in row.items() if "." not in key})
