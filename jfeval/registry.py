"""Names of models and benchmarks, and how to get from a name to the thing.

Built-in names stand in two tables below; an installed distribution adds its own through the entry-point groups ``jfeval.models`` and
``jfeval.benchmarks``. Nothing is imported until it is asked for, and no run folder or YAML file ever holds an import path.

A model's factory is a function of one argument, annotated with a frozen dataclass of settings::

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        guidance_scale: float = 2.0

    def load(settings: Settings) -> Generates: ...

A benchmark's factory takes no argument, or such a one.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jfeval.errors import UserError, unknown
from jfeval.settings import FieldDoc, field_docs, resolve

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.models.base import Model

Kind: TypeAlias = Literal["model", "benchmark"]

MODELS: Mapping[str, str] = {
    "janusflow-shapes": "jfeval.models.shapes:load",
    "janusflow": "jfeval.models.janusflow.adapter:load",
    "hf": "jfeval.models.adapters.chat:load",
    "diffusers": "jfeval.models.adapters.diffusion:load",
    "janus": "jfeval.models.adapters.janus:load",
    "api": "jfeval.models.adapters.api:load",
    "folder": "jfeval.models.adapters.folder:load",
    "answers": "jfeval.models.adapters.answers:load",
    "nearest-caption": "jfeval.models.adapters.retrieval:load",
    "majority-answer": "jfeval.models.adapters.majority:load",
}
BENCHMARKS: Mapping[str, str] = {
    "geneval": "jfeval.benchmarks.geneval:GenEval",
    "geneval-heldout": "jfeval.benchmarks.geneval:GenEvalHeldOut",
    "dpg": "jfeval.benchmarks.dpg:DPG",
    "mjhq": "jfeval.benchmarks.mjhq:MJHQ",
    "coco": "jfeval.benchmarks.coco:COCO",
    "pope": "jfeval.benchmarks.pope:Pope",
    "gqa": "jfeval.benchmarks.gqa:Gqa",
    "mmbench": "jfeval.benchmarks.mmbench:MMBench",
    "mmbench-cn": "jfeval.benchmarks.mmbench:MMBenchCN",
    "seed": "jfeval.benchmarks.seed:Seed",
    "seed-likelihood": "jfeval.benchmarks.seed:SeedLikelihood",
}
_TABLES: Mapping[Kind, Mapping[str, str]] = {"model": MODELS, "benchmark": BENCHMARKS}
_GROUPS: Mapping[Kind, str] = {"model": "jfeval.models", "benchmark": "jfeval.benchmarks"}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a name stands for, for people."""

    name: str
    kind: Kind
    source: str
    """``built in`` or the distribution that brings it."""
    summary: str
    settings: tuple[FieldDoc, ...] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Editions and protocols of a benchmark."""


def list_models() -> list[str]:
    """List the names of models, built in and plugged in."""
    return _names("model")


def list_benchmarks() -> list[str]:
    """List the names of benchmarks, built in and plugged in."""
    return _names("benchmark")


def split_place(model: str) -> tuple[str, dict[str, object]]:
    """Split ``hf:PATH`` into the model's name and its setting ``path``; a bare name has none.

    >>> split_place("diffusers:stabilityai/sdxl")
    ('diffusers', {'path': 'stabilityai/sdxl'})
    """
    name, _, place = model.partition(":")
    return name, ({"path": place} if place else {})


def check_name(kind: Kind, name: str) -> None:
    """Raise UserError when a name is not known; imports nothing."""
    names = _names(kind)
    if name not in names:
        raise unknown(kind, name, names)


def model_settings(name: str, values: Mapping[str, object] | None = None, overrides: Sequence[str] = ()) -> object:
    """Check a model's settings without loading the model.

    Raises:
        UserError: An unknown model, an unknown setting, or a value that does not fit.
    """
    return _checked_settings("model", name, values, overrides)


def benchmark_settings(name: str, values: Mapping[str, object] | None = None, overrides: Sequence[str] = ()) -> object:
    """Check a benchmark's settings without loading its data; None for a benchmark that takes none.

    Raises:
        UserError: An unknown benchmark, an unknown setting, or a value that does not fit.
    """
    return _checked_settings("benchmark", name, values, overrides)


def _checked_settings(kind: Kind, name: str, values: Mapping[str, object] | None, overrides: Sequence[str]) -> object:
    cls = _settings_class(kind, _factory(kind, name))
    if cls is None:
        if values or overrides:
            raise UserError(f"{kind} {name!r} takes no settings, got {', '.join([*(values or {}), *overrides])}")
        return None
    return resolve(cls, values=values, overrides=overrides)


def load_model(name: str, **settings: object) -> "Model":
    """Load a model by name with its own settings.

    >>> model = load_model("janusflow-shapes", guidance_scale=3.0)  # doctest: +SKIP
    """
    return build_model(name, model_settings(name, settings))


def build_model(name: str, settings: object) -> "Model":
    """Load a model with settings that `model_settings` checked."""
    factory = _factory("model", name)
    return factory() if settings is None else factory(settings)


def load_benchmark(name: str, **settings: object) -> "Benchmark":
    """Load a benchmark by name with its own settings, which few have."""
    checked = benchmark_settings(name, settings)
    factory = _factory("benchmark", name)
    return factory() if checked is None else factory(checked)


def can(model: str, method: str) -> bool:
    """Tell whether a model has a method, such as ``generate``, by the class that its factory says it returns; loads nothing.

    True where that cannot be told: no annotation, a Protocol, or a name that is imported for type checkers alone.

    >>> can("folder", "generate"), can("folder", "answer")
    (True, False)
    """
    factory = _factory("model", model)
    made = inspect.signature(factory).return_annotation
    if isinstance(made, str):
        made = getattr(sys.modules[factory.__module__], made, None)
    return not isinstance(made, type) or made is inspect.Signature.empty or getattr(made, "_is_protocol", False) or hasattr(made, method)


def describe(name: str) -> Description:
    """Say what a model's or benchmark's name stands for.

    Raises:
        UserError: No model and no benchmark has this name.
    """
    for kind in _TABLES:
        if name in _names(kind):
            return _describe(kind, name)
    raise unknown("name", name, [*list_models(), *list_benchmarks()])


def _describe(kind: Kind, name: str) -> Description:
    factory = _factory(kind, name)
    plugin = _plugins(kind).get(name)
    source = plugin.dist.name if plugin is not None and plugin.dist is not None else "built in"
    summary = " ".join((inspect.getdoc(factory) or "").split("\n\n", 1)[0].split())
    cls = _settings_class(kind, factory)
    settings = tuple(field_docs(cls)) if cls else ()
    if kind == "model":
        return Description(name=name, kind=kind, source=source, summary=summary, settings=settings)
    benchmark = load_benchmark(name)
    facts = {"editions": ", ".join(benchmark.editions), "protocols": ", ".join(benchmark.protocols)}
    return Description(name=name, kind=kind, source=source, summary=summary, settings=settings, facts=facts)


def _names(kind: Kind) -> list[str]:
    return [*_TABLES[kind], *sorted(set(_plugins(kind)) - set(_TABLES[kind]))]


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUPS[kind])}


def _factory(kind: Kind, name: str) -> Callable[..., Any]:
    """Import what a name stands for; a built-in name cannot be taken over by a plug-in."""
    check_name(kind, name)
    target = _TABLES[kind].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        return getattr(import_module(module), attribute)
    point = _plugins(kind)[name]
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{kind} {name!r} is registered as {point.value!r} but cannot be imported: {error}") from error


def _settings_class(kind: Kind, factory: Callable[..., Any]) -> type | None:
    """Return the dataclass that a factory's only parameter is annotated with; None when it takes none.

    A benchmark's parameters may also be others, which then all have defaults; a model's may not.
    """
    parameters = list(inspect.signature(factory).parameters.values())
    if not parameters:
        return None
    cls = parameters[0].annotation
    if isinstance(cls, str):  # only this one is resolved: the others may name types that are imported for type checkers alone
        cls = getattr(sys.modules[factory.__module__], cls, None)
    if len(parameters) != 1 or not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        if kind == "benchmark":
            return None
        raise UserError(f"the factory {factory.__qualname__} must take one argument annotated with a dataclass of settings")
    return cls
