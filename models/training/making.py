"""Making the parts of a recipe, each once.

Each part writes OUT/<name>/ with its result, ``settings.yaml``, ``log.jsonl`` and, when finished, ``done.json``. A finished part whose
settings and inputs are the same is skipped; one that changed is an error that names the changed keys, unless it is asked to go on under
the new settings, or to be made anew (`jfeval.models.training.revising`).
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from jfeval.cores import available_cores
from jfeval.errors import UserError, unknown
from jfeval.models.training.checkpoints import CHECKPOINTS_FOLDER
from jfeval.models.training.part import Part, flatten
from jfeval.models.training.ranks import ALONE, Ranks
from jfeval.models.training.recipe import PartPlan, Recipe, load_recipe, part_function
from jfeval.models.training.revising import DONE_FILE, accepted, can_go_on, changes, go_on, set_aside

log = logging.getLogger(__name__)

DIVIDED = ("stage",)
"""Kinds of parts that several processes train together."""
_IDENTITY_FILE = "identity.json"
_ADVICE = "move that folder away, or write to another place"
_TRAIN_ADVICE = (
    "--force goes on from its last checkpoint where it has one and its inputs are the same, and else makes it anew; --anew makes it anew; "
    "both keep the old folder where they make one; or give another --out"
)


def _identity(plan: PartPlan, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return everything a part's result depends on, as dotted keys to plain values."""
    inputs = {f"inputs.{role}": hashes[name] for role, name in sorted(plan.inputs.items())}
    return {"kind": plan.kind, **flatten(plan.settings), **inputs}


def _digest(value: object) -> str:
    """Hash a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, or None where there is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, text: str) -> None:
    """Write a file beside, then rename it."""
    beside = path.with_name(path.name + ".writing")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def _make(plan: PartPlan, part: Part, identity: Mapping[str, Any]) -> str:
    """Make one part and mark it done; return what later parts depend on.

    All processes train a stage; anything else is made by the first one, while the others wait.
    """
    ranks = part.ranks
    if ranks.first:
        part.folder.mkdir(parents=True, exist_ok=True)
        _write(part.folder / _IDENTITY_FILE, json.dumps(identity, indent=1, sort_keys=True))
        _write(part.folder / "settings.yaml", OmegaConf.to_yaml(OmegaConf.structured(plan.settings)))
    ranks.wait()
    if ranks.first or plan.kind in DIVIDED:
        started = time.monotonic()
        results = dict(part_function(plan.kind)(plan.settings, part if plan.kind in DIVIDED else replace(part, ranks=ALONE)))
        if ranks.first:
            _finish(plan.name, part, results, time.monotonic() - started)
    ranks.wait()
    done = _read_json(part.folder / DONE_FILE)
    if done is None:
        raise UserError(f"{part.folder / DONE_FILE}, which another process has just written, cannot be read; is the folder shared?")
    return done["outcome"]


def _finish(name: str, part: Part, results: Mapping[str, Any], seconds: float) -> None:
    """Mark a part done. One that went on under changed settings is not taken for one that was trained under these throughout."""
    outcome = _digest([part.hash, results.get("content", ""), *accepted(part.folder)])
    done = {"hash": part.hash, "outcome": outcome, "wall_seconds": round(seconds, 1), "results": results}
    _write(part.folder / DONE_FILE, json.dumps(done, indent=1))
    shutil.rmtree(part.folder / CHECKPOINTS_FOLDER, ignore_errors=True)
    log.info("%s finished: %s", name, ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in results.items()))


def set_threads(threads: int, processes: int = 1) -> int:
    """Let torch use `threads` threads, or for 0 this process's share of the cores that it may run on; return the number.

    Args:
        threads: The setting.
        processes: How many share the cores.
    """
    import torch

    chosen = threads or max(1, available_cores() // processes)
    torch.set_num_threads(chosen)
    return chosen


def train(
    recipe: str | Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    prepare: Mapping[str, Callable[[Path], None]] | None = None,
    evaluate: Callable[[Any, str, int], Mapping[str, float]] | None = None,
    dry_run: bool = False,
    force: bool = False,
    anew: bool = False,
    ranks: Ranks = ALONE,
) -> Path:
    """Make every part of a recipe that is not yet made, in order; return `out`.

    Args:
        recipe: A name (``shapes``) or a YAML file.
        out: Where the parts are written.
        only: Names of the parts to make; empty for all. Their inputs must be finished.
        overrides: ``part.key=value``, or ``threads=N``.
        prepare: World name to a function that writes its data, used where the data folder holds none.
        evaluate: Scores a stage's live pipeline; see `Part.evaluate`.
        dry_run: Say what would be made, and make nothing.
        force: Let a changed part go on from its last checkpoint, where it has one and its inputs are the same; make it anew otherwise.
        anew: Make changed parts anew. Their old folders are renamed to NAME.before-1 and so on, here as with `force`.
        ranks: The processes that make them together, see `jfeval.models.training.ranks.joined`; all must call this.

    Raises:
        UserError: for a wrong recipe, a changed part, or a missing input.
    """
    checked = load_recipe(recipe, overrides)
    threads = set_threads(checked.threads, ranks.local_size)
    log.info("recipe %s: %d parts, %d threads, written to %s", recipe, len(checked.parts), threads, out)
    how: dict[str, Any] = {"evaluate": evaluate, "dry_run": dry_run, "force": force, "anew": anew, "ranks": ranks}
    make_parts(checked, lambda name: out / name, only=only, prepare=prepare, advice=_TRAIN_ADVICE, **how)
    return out


def make_parts(
    recipe: Recipe,
    place: Callable[[str], Path],
    *,
    only: Sequence[str] = (),
    prepare: Mapping[str, Callable[[Path], None]] | None = None,
    evaluate: Callable[[Any, str, int], Mapping[str, float]] | None = None,
    dry_run: bool = False,
    force: bool = False,
    anew: bool = False,
    advice: str = _ADVICE,
    ranks: Ranks = ALONE,
) -> None:
    """Make every part of a checked recipe that is not yet made, in order.

    Args:
        recipe: The parts.
        place: Name of a part to its folder; parts that several recipes share have one place.
        only: See `train`, as the arguments below.
        prepare: World name to a function that writes its data.
        evaluate: Scores a stage's live pipeline; see `Part.evaluate`.
        dry_run: Make nothing.
        force: Let changed parts go on.
        anew: Make changed parts anew.
        advice: What whoever asked can do about a changed part; ends the error.
        ranks: See `train`.

    Raises:
        UserError: see `train`.
    """
    for name in only:
        if name not in [p.name for p in recipe.parts]:
            raise unknown("part", name, [p.name for p in recipe.parts])
    if ranks.size > 1:
        from jfeval.models.training.stages import check_stages

        check_stages(recipe, ranks.size, lambda name: (not only or name in only) and not (place(name) / "done.json").is_file())
    hashes: dict[str, str] = {}
    stale: dict[str, str] = {}
    for plan in recipe.parts:
        wanted = not only or plan.name in only
        missing = [name for name in plan.inputs.values() if name not in hashes]
        if missing and (dry_run or not wanted):
            log.info("%s: waits for %s", plan.name, ", ".join(missing))
            continue
        if missing:
            reasons = "; ".join(stale.get(name, f"{name} is not finished") for name in missing)
            raise UserError(f"part {plan.name!r} needs {', '.join(missing)}: {reasons}")
        identity = _identity(plan, hashes)
        part = Part(
            name=plan.name,
            folder=place(plan.name),
            inputs={role: place(name) for role, name in plan.inputs.items()},
            hash=_digest(identity),
            prepare=prepare or {},
            evaluate=evaluate,
            ranks=ranks,
        )
        ranks.wait()  # nobody writes while somebody looks
        stored = _read_json(part.folder / _IDENTITY_FILE)
        changed = "" if stored is None else changes(stored, identity, plan.name)
        continued = not anew and stored is not None and can_go_on(part.folder, stored, identity)
        done = _read_json(part.folder / DONE_FILE)
        if done is not None and done["hash"] == part.hash:
            hashes[plan.name] = done["outcome"]
            log.info("%s: finished before, kept", plan.name)
            continue
        if changed:
            stale[plan.name] = f"{part.folder} was made with other settings ({changed})"
            if wanted and not (force or anew):
                raise UserError(f"{stale[plan.name]}; {advice}")
        if dry_run or not wanted:
            log.info("%s: to be made%s", plan.name, "" if stored is None else " anew" if changed and not continued else " (begun)")
            continue
        ranks.wait()
        if ranks.first and continued and force:
            go_on(part, changed)
        elif ranks.first and changed:
            set_aside(part.folder)
        hashes[plan.name] = _make(plan, part, identity)


def settings_digest(recipe: Recipe) -> str:
    """Return a hash of every setting that affects what a recipe makes; equal on every machine, before anything is made."""
    hashes: dict[str, str] = {}
    for plan in recipe.parts:
        hashes[plan.name] = _digest(_identity(plan, hashes))
    return _digest(hashes)
