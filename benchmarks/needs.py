"""What each benchmark's official edition needs on this machine, whether it is there, and what a missing thing costs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from jfeval.benchmarks.data_sets import data_set
from jfeval.benchmarks.geneval_parts import COLOUR, PARTS
from jfeval.benchmarks.geneval_parts import Part as JudgePart
from jfeval.benchmarks.scorers.inception import WEIGHTS as INCEPTION_FILE
from jfeval.fetching.fetch import size_words
from jfeval.fetching.lock import LOCK_FILE, fetched_folder

Kind: TypeAlias = Literal["data", "judge", "package"]


@dataclass(frozen=True, kw_only=True)
class Need:
    """One thing that an evaluation needs."""

    kind: Kind
    what: str
    here: bool
    place: str
    """Where it is, or would be looked for."""
    size: str
    """How much a missing one is to fetch, in words."""
    command: str
    """What gets it."""
    optional: bool = False
    """True where only a part of the numbers needs it."""


def official_needs(benchmark: str) -> list[Need]:
    """List what a benchmark's official edition needs; nothing for a name that this version has no list for."""
    return [need() for need in _NEEDS.get(benchmark, ())]


def optional_packages() -> list[Need]:
    """List the packages of extras, which single features need."""
    return [_package(module, extra, about, optional=True)() for module, extra, about in _EXTRAS]


def _data(name: str) -> Callable[[], Need]:
    def look() -> Need:
        known, folder = data_set(name), fetched_folder(name)
        here = (folder / LOCK_FILE).is_file() or (bool(known.files) and all((folder / file).is_file() for file in known.files))
        return Need(
            kind="data", what=known.about, here=here, place=str(folder), size=size_words(known.size), command=f"jfeval data fetch {name}"
        )

    return look


def _part(part: JudgePart, *, optional: bool = False) -> Callable[[], Need]:
    def look() -> Need:
        place = part.fetched()
        return Need(
            kind="judge",
            what=part.what,
            here=place is not None,
            place=str(place or fetched_folder(part.data_set)),
            size=part.size,
            command=part.command(),
            optional=optional,
        )

    return look


def _mplug() -> Need:
    from jfeval.benchmarks.scorers.mplug_place import CHECKPOINT, FILES, default_folder

    folder = default_folder()
    return Need(
        kind="judge",
        what=f"mPLUG-large VQA, {CHECKPOINT} of modelscope.cn",
        here=all((folder / name).is_file() for name in FILES),
        place=str(folder),
        size="about 600 million parameters; size unknown",
        command=f"modelscope download --model {CHECKPOINT} --local_dir {folder}",
    )


def _inception() -> Need:
    known, folder = data_set("inception"), fetched_folder("inception")
    here = (folder / INCEPTION_FILE).is_file()
    return Need(
        kind="judge", what=known.about, here=here, place=str(folder), size=size_words(known.size), command="jfeval data fetch inception"
    )


def _package(module: str, extra: str, about: str, *, optional: bool = False) -> Callable[[], Need]:
    def look() -> Need:
        found = find_spec(module)
        place = str(Path(found.origin).parent) if found and found.origin else ""
        command = f"pip install 'jfeval[{extra}]'" if extra != "mmdet" else "tox -e mmdet"
        return Need(kind="package", what=about, here=found is not None, place=place, size="a package", command=command, optional=optional)

    return look


_FID = _package("torch_fidelity", "fid", "torch-fidelity: the network of FID's features")
_NEEDS: dict[str, tuple[Callable[[], Need], ...]] = {
    "geneval": (_data("geneval"), *(_part(part) for part in PARTS)),
    "dpg": (_data("dpg"), _mplug),
    "mjhq": (_data("mjhq"), _inception, _FID, _part(COLOUR, optional=True)),
    "coco": (_data("coco"), _inception, _FID, _part(COLOUR, optional=True)),
    **{name: (_data(name),) for name in ("pope", "gqa", "mmbench", "mmbench-cn", "seed")},
    "seed-likelihood": (_data("seed"),),
}
_EXTRAS = (
    ("mmdet", "mmdet", "mmdetection: GenEval's detector in its own code, for comparison"),
    ("open_clip", "open-clip", "open_clip: GenEval's colour network as its script runs it"),
    ("torch_fidelity", "fid", "torch-fidelity: the network of FID's features"),
    ("openai", "api", "openai: models behind a server"),
    ("ray", "cluster", "ray: runs over several machines"),
    ("tensorboard", "tracking", "tensorboard: training curves"),
)
