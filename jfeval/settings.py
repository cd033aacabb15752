"""Settings: YAML, then ``key=value``, into frozen dataclasses, with errors that name the key and the nearest one."""

import ast
import dataclasses
import hashlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, LiteralNode, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException

from jfeval.errors import UserError, unknown
from jfeval.schema import EDITIONS

T = TypeVar("T")

MAX_TITLE = 80
"""Most characters of a model's title."""

_PLACES = ("path", "model")
"""Settings of models that name what is loaded or served."""

NO_EFFECT = {"affects_result": False}
"""Metadata of settings that change how something is done but not what comes out: a finished part of a training stays valid when they
change, and a run goes on in the same folder."""


def affects_result(item: dataclasses.Field) -> bool:
    """Tell whether a setting can change what comes out."""
    return item.metadata.get("affects_result", True)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One run: a model on a benchmark."""

    benchmark: str = "geneval"
    """Name of a benchmark; ``jfeval list`` shows them."""
    edition: str = "shapes"
    """``official`` data, ``shapes``, the embedded synthetic world, or ``shapes-small``, an easier one for sweeps of trainings."""
    model: str = "janusflow-shapes"
    """Name of a model; ``jfeval list`` shows them."""
    model_settings: dict[str, Any] = field(default_factory=dict)
    """The model's own settings; ``jfeval describe MODEL`` shows them."""
    benchmark_settings: dict[str, Any] = field(default_factory=dict)
    """The benchmark's own settings; ``jfeval describe BENCHMARK`` shows them."""
    title: str = ""
    """What tables call the model; empty for its name and what it loads, as in ``llava-1.5-7b-hf (hf)``."""
    protocol: str = ""
    """Way of scoring; empty for the benchmark's first."""
    seed: int = 0
    """Changes the noise and, in the shapes edition, the draw of prompts."""
    limit: int | None = None
    """Take this many samples, spread evenly over tasks; the run is marked as limited everywhere."""
    batch_size: int = 16
    """Images (or questions) per planned batch; 0 to find out what fits by one probe on the longest."""
    max_failures: float = 0.01
    """Fail the run when more than this share of its samples fails."""
    data: Path | None = None
    """Local folder of official data."""
    out: Path | None = None
    """The run folder; by default one under ``runs`` that is named for the settings."""

    def __post_init__(self) -> None:
        """Check what needs no model and no data."""
        if self.edition not in EDITIONS:
            raise unknown("edition", self.edition, EDITIONS)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}")
        if self.batch_size < 0:
            raise ValueError(f"batch_size must be at least 1, or 0 for an automatic one, got {self.batch_size}")
        if not 0 <= self.max_failures <= 1:
            raise ValueError(f"max_failures must be a share in [0, 1], got {self.max_failures}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in [0, 2**63), got {self.seed}")
        if len(self.title) > MAX_TITLE or self.title != self.title.strip() or not self.title.isprintable():
            raise ValueError(f"title must be one line of at most {MAX_TITLE} characters without spaces around it, got {self.title[:100]!r}")

    @property
    def shown(self) -> str:
        """What tables call the model: its title, else its name and the last part of the path, hub id or served name that it was given."""
        if self.title:
            return self.title
        places = (str(self.model_settings.get(key) or "") for key in _PLACES)
        place = next((name for name in (Path(place).name.removesuffix(".jsonl") for place in places) if name), "")
        return f"{place[:MAX_TITLE]} ({self.model})" if place else self.model

    @property
    def folder(self) -> Path:
        """Where the run goes: by default another folder for another benchmark, edition, model, setting of the model, seed or limit."""
        if self.out is not None:
            return self.out
        words = [self.benchmark, self.edition, self.model, f"seed{self.seed}"]
        for chosen in (self.model_settings, self.benchmark_settings):
            if chosen:
                words.append(hashlib.sha256(repr(sorted(chosen.items())).encode()).hexdigest()[:8])
        if self.limit is not None:
            words.append(f"limit{self.limit}")
        return Path("runs") / "-".join(words)


def resolve(cls: type[T], *, file: Path | None = None, values: Mapping[str, object] | None = None, overrides: Sequence[str] = ()) -> T:
    """Build a settings dataclass from its defaults, a YAML file, ready values and ``key=value`` texts, the later winning.

    Args:
        cls: The dataclass; its ``__post_init__`` may raise ValueError.
        file: YAML file whose keys are fields.
        values: Field values, for example from command-line options.
        overrides: Texts like ``num_steps=30`` or ``optimizer.lr=1e-4``, values in YAML syntax.

    Raises:
        UserError: An unknown key, a value of another type, a value out of range, or a file that is not YAML; names the nearest key.
    """
    config = OmegaConf.structured(cls)
    layers: list[tuple[str, object]] = []
    if file is not None:
        layers.append((str(file), _load_yaml(file)))
    layers.append(("", OmegaConf.create(dict(values or {}))))
    layers.extend((text, _parse_override(text)) for text in overrides)
    for source, layer in layers:
        _check_layer(config, layer, prefix="", source=source)
        try:
            config = OmegaConf.merge(config, layer)
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            raise UserError(_explain(error, source)) from error
    try:
        return OmegaConf.to_object(config)  # pyright: ignore[reportReturnType]
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(_explain(error, "")) from error


def to_yaml(settings: object) -> str:
    """Return a settings dataclass as YAML, every field written out."""
    return OmegaConf.to_yaml(OmegaConf.create(_plain(OmegaConf.to_container(OmegaConf.structured(settings)))))


def _plain(value: Any) -> Any:  # noqa: ANN401  a tree of whatever the settings hold
    """Write paths as text, which YAML has a form for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True, kw_only=True)
class FieldDoc:
    """One field of a settings dataclass, for people."""

    name: str
    type: str
    default: str
    doc: str


def field_docs(cls: type) -> list[FieldDoc]:
    """List a dataclass's fields with the line of documentation under each."""
    docs = _docs_under_fields(cls)
    rows = []
    for item in dataclasses.fields(cls):
        if item.default is not dataclasses.MISSING:
            default = repr(item.default)
        elif item.default_factory is not dataclasses.MISSING:
            default = repr(item.default_factory())
        else:
            default = "required"
        type_name = item.type.__name__ if isinstance(item.type, type) else re.sub(r"\b[a-z_]+\.", "", str(item.type))
        rows.append(FieldDoc(name=item.name, type=type_name, default=default, doc=docs.get(item.name, "")))
    return rows


def _docs_under_fields(cls: type) -> dict[str, str]:
    """Read the text under each field, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        found.update(_own_docs(base))
    return found


def _own_docs(cls: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for above, below in itertools.pairwise(body):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                found[above.target.id] = " ".join(text.split())
    return found


def _load_yaml(file: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(file)
    except FileNotFoundError as error:
        raise UserError(f"settings file {file} does not exist") from error
    except Exception as error:  # PyYAML's errors share no public base with OmegaConf's
        raise UserError(f"settings file {file} is not YAML: {error}") from error
    if not isinstance(loaded, DictConfig):
        raise UserError(f"settings file {file} must hold keys and values, found a list")
    return loaded


def _parse_override(text: str) -> DictConfig:
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"expected key=value, got {text!r}")
    try:
        return OmegaConf.from_dotlist([text])
    except Exception as error:  # YAML syntax inside the value
        raise UserError(f"cannot read the value in {text!r}: {error}") from error


def _check_layer(config: object, layer: object, *, prefix: str, source: str) -> None:
    """Refuse keys that the dataclass tree does not have, and values that a field of named choices does not have."""
    if not isinstance(config, DictConfig) or not isinstance(layer, DictConfig) or OmegaConf.get_type(config) is dict:
        return
    where = f" in {source}" if source and "=" not in source else ""
    for key in layer:
        if key not in config:
            raise unknown(f"setting{where}", f"{prefix}{key}", [f"{prefix}{name}" for name in config])
        node, given = config._get_node(key), layer._get_node(key)
        _check_layer(node, given, prefix=f"{prefix}{key}.", source=source)
        if isinstance(node, LiteralNode) and isinstance(given, ValueNode) and not given._is_interpolation():
            value, choices = given._value(), get_args(node.ref_type)
            if value is not None and value not in choices:
                raise unknown(f"{prefix}{key}{where}", str(value), map(str, choices))


def _explain(error: Exception, source: str) -> str:
    key = getattr(error, "full_key", "") or ""
    reason = str(error).split("\n", 1)[0]
    where = f"{source}: " if source else f"setting {key}: " if key else "settings: "
    return where + reason
