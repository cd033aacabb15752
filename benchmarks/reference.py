"""What generated images are compared with: a set of reference images, or a file of their statistics under a stated recipe.

A file of statistics is an ``.npz`` archive of ``mean`` (D,), ``cov`` (D, D), both float64, ``n``, and ``about``: JSON that says which
network and recipe made them. Statistics that say nothing of that, or something else, are refused: a distance between features of two
recipes means nothing.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jfeval.benchmarks.features import FeatureSet, ImageFile, Network, load_features, read_features
from jfeval.benchmarks.scorers.frechet import Moments, moments_of
from jfeval.errors import UserError
from jfeval.files import write_atomically
from jfeval.schema import Json, JsonObject

_HASH = re.compile(r"[0-9a-f]{64}")
_SAME = ("network", "weights_sha256", "recipe")
"""What statistics and network must agree in."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Features that count as a sample, or moments that count as given."""

    features: FeatureSet | None = None
    moments: Moments | None = None

    @property
    def given(self) -> Moments | list[np.ndarray]:
        """Return what `jfeval.benchmarks.scorers.frechet_error.estimate_frechet` compares with."""
        if self.features is not None:
            return self.features.batches()
        if self.moments is None:
            raise ValueError("a reference has features or moments")
        return self.moments


class ReferenceSource:
    """Where a reference comes from; looked at when it is first needed, because thousands of images take their time.

    Args:
        network: Makes the features.
        cache: Folder for them.
        images: The images; None where there are statistics.
        statistics: A file of statistics; checked at once.
    """

    def __init__(self, network: Network, cache: Path, *, images: Sequence[ImageFile] | None = None, statistics: Path | None = None) -> None:
        self._network, self._cache, self._images, self._statistics = network, cache, images, statistics
        self._identity: JsonObject | None = None
        if statistics is not None:
            read_statistics(statistics, network.identity())

    def identity(self) -> JsonObject:
        """Return what was compared with; makes the features where the cache lacks them."""
        if self._identity is None:
            self._identity = self._look()
        return dict(self._identity)

    def _look(self) -> JsonObject:
        if self._statistics is not None:
            data = self._statistics.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            write_atomically(self._cache / f"{digest}.npz", data)
            return {"statistics": digest}
        found = read_features(self._images or (), self._network, self._cache)
        return {"features": found.key, "images": len(found.names)}


def stored_reference(judge: JsonObject, places: Sequence[Path]) -> Reference:
    """Return the reference that a judge's identity states.

    Args:
        judge: The identity.
        places: Folders that it may lie in, at least one; the first that holds it counts.

    Raises:
        UserError: It is in none of them.
    """
    if not reference_files(judge, places[0]):
        raise UserError("what is stored was not judged against a reference; run the same command again")
    place = next((one for one in places if all(file.is_file() for file in reference_files(judge, one))), places[0])
    path = reference_files(judge, place)[0]
    if path.suffix == ".npy":
        return Reference(features=load_features(path.stem, place))
    if not path.is_file():
        raise UserError(f"{path} is not here: it holds the statistics that this run was judged against; copy it from where that was done")
    return Reference(moments=read_statistics(path, judge))


def reference_files(judge: JsonObject, folder: Path) -> list[Path]:
    """List the files of the reference that a judge's identity states, as they are called in a folder; none where it states none.

    Raises:
        UserError: What it states is not a hash, by which such files are named.
    """
    about = judge.get("reference")
    if not isinstance(about, dict):
        return []
    kind, endings = ("features", (".npy", ".json")) if "features" in about else ("statistics", (".npz",))
    key = about.get(kind)
    if not isinstance(key, str) or not _HASH.fullmatch(key):
        raise UserError(f"the run names its reference by {str(key)[:80]!r}, which is no sha256; its record is damaged")
    return [folder / f"{key}{ending}" for ending in endings]


def write_statistics(path: Path, features: FeatureSet, identity: JsonObject) -> None:
    """Write a set's statistics with what made them.

    Raises:
        OSError: The file cannot be written.
    """
    moments = moments_of(features.batches())
    about: dict[str, Json] = {**identity, "features": features.key}
    buffer = io.BytesIO()
    np.savez(buffer, mean=moments.mean, cov=moments.cov, n=np.int64(moments.n), about=np.str_(json.dumps(about, sort_keys=True)))
    write_atomically(path, buffer.getvalue())


def read_statistics(path: Path, identity: JsonObject) -> Moments:
    """Read statistics that a network and recipe made.

    Raises:
        UserError: The file is missing or malformed, or was made by another network, from other weights or under another recipe.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ("mean", "cov", "n") if name not in archive.files]
            about = json.loads(str(archive["about"])) if "about" in archive.files else None
            mean, cov, n = (archive[name] for name in ("mean", "cov", "n")) if not missing else (None, None, None)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as statistics of a reference ({error}); expected an .npz file") from error
    if not isinstance(about, dict) or mean is None or cov is None or n is None:
        lacks = ", ".join(missing) or "about"
        raise UserError(
            f"{path} lacks {lacks}: statistics must say which network and recipe made them. Make them of the images by "
            "`python -m jfeval.benchmarks.fid IMAGES REFERENCE --save-statistics FILE`"
        )
    other = [f"{key} {about.get(key)!r} instead of {identity.get(key)!r}" for key in _SAME if about.get(key) != identity.get(key)]
    if other:
        raise UserError(f"{path} holds statistics of another recipe: {'; '.join(other)}. Make them anew from the images")
    if mean.ndim != 1 or cov.shape != (len(mean), len(mean)) or not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise UserError(f"{path}: a mean of shape {mean.shape} and a covariance of shape {cov.shape} are no statistics of one set")
    return Moments(n=int(n), mean=mean.astype(np.float64), cov=cov.astype(np.float64))
