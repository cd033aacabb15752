"""A part that somebody else trained: a language model, an understanding encoder, a VAE or a tokenizer in a folder."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from jfeval.errors import UserError
from jfeval.models.janusflow.config import LanguageConfig, VisionConfig
from jfeval.models.janusflow.parts import language_config, vision_config
from jfeval.models.training.part import Part
from jfeval.settings import NO_EFFECT

_HASHED = {".safetensors", ".bin", ".json"}


@dataclass(frozen=True, kw_only=True)
class GivenSettings:
    """Where a ready part lies and what it is."""

    holds: Literal["lm", "siglip", "vae", "tokenizer"]
    """What it is; later parts find it under this name."""
    path: str = field(default="", metadata=NO_EFFECT)
    """Its folder in transformers' or diffusers' form; its contents, not its place, enter the hash."""
    embedded: bool = False
    """Take the VAE or the tokenizer of the embedded model instead of a folder."""
    origin: str = field(default="", metadata=NO_EFFECT)
    """Its published name, for people."""
    revision: str = field(default="unpinned", metadata=NO_EFFECT)
    """The commit it was taken at, for people; what was used is identified by its contents."""
    language: LanguageConfig = field(default_factory=LanguageConfig)
    """Sizes that a language model must have; a dry run counts with them before anything is there."""
    vision: VisionConfig = field(default_factory=VisionConfig)
    """Sizes that an understanding encoder must have."""

    def __post_init__(self) -> None:
        """Refuse to take from the embedded model what it does not have in its first form."""
        if self.embedded and (self.path or self.holds in ("lm", "siglip")):
            raise UserError("embedded: true gives the embedded model's vae or tokenizer; the rest of it is trained further, so name a path")


def take_given(settings: GivenSettings, part: Part) -> dict[str, str]:
    """Link a ready part into the recipe's folder, once its sizes are known to be the stated ones.

    Raises:
        UserError: There is no folder, or what it holds has other sizes; names them.
    """
    source = _source(settings, part.name)
    if settings.holds == "lm":
        _same_sizes(part.name, source, asdict(settings.language), asdict(language_config(source)), ignored={"max_position_embeddings"})
    if settings.holds == "siglip":
        _same_sizes(part.name, source, asdict(settings.vision), asdict(vision_config(source)), ignored={"model_name", "mlp_ratio"})
    link = part.folder / settings.holds
    link.unlink(missing_ok=True)
    link.symlink_to(source.resolve(), target_is_directory=True)
    return {"content": contents(source), "from": settings.origin or settings.path or "the embedded model"}


def _source(settings: GivenSettings, name: str) -> Path:
    if settings.embedded:
        from jfeval.models.shapes import WEIGHTS

        return WEIGHTS / "vae" if settings.holds == "vae" else WEIGHTS
    if not settings.path:
        raise UserError(f"{name}: give the folder of {settings.origin or settings.holds} with {name}.path=FOLDER")
    source = Path(settings.path)
    if not source.is_dir():
        raise UserError(f"{name}: {source} is no folder; give that of {settings.origin or settings.holds} with {name}.path=FOLDER")
    return source


def _same_sizes(name: str, source: Path, stated: dict, found: dict, *, ignored: set[str]) -> None:
    different = [f"{key} {found[key]} instead of {stated[key]}" for key in stated if key not in ignored and found[key] != stated[key]]
    if different:
        raise UserError(f"{name}: the model in {source} has {', '.join(different)}; change the part's sizes or its path")


def contents(folder: Path) -> str:
    """Return a sha256 over the weights and JSON files of a folder, names included."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.suffix in _HASHED):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
