"""A recipe: the parts of a model in the order in which they are trained, from random weights to the exported result.

A recipe is a YAML file::

    threads: 0                 # 0 takes every core
    parts:
      - {name: data, kind: data, settings: data.yaml}
      - {name: vae, kind: vae, inputs: [data], settings: vae.yaml}

``settings`` is a mapping, or a YAML file beside the recipe. ``inputs`` names earlier parts, as a list, or as a mapping from the role
the kind knows to the part's name. Each part writes OUT/<name>/ with its result, ``settings.yaml``, ``log.jsonl`` and, when finished,
``done.json``. A finished part whose settings and inputs are the same is skipped; one that changed is an error that names the changed
keys, unless the recipe is forced.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jfeval.errors import UserError, unknown
from jfeval.models.training.part import Part, flatten

log = logging.getLogger(__name__)

KINDS = {
    "data": "jfeval.models.training.data:prepare_data",
    "sources": "jfeval.models.training.sources:prepare_sources",
    "given": "jfeval.models.training.given:take_given",
    "vae": "jfeval.models.training.vae:train_vae",
    "tokenizer": "jfeval.models.training.tokenizer:train_tokenizer",
    "contrastive": "jfeval.models.training.contrastive:train_contrastive",
    "lm": "jfeval.models.training.lm:train_lm",
    "latents": "jfeval.models.training.latents:cache_latents",
    "stage": "jfeval.models.training.stages:train_stage",
    "export": "jfeval.models.training.export:export",
}
"""Kind of part to the function that makes it; its parameter ``settings`` is annotated with the kind's settings dataclass."""

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_RECIPE_KEYS = ("threads", "parts")
_PART_KEYS = ("name", "kind", "inputs", "settings")


@dataclass(frozen=True, kw_only=True)
class PartPlan:
    """One part as the recipe describes it."""

    name: str
    kind: str
    inputs: Mapping[str, str]
    """Role to part name."""
    settings: Any
    """An instance of the kind's settings dataclass."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe."""

    parts: tuple[PartPlan, ...]
    threads: int = 0


def _function(kind: str) -> Callable[..., Mapping[str, Any]]:
    """Import the function of a kind."""
    if kind not in KINDS:
        raise unknown("kind of part", kind, KINDS)
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)


def _check_keys(schema: type, given: object, where: str) -> None:
    """Raise UserError for the first key that the dataclass does not have, at any depth."""
    if not isinstance(given, Mapping):
        return
    types = get_type_hints(schema)
    for key, value in given.items():
        if key not in types:
            raise unknown(f"setting in {where}", str(key), types)
        if dataclasses.is_dataclass(types[key]) and isinstance(types[key], type):
            _check_keys(types[key], value, f"{where}.{key}")


def build_settings(schema: type, given: Mapping[str, Any], overrides: Sequence[str], where: str) -> Any:  # noqa: ANN401 - the schema's type
    """Build a settings dataclass from a mapping and ``key=value`` overrides.

    Raises:
        UserError: for an unknown key (naming the nearest), a value of the wrong type, or one the dataclass refuses.
    """
    try:
        extra = OmegaConf.from_dotlist(list(overrides))
        for source in (given, OmegaConf.to_container(extra)):
            _check_keys(schema, source, where)
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(dict(given)), extra))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError(f"{where}: {str(error).strip().splitlines()[0]}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        UserError: The file is missing or is no YAML mapping.
    """
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # YAML, OmegaConf and the file system each have their own
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping")
    return {str(key): value for key, value in loaded.items()}


def recipe_path(recipe: str | Path) -> Path:
    """Find a recipe by name (``shapes``) or by path.

    Raises:
        UserError: naming the known recipes.
    """
    named = CONFIGS / str(recipe) / "recipe.yaml"
    if isinstance(recipe, str) and named.is_file():
        return named
    path = Path(recipe)
    if path.is_file():
        return path
    raise unknown("recipe", str(recipe), [p.parent.name for p in CONFIGS.glob("*/recipe.yaml")])


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; `overrides` are ``part.key=value``.

    Raises:
        UserError: for anything that is not as the format says, before any training starts.
    """
    path = recipe_path(recipe)
    raw = read_yaml(path)
    for key in raw:
        if key not in _RECIPE_KEYS:
            raise unknown(f"key in {path.name}", key, _RECIPE_KEYS)
    entries = raw.get("parts") or []
    names = [str(entry.get("name", "")) for entry in entries]
    if not entries or len(set(names)) != len(names) or not all(n.isidentifier() for n in names):
        raise UserError(f"{path}: parts need distinct names of letters, digits and '_'; found {names}")
    by_part: dict[str, list[str]] = {name: [] for name in names}
    for override in overrides:
        part, dot, rest = override.partition(".")
        if not dot or "=" not in rest:
            raise UserError(f"override {override!r} must look like part.key=value")
        if part not in by_part:
            raise unknown("part", part, names)
        by_part[part].append(rest)
    parts = [_plan(entry, path, names[:i], by_part[names[i]]) for i, entry in enumerate(entries)]
    return Recipe(parts=tuple(parts), threads=int(raw.get("threads", 0)))


def _plan(entry: Mapping[str, Any], path: Path, earlier: Sequence[str], overrides: Sequence[str]) -> PartPlan:
    """Check one entry of a recipe."""
    for key in entry:
        if key not in _PART_KEYS:
            raise unknown(f"key of part {entry['name']!r}", key, _PART_KEYS)
    inputs = entry.get("inputs") or {}
    inputs = dict(inputs) if isinstance(inputs, Mapping) else {name: name for name in inputs}
    for name in inputs.values():
        if name not in earlier:
            raise unknown(f"input of part {entry['name']!r} among the parts before it", str(name), earlier)
    given = entry.get("settings") or {}
    if isinstance(given, str):
        given = read_yaml(path.parent / given)
    function = _function(str(entry.get("kind", "")))
    settings = build_settings(get_type_hints(function)["settings"], given, overrides, entry["name"])
    return PartPlan(name=entry["name"], kind=entry["kind"], inputs=inputs, settings=settings)


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


def _run_part(plan: PartPlan, part: Part, identity: Mapping[str, Any]) -> str:
    """Make one part and mark it done; return what later parts depend on."""
    part.folder.mkdir(parents=True, exist_ok=True)
    _write(part.folder / "identity.json", json.dumps(identity, indent=1, sort_keys=True))
    _write(part.folder / "settings.yaml", OmegaConf.to_yaml(OmegaConf.structured(plan.settings)))
    started = time.monotonic()
    results = dict(_function(plan.kind)(plan.settings, part))
    outcome = _digest([part.hash, results.get("content", "")])
    done = {"hash": part.hash, "outcome": outcome, "wall_seconds": round(time.monotonic() - started, 1), "results": results}
    _write(part.folder / "done.json", json.dumps(done, indent=1))
    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    log.info("%s finished: %s", plan.name, ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in results.items()))
    return outcome


def set_threads(threads: int) -> int:
    """Let torch use `threads` threads, or all cores this process may run on for 0; return the number."""
    import torch

    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(threads or available)
    return threads or available


def train(
    recipe: str | Path,
    out: Path,
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    prepare: Mapping[str, Callable[[Path], None]] | None = None,
    dry_run: bool = False,
    force: bool = False,
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

    Raises:
        UserError: for a wrong recipe, a changed part, or a missing input.
    """
    checked = load_recipe(recipe, overrides)
    threads = set_threads(checked.threads)
    log.info("recipe %s: %d parts, %d threads, written to %s", recipe, len(checked.parts), threads, out)
    make_parts(checked, lambda name: out / name, only=only, prepare=prepare, dry_run=dry_run, force=force)
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

    Raises:
        UserError: see `train`.
    """
    for name in only:
        if name not in [p.name for p in recipe.parts]:
            raise unknown("part", name, [p.name for p in recipe.parts])
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
        )
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
        if changed:
            shutil.rmtree(part.folder)
        hashes[plan.name] = _run_part(plan, part, identity)


def settings_digest(recipe: Recipe) -> str:
    """Return a hash of every setting that affects what a recipe makes; equal on every machine, before anything is made."""
    hashes: dict[str, str] = {}
    for plan in recipe.parts:
        hashes[plan.name] = _digest(_identity(plan, hashes))
    return _digest(hashes)
