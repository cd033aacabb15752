"""What trivial baselines look things up in: the training scenes of a world on disk, and the nearest of many texts by their words."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jfeval.errors import UserError

SIMILARITY = "tf-idf cosine, words and pairs"
_WORD = re.compile(r"[a-z0-9]+")
_TIE = 1e-6


@dataclass(frozen=True, kw_only=True)
class BaselineSettings:
    """Where a world's training scenes are."""

    data: Path | None = None
    """Folder of a world on disk, as `jfeval data make shapes --out FOLDER` writes it."""

    def folder(self, model: str) -> Path:
        """Return the folder.

        Raises:
            UserError: None is named; says how, for this model.
        """
        if self.data is None:
            raise UserError(f"model {model!r} needs training data: --set data=FOLDER, written by `jfeval data make shapes --out FOLDER`")
        return self.data


def training_files(data: Path) -> list[Path]:
    """List the files of training scenes in a world's folder.

    Raises:
        UserError: There is none.
    """
    files = sorted((data / "scenes").glob("train-*.parquet"))
    if not files:
        raise UserError(f"no scenes/train-*.parquet in {data}; write them with: jfeval data make shapes --out {data}")
    return files


class TextIndex:
    """Finds texts by the cosine of their word and word-pair counts, weighted by rarity.

    Args:
        texts: At least one.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from scipy.sparse import csr_matrix

        self._columns: dict[str, int] = {}
        values: list[float] = []
        columns: list[int] = []
        ends = [0]
        for text in texts:
            for term, count in terms(text).items():
                columns.append(self._columns.setdefault(term, len(self._columns)))
                values.append(count)
            ends.append(len(columns))
        counts = csr_matrix((np.array(values, np.float32), np.array(columns), np.array(ends)), shape=(len(texts), len(self._columns)))
        self._rarity = np.log((1 + len(texts)) / (1 + np.bincount(counts.indices, minlength=len(self._columns)))).astype(np.float32) + 1
        weighted: Any = counts.multiply(self._rarity).tocsr()
        lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        self._lengths = np.maximum(lengths, 1e-9)
        self._weights = weighted

    def nearest(self, text: str) -> np.ndarray:
        """Return the places (K,) of the nearest texts, all that tie; where no word is known, that is all of them."""
        query = np.zeros(len(self._columns), np.float32)
        for term, count in terms(text).items():
            if term in self._columns:
                query[self._columns[term]] = count
        similarity = (self._weights @ (query * self._rarity)) / self._lengths
        return np.flatnonzero(similarity >= similarity.max() - _TIE)


def terms(text: str) -> Counter[str]:
    """Count words and neighbouring pairs of words, lower-cased."""
    words = _WORD.findall(text.lower())
    return Counter([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))])
