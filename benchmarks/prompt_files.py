"""Prompts as a protocol: pictures drawn from rewritten prompts are judged by the original rows, and never stand beside the others.

A file of rewritten prompts is text with one prompt a line, in the benchmark's order, or JSON Lines of ``{"id": ..., "prompt": ...}`` in any
order; it must hold every prompt of the benchmark. Its hash is part of the protocol's name, so that numbers from different prompts are in
different columns wherever numbers are shown.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jfeval.errors import UserError
from jfeval.schema import ImageRequest, JsonObject, Sample

ORIGINAL = "original"
_FILE = re.compile(r"file:[0-9a-f]{64}")
_MAX_BYTES, _MAX_PROMPT = 64_000_000, 20_000
_MARK = "-prompts-"
_ORIGINAL_PROMPT = "prompt"
"""Key of a reference, as GenEval's own rows have it."""


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """Which prompts pictures are drawn from; what they are judged by stays the published rows."""

    prompts: str | None = None
    """``original`` (or left out), or ``file:SHA256`` of the file of rewritten prompts; follows from prompts_file."""
    prompts_file: Path | None = None
    """A file of rewritten prompts, all of them: one a line in the benchmark's order, or JSON Lines of id and prompt."""

    def __post_init__(self) -> None:
        stated = None if self.prompts == ORIGINAL else self.prompts
        if stated is not None and not _FILE.fullmatch(stated):
            raise ValueError(f"prompts must be {ORIGINAL} or file:SHA256, got {stated[:80]!r}; name a file with prompts_file=FILE")
        if self.prompts_file is not None and self.prompts_file.is_file():
            if self.prompts_file.stat().st_size > _MAX_BYTES:
                raise ValueError(f"prompts_file {self.prompts_file} is larger than {_MAX_BYTES} bytes")
            found = f"file:{hashlib.sha256(self.prompts_file.read_bytes()).hexdigest()}"
            if stated not in (None, found):
                raise ValueError(f"prompts_file {self.prompts_file} is {found}, and not {stated}, which was asked for")
            stated = found
        elif self.prompts_file is not None and stated is None:
            raise ValueError(f"prompts_file: there is no {self.prompts_file}")
        object.__setattr__(self, "prompts", stated)


def protocols_under(protocols: tuple[str, ...], settings: PromptSettings) -> tuple[str, ...]:
    """Return a benchmark's ways of scoring, named apart where prompts are rewritten."""
    return tuple(f"{name}{_MARK}{settings.prompts.removeprefix('file:')[:12]}" for name in protocols) if settings.prompts else protocols


def rules_of(protocol: str) -> str:
    """Return the way of scoring that a name stands for, whatever the prompts were."""
    return protocol.partition(_MARK)[0]


def identity_of(settings: PromptSettings) -> JsonObject:
    """Return what the data's identity says about rewritten prompts; nothing for the original ones."""
    return {"prompts": settings.prompts} if settings.prompts else {}


def with_prompts(samples: Sequence[Sample], settings: PromptSettings) -> list[Sample]:
    """Return samples that ask for pictures of the rewritten prompts; all else stays.

    Raises:
        UserError: The file is not here, or does not hold one usable prompt for each sample.
    """
    if settings.prompts is None:
        return list(samples)
    if settings.prompts_file is None or not settings.prompts_file.is_file():
        raise UserError(f"the file of rewritten prompts is not here ({settings.prompts}); name it by --set-benchmark prompts_file=FILE")
    prompts = _read(settings.prompts_file, [sample.id for sample in samples])
    return [_rewritten(sample, prompts[sample.id]) for sample in samples]


def asked_prompt(sample: Sample) -> str:
    """Return the prompt that a sample's picture is judged by: the benchmark's own, whatever it was drawn from.

    Raises:
        UserError: The sample asks for no picture.
    """
    if not isinstance(sample.request, ImageRequest):
        raise UserError(f"sample {sample.id} asks for no image")
    stated = sample.reference.get(_ORIGINAL_PROMPT)
    return stated if isinstance(stated, str) else sample.request.prompt


def _rewritten(sample: Sample, prompt: str) -> Sample:
    """Ask for a picture of another prompt; the reference keeps the benchmark's own, where it does not hold it already."""
    if not isinstance(sample.request, ImageRequest):
        return sample
    reference = {_ORIGINAL_PROMPT: sample.request.prompt, **sample.reference}
    return replace(sample, request=replace(sample.request, prompt=prompt), reference=reference)


def _read(path: Path, ids: Sequence[str]) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
    pairs = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)] if path.suffix == ".jsonl" else None
    if pairs is None:
        if len(lines) != len(ids):
            raise UserError(f"{path} has {len(lines)} lines, and the benchmark has {len(ids)} prompts: one a line, in its order")
        pairs = list(zip(ids, lines, strict=True))
    found = dict(pairs)
    missing, strange = [name for name in ids if name not in found], sorted(found.keys() - set(ids))
    if len(found) != len(pairs) or missing or strange:
        twice = len(pairs) - len(found)
        few = ", ".join(name[:40] for name in [*missing, *strange][:3])
        raise UserError(f"{path}: {len(missing)} prompts are missing, {len(strange)} are of no sample, {twice} are given twice ({few})")
    for name, prompt in found.items():
        if not prompt.strip() or len(prompt) > _MAX_PROMPT or any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise UserError(f"{path}: the prompt of {name} is empty, longer than {_MAX_PROMPT} characters, or no text")
    return found


def _row(line: str, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not a JSON object") from error
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("prompt"), str):
        raise UserError(f'{where}: expected {{"id": text, "prompt": text}}')
    return row["id"], row["prompt"]
