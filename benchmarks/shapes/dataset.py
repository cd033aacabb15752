"""Writes the synthetic world to disk as Parquet files, and checks such a folder.

    OUT/scenes/{train,test,heldout}-0000i-of-0000n.parquet   scene_id, image, captions, questions, objects
    OUT/text/train-0000i-of-0000n.parquet                    text
    OUT/meta.json                                            what was made, and the sha256 of every file

The files are the contract with training: whoever reads them needs `datasets` or `pyarrow` and nothing of this package. Every row
depends on (seed, split, index) alone, so a folder can be made in pieces, by several processes, or again.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jfeval.benchmarks.shapes.language import captions
from jfeval.benchmarks.shapes.questions import questions, sentence
from jfeval.benchmarks.shapes.render import BACKGROUND, PALETTE, render_png
from jfeval.benchmarks.shapes.scene import SIZES, SPLITS, Scene, Split, Thing, bucket, sample_scene, scene_rng
from jfeval.benchmarks.shapes.world import FULL, SMALL, World, world_named
from jfeval.errors import UserError
from jfeval.pairs import pair_pattern

FORMAT = "jfeval-shapes-1"
CAPTIONS_PER_SCENE = 4
QUESTIONS_PER_SCENE = 6
SCENES_PER_FILE = 20_000
TEXTS_PER_FILE = 100_000

Progress = Callable[[int, int], None]
"""Called with rows finished and rows asked, over all files."""


@dataclass(frozen=True, kw_only=True)
class WorldSize:
    """How much of the world to write."""

    train: int = 120_000
    test: int = 2_000
    heldout: int = 1_000
    text: int = 100_000

    def __post_init__(self) -> None:
        """Reject negative counts and an empty training split."""
        for name, value in asdict(self).items():
            if value < 0:
                raise UserError(f"{name}={value}: a count cannot be negative")
        if self.train < 1:
            raise UserError("train=0: a world without training scenes teaches nothing; ask for at least 1")


DEFAULT_SIZES = {FULL.name: WorldSize(), SMALL.name: WorldSize(train=40_000, test=1_000, heldout=500, text=20_000)}
"""Rows of each world, by name."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One file: rows `start` to `stop` of a split."""

    path: str
    """Relative to the folder."""
    split: str
    seed: int
    world: World
    start: int
    stop: int


def make(
    out: Path,
    *,
    seed: int = 0,
    size: WorldSize | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    world: World = FULL,
) -> Path:
    """Write a world; files that an interrupted call finished are kept.

    Args:
        out: Folder to write; made where it is absent.
        seed: Draws every scene, caption, question and sentence.
        size: How many rows of each split; by default the world's own.
        workers: Processes that write files side by side.
        progress: Told after every file how many rows are done.
        world: Whose rules the scenes follow.

    Returns:
        The path of meta.json, written last.

    Raises:
        UserError: The folder holds something else, or a world of another seed, size or version.
    """
    size = size or DEFAULT_SIZES[world.name]
    parts = _parts(seed, size, world)
    plan = {"format": FORMAT, "seed": seed, "counts": asdict(size), "world": rules(world)}
    _claim(out, plan)
    total, done = sum(part.stop - part.start for part in parts), 0
    waiting = [part for part in parts if not (out / part.path).is_file()]
    done = total - sum(part.stop - part.start for part in waiting)
    for part in _write_all(out, waiting, workers):
        done += part.stop - part.start
        if progress is not None:
            progress(done, total)
    files = {part.path: {"rows": part.stop - part.start, "sha256": _sha256(out / part.path)} for part in parts}
    meta = out / "meta.json"
    _write_json(meta, {**plan, "files": files})
    (out / "plan.json").unlink(missing_ok=True)
    return meta


def verify(path: Path) -> dict[str, int]:
    """Check a folder that `make` wrote: hashes, counts, splits, and that no held-out pair or test scene is in training.

    Args:
        path: The folder.

    Returns:
        Rows of each split.

    Raises:
        UserError: Names the first file and fault found.
    """
    import pyarrow.parquet as pq

    meta = read_meta(path)
    world = world_named(meta["world"].get("name", FULL.name))
    counts: dict[str, int] = dict.fromkeys((*SPLITS, "text"), 0)
    for name, entry in meta["files"].items():
        file = path / name
        if not file.is_file():
            raise UserError(f"{file} is missing; run `jfeval data make shapes --out {path}` again")
        if _sha256(file) != entry["sha256"]:
            raise UserError(
                f"{file} is not the file that meta.json describes (sha256 differs); delete it and run `jfeval data make shapes` again"
            )
        split = "text" if name.startswith("text/") else file.name.split("-")[0]
        rows = pq.read_table(file, columns=["text"] if split == "text" else ["objects", "captions", "questions"]).to_pylist()
        counts[split] += len(rows)
        for i, row in enumerate(rows):
            fault = _fault(split, row, world)
            if fault:
                raise UserError(f"{file}, row {i}: {fault}")
    if counts != meta["counts"]:
        raise UserError(f"{path} holds {counts} rows where meta.json promises {meta['counts']}")
    return counts


def read_meta(path: Path) -> dict:
    """Read meta.json of a world folder.

    Raises:
        UserError: There is none, it is damaged, or it is of another format.
    """
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{file} not found; write the world with `jfeval data make shapes --out {path}`") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("files"), dict):
        raise UserError(f"{file} does not describe a world of format {FORMAT}; make it again with `jfeval data make shapes`")
    return meta


def names_held_out(text: str, world: World = FULL) -> bool:
    """Tell whether a text names a held-out colour-shape pair, in one of the forms of `jfeval.pairs.pair_pattern`."""
    return pair_pattern(world.held_out).search(text) is not None


def scene_from_row(objects: list[dict], world: World = FULL) -> Scene:
    """Build the scene back from the `objects` column of one row."""
    return Scene(things=tuple(Thing(**thing) for thing in objects), world=world)


def _fault(split: str, row: dict, world: World) -> str:
    """Say what is wrong with a row; empty when nothing is."""
    if split == "text":
        return f"names a held-out pair: {row['text']!r}" if names_held_out(row["text"], world) else ""
    found = bucket(scene_from_row(row["objects"], world))
    if found != split:
        return f"a {found} scene among those of {split}"
    texts = [*row["captions"], *(question["question"] for question in row["questions"])]
    bad = next((text for text in texts if split != "heldout" and names_held_out(text, world)), None)
    return f"names a held-out pair: {bad!r}" if bad else ""


def rules(world: World = FULL) -> dict:
    """Describe the rules of a world that files follow; the full one's name goes without saying, so that its files stay what they were."""
    described = {
        "canvas": world.canvas,
        "background": list(BACKGROUND),
        "palette": {color: list(PALETTE[color]) for color in world.colors},
        "shapes": list(world.shapes),
        "sizes": {size: SIZES[size] for size in world.sizes},
        "held_out_pairs": sorted([color, shape] for color, shape in world.held_out),
        "captions_per_scene": CAPTIONS_PER_SCENE,
        "questions_per_scene": QUESTIONS_PER_SCENE,
    }
    return described if world == FULL else {"name": world.name, **described}


def digest(world: World = FULL) -> str:
    """Return a hash of every rule that what is drawn of a world follows, wordings and shares included."""
    facts = {**asdict(world), "held_out": sorted(world.held_out), **rules(world)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _parts(seed: int, size: WorldSize, world: World) -> list[_Part]:
    parts = []
    for split, rows in asdict(size).items():
        folder, name, step = ("text", "train", TEXTS_PER_FILE) if split == "text" else ("scenes", split, SCENES_PER_FILE)
        files = -(-rows // step)
        for i in range(files):
            path = f"{folder}/{name}-{i:05d}-of-{files:05d}.parquet"
            parts.append(_Part(path=path, split=split, seed=seed, world=world, start=i * step, stop=min(rows, (i + 1) * step)))
    return parts


def _claim(out: Path, plan: dict) -> None:
    """Take the folder for this plan, or say why not."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        old = next((json.loads((out / name).read_text("utf-8")) for name in ("meta.json", "plan.json") if (out / name).is_file()), None)
        if old is None:
            stray = next(iter(sorted(out.iterdir())), None)
            if stray is not None:
                raise UserError(f"{out} holds {stray.name!r}, which is not a world; choose an empty folder")
        elif {key: old.get(key) for key in plan} != plan:
            changed = ", ".join(key for key in plan if old.get(key) != plan[key])
            raise UserError(f"{out} holds a world with another {changed}; choose another folder or delete this one")
        else:
            return
        _write_json(out / "plan.json", plan)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{out} cannot be used as a world folder: {error}") from error


def _write_all(out: Path, parts: list[_Part], workers: int) -> Iterator[_Part]:
    if workers <= 1 or len(parts) <= 1:
        for part in parts:
            yield _write(out, part)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(parts))) as pool:
        yield from pool.imap_unordered(_write_job, [(out, part) for part in parts])


def _write_job(job: tuple[Path, _Part]) -> _Part:
    return _write(*job)


def _write(out: Path, part: _Part) -> _Part:
    """Write one file under a temporary name, then give it its own."""
    from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if part.split == "text":
        columns: dict[str, list] = {"text": [sentence(scene_rng(part.seed, "text", i), part.world) for i in range(part.start, part.stop)]}
    else:
        rows = [_row(part.seed, part.split, i, part.world) for i in range(part.start, part.stop)]  # pyright: ignore[reportArgumentType]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
    path = out / part.path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    quiet = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        Dataset.from_dict(columns, features=_features(part.split)).to_parquet(str(temporary))
    finally:
        if not quiet:
            enable_progress_bars()
    temporary.replace(path)
    return part


def _row(seed: int, split: Split, index: int, world: World = FULL) -> dict:
    rng = scene_rng(seed, split, index)
    scene = sample_scene(rng, split, world)
    return {
        "scene_id": f"{split}-{index:07d}",
        "image": {"bytes": render_png(scene), "path": None},
        "captions": captions(scene, rng, CAPTIONS_PER_SCENE),
        "questions": [asdict(question) for question in questions(scene, rng, QUESTIONS_PER_SCENE)],
        "objects": [asdict(thing) for thing in scene.things],
    }


def _features(split: str):  # noqa: ANN202 - the type lives in a module that is slow to import
    from datasets import Features, Image, List, Value

    text = Value("string")
    if split == "text":
        return Features({"text": text})
    return Features(
        {
            "scene_id": text,
            "image": Image(),
            "captions": List(text),
            "questions": List({"question": text, "answer": text, "kind": text}),
            "objects": List({"shape": text, "color": text, "size": text, "x": Value("int32"), "y": Value("int32")}),
        }
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, data: dict) -> None:
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
