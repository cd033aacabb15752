"""A recipe: the parts of a model in the order in which they are trained, from random weights to the exported result.

A recipe is a YAML file::

    threads: 0                 # 0 takes every core; threads=1 on the command line lets trainings run side by side
    parts:
      - {name: data, kind: data, settings: data.yaml}
      - {name: vae, kind: vae, inputs: [data], settings: vae.yaml}

``settings`` is a mapping, or a YAML file beside the recipe. ``inputs`` names earlier parts, as a list, or as a mapping from the role
the kind knows to the part's name. `jfeval.models.training.making` makes the parts.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jfeval.errors import UserError, unknown

KINDS = {
    "data": "jfeval.models.training.decoding:prepare_data",
    "sources": "jfeval.models.training.sources:prepare_sources",
    "given": "jfeval.models.training.given:take_given",
    "vae": "jfeval.models.training.vae:train_vae",
    "tokenizer": "jfeval.models.training.tokenizer:train_tokenizer",
    "contrastive": "jfeval.models.training.contrastive:train_contrastive",
    "lm": "jfeval.models.training.lm:train_lm",
    "latents": "jfeval.models.training.latents:cache_latents",
    "features": "jfeval.models.training.features:cache_features",
    "stage": "jfeval.models.training.stages:train_stage",
    "export": "jfeval.models.training.export:export",
    "diffusion": "jfeval.models.training.diffusion_part:train_diffusion",
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

    @property
    def stages(self) -> tuple[str, ...]:
        """Return the names of its stages, in order."""
        return tuple(plan.name for plan in self.parts if plan.kind == "stage")


def part_function(kind: str) -> Callable[..., Mapping[str, Any]]:
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
    """Read and check a recipe; `overrides` are ``part.key=value``, or ``threads=N``.

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
    threads = raw.get("threads", 0)
    for override in overrides:
        if override.startswith("threads="):
            threads = override.removeprefix("threads=")
            continue
        part, dot, rest = override.partition(".")
        if not dot or "=" not in rest:
            raise UserError(f"override {override!r} must look like part.key=value, or threads=N")
        if part not in by_part:
            raise unknown("part", part, names)
        by_part[part].append(rest)
    parts = [_plan(entry, path, names[:i], by_part[names[i]]) for i, entry in enumerate(entries)]
    if not str(threads).isdecimal():
        raise UserError(f"{path.name}: threads must be a whole number, 0 for one per core; found {threads!r}")
    return Recipe(parts=tuple(parts), threads=int(threads))


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
    function = part_function(str(entry.get("kind", "")))
    settings = build_settings(get_type_hints(function)["settings"], given, overrides, entry["name"])
    return PartPlan(name=entry["name"], kind=entry["kind"], inputs=inputs, settings=settings)
