"""One row of a data source, read as its kind: an image with a conversation, an image with captions, or a text."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from jfeval.errors import unknown
from jfeval.models.training.checks import positive
from jfeval.models.training.data import Question
from jfeval.models.training.ratios import KINDS
from jfeval.pictures import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Source:
    """One data set and how it is read."""

    name: str
    """Stands in error messages and in counts of skipped rows."""
    kind: Literal["understanding", "generation", "text"]
    path: str = ""
    """A folder, or a hub id OWNER/NAME."""
    revision: str = ""
    """Commit of a hub id, 40 hexadecimal digits."""
    split: str = "train"
    weight: float = 1.0
    """Share among the sources of its kind, relative to theirs."""
    streaming: bool = True
    """Read in order, blocks of 1,000 rows shuffled, without copying anything to disk; otherwise in a true permutation of all rows."""
    image: str = "image"
    captions: str = "captions"
    questions: str = "questions"
    conversations: str = "conversations"
    text: str = "text"
    """Names of the columns."""

    def __post_init__(self) -> None:
        """Refuse kinds that do not exist and weights that no mixture can have."""
        if self.kind not in KINDS:
            raise unknown(f"kind of source {self.name!r}", self.kind, KINDS)
        positive(self, "weight", prefix=f"source {self.name!r}: ")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One usable row."""

    id: str
    """Source, place in its endless order, and number in its files; for error messages."""
    image: Image.Image | None = None
    captions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    text: str = ""


def usable(raw: Mapping[str, Any], source: Source, name: str) -> Row:
    """Read a raw row as its source's kind.

    Raises:
        ValueError: It lacks what its kind needs; says what.
    """
    if source.kind == "text":
        text = raw.get(source.text)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"no text in column {source.text!r}")
        return Row(id=name, text=text)
    if source.kind == "generation":
        captions = raw.get(source.captions)
        texts = tuple(c for c in ([captions] if isinstance(captions, str) else captions or ()) if isinstance(c, str) and c.strip())
        if not texts:
            raise ValueError(f"no caption in column {source.captions!r}")
        return Row(id=name, image=_image(raw.get(source.image)), captions=texts)
    questions = _questions(raw.get(source.questions)) or _turns(raw.get(source.conversations))
    if not questions:
        raise ValueError(f"no question with an answer in columns {source.questions!r} and {source.conversations!r}")
    return Row(id=name, image=_image(raw.get(source.image)), questions=questions)


def _questions(listed: object) -> tuple[Question, ...]:
    if not isinstance(listed, list):
        return ()
    pairs = [(q.get("question"), q.get("answer"), q.get("kind")) for q in listed if isinstance(q, dict)]
    return tuple(
        Question(question=q, answer=a, kind=str(k or "")) for q, a, k in pairs if isinstance(q, str) and isinstance(a, str) and q and a
    )


def _turns(listed: object) -> tuple[Question, ...]:
    """Read a conversation of turns ``{from, value}`` or ``{role, content}``, the person's first; image tags are removed."""
    if not isinstance(listed, list) or not all(isinstance(turn, dict) for turn in listed):
        return ()
    texts = [str(turn.get("value", turn.get("content", ""))).replace("<image>", "").strip() for turn in listed]
    roles = [str(turn.get("from", turn.get("role", ""))) for turn in listed]
    asked = [i for i in range(0, len(texts) - 1, 2) if roles[i] in ("human", "user") and roles[i + 1] in ("gpt", "assistant")]
    return tuple(Question(question=texts[i], answer=texts[i + 1], kind="") for i in asked if texts[i] and texts[i + 1])


def _image(cell: object) -> Image.Image:
    """Decode an image cell to RGB.

    Raises:
        ValueError: It holds no image, or one of unbearable size.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise ValueError("the cell holds no image bytes")
    with Image.open(io.BytesIO(data)) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise ValueError(f"the image has {opened.width}x{opened.height} pixels")
        return opened.convert("RGB")
