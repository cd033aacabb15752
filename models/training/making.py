"""Making the parts of a recipe, each once.

Each part writes OUT/<name>/ with its result, ``settings.yaml``, ``log.jsonl`` and, when finished, ``done.json``. A finished part whose
settings and inputs are the same is skipped; one that changed is an error that names the changed keys, unless the recipe is forced.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from jfeval.errors import UserError, unknown
from jfeval.models.training.part import Part, flatten
from jfeval.models.training.ranks import ALONE, Ranks
from jfeval.models.training.recipe import PartPlan, Recipe, load_recipe, part_function

log = logging.getLogger(__name__)

DIVIDED = ("stage",)
"""Kinds of parts that several processes train together."""


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


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    """Say which keys differ."""
    missing = "(absent)"
    keys = sorted(k for k in old.keys() | new.keys() if old.get(k, missing) != new.get(k, missing))
    lines = []
    for key in keys:
        before, after = (str(side.get(key, missing))[:60] for side in (old, new))
        lines.append(f"{name}.{key}: " + ("that part was made anew" if key.startswith("inputs.") else f"{before} -> {after}"))
    return "; ".join(lines)


def _write(path: Path, text: str) -> None:
    """Write a file beside, then rename it."""
    beside = path.with_name(path.name + ".writing")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def _make(plan: PartPlan, part: Part, identity: Mapping[str, Any], *, changed: bool) -> str:
    """Make one part and mark it done; return what later parts depend on.

    All processes train a stage; anything else is made by the first one, while the others wait.
    """
    ranks = part.ranks
    if ranks.first:
        if changed:
            shutil.rmtree(part.folder)
        part.folder.mkdir(parents=True, exist_ok=True)
        _write(part.folder / "identity.json", json.dumps(identity, indent=1, sort_keys=True))
        _write(part.folder / "settings.yaml", OmegaConf.to_yaml(OmegaConf.structured(plan.settings)))
    ranks.wait()
    if ranks.first or plan.kind in DIVIDED:
        started = time.monotonic()
        results = dict(part_function(plan.kind)(plan.settings, part if plan.kind in DIVIDED else replace(part, ranks=ALONE)))
        if ranks.first:
            _finish(plan.name, part, results, time.monotonic() - started)
    ranks.wait()
    done = _read_json(part.folder / "done.json")
    if done is None:
        raise UserError(f"{part.folder / 'done.json'}, which another process has just written, cannot be read; is the folder shared?")
    return done["outcome"]


def _finish(name: str, part: Part, results: Mapping[str, Any], seconds: float) -> None:
    """Mark a part done."""
    outcome = _digest([part.hash, results.get("content", "")])
    done = {"hash": part.hash, "outcome": outcome, "wall_seconds": round(seconds, 1), "results": results}
    _write(part.folder / "done.json", json.dumps(done, indent=1))
    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    log.info("%s finished: %s", name, ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in results.items()))


def set_threads(threads: int, processes: int = 1) -> int:
    """Let torch use `threads` threads, or for 0 this process's share of the cores that it may run on; return the number.

    Args:
        threads: The setting.
        processes: How many share the cores.
    """
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    chosen = threads or max(1, available // processes)
    torch.set_num_threads(chosen)
    return chosen


def train(
    recipe: str | Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    prepare: Mapping[str, Callable[[Path], None]] | None = None,
    dry_run: bool = False,
    force: bool = False,
    ranks: Ranks = ALONE,
) -> Path:
    """Make every part of a recipe that is not yet made, in order; return `out`.

    Args:
        recipe: A name (``shapes``) or a YAML file.
        out: Where the parts are written.
        only: Names of the parts to make; empty for all. Their inputs must be finished.
        overrides: ``part.key=value``.
        prepare: World name to a function that writes its data, used where the data folder holds none.
        dry_run: Say what would be made, and make nothing.
        force: Make changed parts anew instead of refusing.
        ranks: The processes that make them together, see `jfeval.models.training.ranks.joined`; all must call this.

    Raises:
        UserError: for a wrong recipe, a changed part, or a missing input.
    """
    checked = load_recipe(recipe, overrides)
    threads = set_threads(checked.threads, ranks.local_size)
    log.info("recipe %s: %d parts, %d threads, written to %s", recipe, len(checked.parts), threads, out)
    make_parts(checked, lambda name: out / name, only=only, prepare=prepare, dry_run=dry_run, force=force, ranks=ranks)
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
        force: Make changed parts anew.
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
        stored = _read_json(part.folder / "identity.json")
        changed = stored is not None and stored != identity
        done = _read_json(part.folder / "done.json")
        if done is not None and done["hash"] == part.hash:
            hashes[plan.name] = done["outcome"]
            log.info("%s: finished before, kept", plan.name)
            continue
        if stored is not None and changed:
            stale[plan.name] = f"{part.folder} was made with other settings ({_changes(stored, identity, plan.name)})"
            if wanted and not force:
                raise UserError(f"{stale[plan.name]}; use --force to make it anew, or another --out")
        if dry_run or not wanted:
            log.info("%s: to be made%s", plan.name, " anew" if changed else " (begun)" if stored else "")
            continue
        ranks.wait()
        hashes[plan.name] = _make(plan, part, identity, changed=changed)


def settings_digest(recipe: Recipe) -> str:
    """Return a hash of every setting that affects what a recipe makes; equal on every machine, before anything is made."""
    hashes: dict[str, str] = {}
    for plan in recipe.parts:
        hashes[plan.name] = _digest(_identity(plan, hashes))
    return _digest(hashes)
