"""A part that somebody else trained: a language model, an understanding encoder, a VAE, a tokenizer or a whole JanusFlow in a folder."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.checkpoint import fitting_table
from jfeval.models.janusflow.config import JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.parts import language_config, vision_config
from jfeval.models.training.card import LEARNED_FILE
from jfeval.models.training.encoders import VARIANT_WEIGHTS
from jfeval.models.training.part import Part
from jfeval.models.training.stages import HEAD_FILE
from jfeval.settings import NO_EFFECT

_HASHED = {".safetensors", ".bin", ".json"}


@dataclass(frozen=True, kw_only=True)
class GivenSettings:
    """Where a ready part lies and what it is."""

    holds: Literal["lm", "siglip", "vae", "tokenizer", "model"]
    """What it is; later parts find it under this name. A model, in the published form or as a stage writes it, is what a stage can start
    from; its sizes are those of its own config.json."""
    path: str = field(default="", metadata=NO_EFFECT)
    """Its folder, a model's in the published form, others in transformers' or diffusers'; its contents, not its place, enter the hash."""
    embedded: bool = False
    """Take the embedded model, or its VAE or tokenizer, instead of a folder."""
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
            raise UserError(
                "embedded: true gives the embedded model, its vae or its tokenizer; the rest is trained further, so name a path"
            )


def take_given(settings: GivenSettings, part: Part) -> dict[str, str]:
    """Link a ready part into the recipe's folder, once its sizes are known to be the stated ones.

    Raises:
        UserError: There is no folder, or what it holds has other sizes; names them.
    """
    source = source_of(settings, part.name)
    for old in part.folder.iterdir():
        if old.is_symlink():
            old.unlink()
    if settings.holds == "lm":
        _same_sizes(part.name, source, asdict(settings.language), asdict(language_config(source)), ignored={"max_position_embeddings"})
    if settings.holds == "siglip":
        _same_sizes(part.name, source, asdict(settings.vision), asdict(vision_config(source)), ignored={"model_name", "mlp_ratio"})
    if settings.holds == "model":
        files = model_files(source)
        for file in files:  # where a stage's own lie; the folder may hold anything else, such as another training's notes
            (part.folder / file.name).symlink_to(file.resolve())
    else:
        files = [file for file in source.iterdir() if file.suffix in _HASHED]
        (part.folder / settings.holds).symlink_to(source.resolve(), target_is_directory=True)
    return {"content": contents(files), "from": settings.origin or settings.path or "the embedded model"}


def model_files(folder: Path) -> list[Path]:
    """List what a stage that starts from a model reads: its weights and sizes, and what an earlier stage left beside them.

    Raises:
        UserError: The folder holds no JanusFlow, or weights of other sizes than its config.json says; names them.
    """
    config = JanusFlowConfig.from_file(folder)
    if (folder / VARIANT_WEIGHTS).is_file():
        weights = {folder / VARIANT_WEIGHTS}
    else:
        with torch.device("meta"):
            model = JanusFlow(config)
        weights = {info.file for info in fitting_table(model, folder).values()} | set(folder.glob("*.index.json"))
    beside = [folder / name for name in ("config.json", LEARNED_FILE, HEAD_FILE)]
    return [*sorted(weights), *(file for file in beside if file.is_file())]


def source_of(settings: GivenSettings, name: str) -> Path:
    """Return the folder that a given part is taken from.

    Args:
        settings: The part's.
        name: The part's, for the error.

    Raises:
        UserError: None is named, or it is not there.
    """
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


def contents(files: Iterable[Path]) -> str:
    """Return a sha256 over files, names included."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
