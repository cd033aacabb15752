"""FID's golden set: FID, KID and inception score of recorded features, by the three libraries that papers use."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jfeval.benchmarks.scorers.frechet import frechet_distance, moments_of
from jfeval.benchmarks.scorers.inception_score import inception_score
from jfeval.benchmarks.scorers.kernel_distance import kid_of_subsets
from jfeval.errors import UserError
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any

_RELATIVE = 1e-6
_DISTANCES = (
    "torch_fidelity_float32_in",
    "torch_fidelity_float64_in",
    "clean_fid_float32_in",
    "clean_fid_float64_in",
    "pytorch_fid",
    "reference_symmetric_float64",
)
_KIDS = ("torch_fidelity_float64_in", "torch_fidelity_float32_in")
_CLEAN_KID = re.compile(r"clean_fid_npseed(?P<seed>\d+)_subsets(?P<subsets>\d+)_max(?P<size>\d+)_float(?:32|64)_in")
"""Its name carries what the score depends on."""
_NAME = re.compile(r"d(?P<width>\d+)(?:_.*)?")


def check_fid(folder: Path) -> GoldenResult:
    """Compare every recorded distance and score with this version's, one method for all libraries."""
    small, wide = _arrays(folder / "features_small.npz"), _arrays(folder / "features_2048.npz")
    pairs = {name.removesuffix("__a"): (small[name], small[name.removesuffix("a") + "b"]) for name in small if name.endswith("__a")}
    recorded = _json(folder / "expected.json")
    pairs[_wide_name(recorded["fid_kid"].keys() - pairs.keys(), wide["a"])] = wide["a"], wide["b"]
    tally = Tally()
    tally.fields("expected.json", recorded, ("fid_kid", "inception_score", "versions"))
    tally.equal("feature sets", sorted(recorded["fid_kid"]), sorted(pairs))
    cases = 0
    for name in sorted(set(pairs) & set(recorded["fid_kid"])):
        _compare_distances(tally, name, recorded["fid_kid"][name], *pairs[name])
        cases += 1
    logits = _arrays(folder / "logits.npz")
    tally.equal("logits", sorted(recorded["inception_score"]), sorted(logits))
    for name in sorted(set(logits) & set(recorded["inception_score"])):
        for options, scores in recorded["inception_score"][name].items():
            splits, shuffle = (int(part) for part in options.removeprefix("splits").split("_shuffle"))
            mean, deviation = inception_score(logits[name], splits=splits, shuffle=bool(shuffle))
            tally.fields(f"{name}, {options}", scores, ("inception_score_mean", "inception_score_std"))
            _close(tally, f"{name}, {options}, mean", scores["inception_score_mean"], mean)
            _close(tally, f"{name}, {options}, std", scores["inception_score_std"], deviation)
            cases += 1
    return tally.result(cases, numeric=True)


SUITES: tuple[GoldenSuite, ...] = (
    GoldenSuite(name="fid", recognise=has_any("features_2048.npz", "features_small.npz", "logits.npz"), check=check_fid),
)


def _wide_name(names: Collection[str], features: np.ndarray) -> str:
    """Find the name under which distances of features_2048.npz are recorded: its arrays have none, ``d2048_n500`` is 500 of width 2048."""
    rows, width = features.shape
    fitting = [name for name in names if (match := _NAME.fullmatch(name)) and int(match["width"]) == width]
    return fitting[0] if len(fitting) == 1 else f"d{width}_n{rows}"


def _compare_distances(tally: Tally, name: str, record: dict[str, Any], a: np.ndarray, b: np.ndarray) -> None:
    tally.fields(name, record, ("n1", "n2", "dim", "kid", *_DISTANCES))
    tally.equal(f"{name}, sizes", [record["n1"], record["n2"], record["dim"]], [len(a), len(b), a.shape[1]])
    found = frechet_distance(moments_of([a]), moments_of([b]))
    for library in _DISTANCES:
        _close(tally, f"{name}, {library}", record[library], found)
    kid = record["kid"]
    clean = [match for key in kid if (match := _CLEAN_KID.fullmatch(key))]
    tally.fields(f"{name}, kid", kid, ("params", *(match.string for match in clean), *_KIDS))
    options = kid["params"]
    rng = np.random.RandomState(options["rng_seed"])
    mean, deviation = kid_of_subsets(a, b, subsets=options["kid_subsets"], size=options["kid_subset_size"], rng=rng)
    for library in _KIDS:
        _close(tally, f"{name}, kid mean, {library}", kid[library]["kernel_inception_distance_mean"], mean)
        _close(tally, f"{name}, kid std, {library}", kid[library]["kernel_inception_distance_std"], deviation)
    if not clean:
        tally.differ(f"{name}, kid: no field of clean-fid's is recorded")
    for match in clean:
        rng, size = np.random.RandomState(int(match["seed"])), min(len(a), len(b), int(match["size"]))
        mean, _ = kid_of_subsets(a, b, subsets=int(match["subsets"]), size=size, rng=rng, first="b")
        _close(tally, f"{name}, kid, {match.string}", kid[match.string], mean)


def _close(tally: Tally, what: str, expected: float, found: float) -> None:
    """Compare up to 1e-6 of the recorded value, or of 1 where that is larger."""
    scale = max(1.0, abs(expected))
    tally.close(what, expected / scale, found / scale, _RELATIVE)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.name} is missing beside its partner")
    return json.loads(path.read_text(encoding="utf-8"))
