"""Training data from any `datasets` source, local or streamed, in three kinds.

A source is a folder of Parquet or JSON Lines files, or a dataset's id on the hub with its commit. Its rows hold, by kind::

    understanding   image, and questions [{question, answer}] or conversations [{from, value}] (human and gpt in turn)
    generation      image, and captions: a text or a list of texts
    text            text

Place n of a source's endless order is a pure function of (source, seed, n), so a resumed training needs no saved position. A row that
cannot be used is counted once and named by its number in the source's files, and its place is taken by the next good one; too many such
rows stop the run.
"""

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.training.checks import not_negative
from jfeval.models.training.data import Sampler
from jfeval.models.training.part import Part, coerce
from jfeval.models.training.ratios import KINDS
from jfeval.models.training.rows import Row, Source, usable
from jfeval.models.training.skipped import Skipped

log = logging.getLogger(__name__)

SOURCES_FILE = "sources.json"
_BLOCK = 1000
"""Rows of a stream that are held and shuffled together."""
_CYCLE = 1000
UNUSABLE = (OSError, ValueError, SyntaxError, TypeError, KeyError, Image.DecompressionBombError)
"""What a row raises that cannot be used; Pillow's word for a broken PNG is SyntaxError."""
_READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json"}


@dataclass(frozen=True, kw_only=True)
class SourcesSettings:
    """The data of a recipe."""

    sources: tuple[Source, ...]
    max_skipped: int = 20
    """Different rows of one source that may be unusable before the run stops, whatever it was resumed from."""

    def __post_init__(self) -> None:
        """Refuse two sources of one name."""
        coerce(self, "sources", Source)
        not_negative(self, "max_skipped")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names) or not names:
            raise UserError(f"sources need different names, at least one; got {names}")


def prepare_sources(settings: SourcesSettings, part: Part) -> dict[str, Any]:
    """Open every source, read its first row as its kind, and note what there is.

    Raises:
        UserError: A source has no path, is empty, or its first rows are not of its kind.
    """
    seen: dict[str, Any] = {}
    for source in settings.sources:
        reader = Reader(source, seed=0, max_skipped=settings.max_skipped)
        seen[source.name] = {"kind": source.kind, "first": reader.row(0).id, "skipped": reader.skipped}
    (part.folder / SOURCES_FILE).write_text(json.dumps(asdict(settings), indent=1), "utf-8")
    return {"content": json.dumps([_identity(source) for source in settings.sources]), "sources": seen}


def _identity(source: Source) -> list[str]:
    """Return what tells one version of a source from another: its commit, or its files' names and sizes."""
    folder = Path(source.path)
    if not folder.is_dir():
        return [source.path, source.revision]
    return [f"{file.relative_to(folder)} {file.stat().st_size}" for file in _files(folder)]


def read_settings(folder: Path) -> SourcesSettings:
    """Read what `prepare_sources` noted."""
    stored = json.loads((folder / SOURCES_FILE).read_text("utf-8"))
    return SourcesSettings(**stored)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in _READERS)


def _open(source: Source) -> Any:  # noqa: ANN401 - a Dataset or an IterableDataset
    """Open a source with `datasets`; images stay encoded.

    Raises:
        UserError: There is nothing to open.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    if not source.path:
        raise UserError(f"source {source.name!r} has no path; name a folder, or a hub id with its revision")
    folder = Path(source.path)
    if folder.is_dir():
        files = _files(folder)
        if not files:
            raise UserError(f"source {source.name!r}: no Parquet or JSON Lines file in {folder}")
        kind = _READERS[files[0].suffix]
        names = [str(file) for file in files if _READERS[file.suffix] == kind]
        try:
            opened = datasets.load_dataset(kind, data_files={source.split: names}, split=source.split, streaming=source.streaming)
        except DatasetGenerationError as error:
            raise _unreadable(source, error.__cause__ or error) from error
    elif not source.revision:
        raise UserError(f"source {source.name!r}: {source.path} is no folder; a data set of the hub needs its commit as revision")
    else:
        opened = datasets.load_dataset(source.path, split=source.split, revision=source.revision, streaming=source.streaming)
    features = getattr(opened, "features", None) or {}
    if isinstance(features.get(source.image), datasets.Image):
        opened = opened.cast_column(source.image, datasets.Image(decode=False))
    return opened


def _unreadable(source: Source, error: BaseException) -> UserError:
    return UserError(f"source {source.name!r} is empty, or a file of it is damaged: {str(error)[:200]}")


class Reader:
    """One source's endless order of rows."""

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        max_skipped: int,
        check: Callable[[Row], None] | None = None,
        known: Skipped | None = None,
    ) -> None:
        """Open a source.

        Args:
            source: What to read.
            seed: Draws its order.
            max_skipped: Unusable rows after which reading stops.
            check: Raises ValueError for a row that is well-formed and yet unusable, such as one that is too long.
            known: The unusable rows met before, where new ones are noted too.

        Raises:
            UserError: There is nothing to read, or too many rows are known to be unusable.
        """
        self.source, self.seed, self.max_skipped, self.check = source, seed, max_skipped, check
        self._known = known if known is not None else Skipped()
        self._stop_at_too_many()
        self._data = _open(source)
        self._rows = 0 if source.streaming else len(self._data)
        self._order = Sampler(self._rows, 1, seed) if self._rows else None
        self._stream: Iterator[tuple[int, Mapping[str, Any]]] | None = None
        self._at, self._held = 0, None

    @property
    def skipped(self) -> list[str]:
        """Return a line per unusable row: source, number in its files and reason."""
        return self._known.of(self.source.name)

    def row(self, place: int) -> Row:
        """Return the row at a place of the endless order, or the next good one after it.

        Raises:
            UserError: Too many rows are unusable, or there is none.
        """
        name = self.source.name
        for at in range(place, place + 2 * self.max_skipped + 1):  # the end of one epoch and the beginning of the next may be the same rows
            number, raw = self._raw(at)
            if (name, number) in self._known:
                continue
            try:
                return self._decoded(at, number, raw)
            except UNUSABLE as error:
                self._skip(number, error)
        raise UserError(f"source {name!r}: {2 * self.max_skipped + 1} rows on end are unusable; {self.skipped[-1]}")

    def begin(self, place: int) -> Callable[[], Row]:
        """Read what stands at a place, and return what decodes it, which another thread may call.

        That raises one of `UNUSABLE` where `row` would note the row and take the next one.
        """
        return partial(self._decoded, place, *self._raw(place))

    def _decoded(self, place: int, number: int, raw: Mapping[str, Any]) -> Row:
        name = self.source.name
        if (name, number) in self._known:
            raise ValueError(f"{name} row {number} is known to be unusable")
        row = usable(raw, self.source, f"{name}:{place} (row {number})")
        if self.check is not None:
            self.check(row)
        return row

    def _skip(self, number: int, error: Exception) -> None:
        log.warning("skipped %s", self._known.add(self.source.name, number, error))
        self._stop_at_too_many()

    def _stop_at_too_many(self) -> None:
        if len(self.skipped) > self.max_skipped:
            listed = f"; all are listed in {self._known.file}; delete it once they are mended" if self._known.file is not None else ""
            raise UserError(
                f"more than {self.max_skipped} unusable rows in {self.source.name!r}: {'; '.join(self.skipped[:3])} ...{listed}"
            )

    def _raw(self, place: int) -> tuple[int, Mapping[str, Any]]:
        """Return the row at a place, with its number in the source's files."""
        if self._order is not None:
            number = int(self._order.between(place, place + 1)[0])
            return number, self._data[number]
        if not self.source.streaming:
            raise UserError(f"source {self.source.name!r} is empty")
        if self._held is not None and place == self._at - 1:
            return self._held
        if self._stream is None or place < self._at:
            self._stream, self._at = self._from(place), place
        while True:
            try:
                self._held = next(self._stream)
            except pa.ArrowException as error:
                raise _unreadable(self.source, error) from error
            self._at += 1
            if self._at == place + 1:
                return self._held

    def _from(self, place: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the stream's rows and their numbers from a place on, epoch after epoch, each block of rows in an order of its own."""
        epoch = 0
        while True:
            if self._rows:
                epoch, place = epoch + place // self._rows, place % self._rows
            block, offset = divmod(place, _BLOCK)
            rows, count = iter(self._data.skip(block * _BLOCK)), 0
            while held := list(itertools.islice(rows, _BLOCK)):
                count += len(held)
                order = np.random.default_rng([self.seed, epoch, block]).permutation(len(held))
                yield from ((block * _BLOCK + int(i), held[int(i)]) for i in order[offset:])
                block, offset = block + 1, 0
            if not self._rows:  # the end of an epoch was met for the first time, perhaps by a place that lies beyond it
                self._rows = place - place % _BLOCK + count if count else sum(1 for _ in self._data)
                if not self._rows:
                    raise UserError(f"source {self.source.name!r} is empty")
                if place >= self._rows:
                    continue
            epoch, place = epoch + 1, 0


class Kinds:
    """The sources of a recipe as three endless orders, one per kind, each mixed by weight."""

    def __init__(
        self,
        settings: SourcesSettings,
        *,
        seed: int,
        kinds: Sequence[str] = KINDS,
        check: Callable[[Row], None] | None = None,
        known: Skipped | None = None,
    ) -> None:
        """Open the sources of the wanted kinds; see `Reader`.

        Raises:
            UserError: A wanted kind has no source.
        """
        known = known if known is not None else Skipped()
        self._readers: dict[str, list[Reader]] = {}
        self._cycles: dict[str, np.ndarray] = {}
        for kind in kinds:
            chosen = [source for source in settings.sources if source.kind == kind]
            if not chosen:
                raise UserError(f"the mixture asks for {kind}, but no source is of that kind")
            self._readers[kind] = [
                Reader(source, seed=seed + k, max_skipped=settings.max_skipped, check=check, known=known) for k, source in enumerate(chosen)
            ]
            self._cycles[kind] = _cycle([source.weight for source in chosen])

    def row(self, kind: str, place: int) -> Row:
        """Return the row at a place of a kind's order; see `Reader.row`."""
        reader, inner = self._at(kind, place)
        return reader.row(inner)

    def begin(self, kind: str, place: int) -> Callable[[], Row]:
        """Read what stands at a place of a kind's order, and return what decodes it; see `Reader.begin`."""
        reader, inner = self._at(kind, place)
        return reader.begin(inner)

    def _at(self, kind: str, place: int) -> tuple[Reader, int]:
        """Return the source whose turn it is at a place of a kind's order, and the place in its own."""
        cycle = self._cycles[kind]
        rounds, within = divmod(place, len(cycle))
        which = int(cycle[within])
        return self._readers[kind][which], rounds * int((cycle == which).sum()) + int((cycle[:within] == which).sum())

    def skipped(self) -> dict[str, list[str]]:
        """Return the unusable rows met so far, by source."""
        return {reader.source.name: reader.skipped for readers in self._readers.values() for reader in readers if reader.skipped}


def _cycle(weights: Sequence[float]) -> np.ndarray:
    """Return which source each place of a cycle takes: at every place the one that is furthest behind its share."""
    shares = np.asarray(weights) / sum(weights)
    taken, cycle = np.zeros(len(weights)), []
    for place in range(1, (_CYCLE if len(weights) > 1 else 1) + 1):
        behind = int(np.argmax(shares * place - taken))
        taken[behind] += 1
        cycle.append(behind)
    return np.asarray(cycle)
