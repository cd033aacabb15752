"""Text and images in the form the model reads: prompt templates, token ids and pixels."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from jfeval.errors import BadRequest, UserError, unknown
from jfeval.models.base import IMAGE_PLACEHOLDER
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.reading import naming, read_object, read_setting

Role: TypeAlias = Literal["User", "Assistant"]

BEGIN_OF_SENTENCE = "<｜begin▁of▁sentence｜>"
END_OF_SENTENCE = "<｜end▁of▁sentence｜>"

TEMPLATES: dict[str, dict[str, str]] = {
    "deepseek_old": {"User": "User", "Assistant": "Assistant"},
    "deepseek": {"User": "<|User|>", "Assistant": "<|Assistant|>"},
}
"""How each template spells the roles; the published checkpoint uses ``deepseek_old``. Source: the published conversation module."""


@dataclass(frozen=True)
class Message:
    """One turn; an empty content leaves the turn open for the model."""

    role: Role
    content: str


def format_prompt(messages: Sequence[Message], *, system: str = "", template: str = "deepseek_old") -> str:
    r"""Write a conversation as the string the model was trained on.

    A user's turn ends in a blank line, an assistant's in the end-of-sentence token; contents are stripped.

    >>> format_prompt([Message("User", "Hi"), Message("Assistant", "")])
    'User: Hi\n\nAssistant:'

    Raises:
        UserError: Unknown template or role.
    """
    if template not in TEMPLATES:
        raise unknown("prompt template", template, TEMPLATES)
    roles, ends = TEMPLATES[template], {"User": "\n\n", "Assistant": END_OF_SENTENCE}
    text = f"{system}\n\n" if system else ""
    for message in messages:
        if message.role not in roles:
            raise unknown("role", message.role, roles)
        content = message.content.strip()
        text += f"{roles[message.role]}: {content}{ends[message.role]}" if content else f"{roles[message.role]}:"
    return text


_ORIENTATION = 0x0112
"""EXIF tag of a photo's rotation; 1 is upright."""
_BYTE, _PER_BYTE = 255, 257
"""The largest 8-bit value, and how many 16-bit values make one of 8 bits: 65535 / 255."""


def upright(image: Image.Image) -> Image.Image:
    """Turn a photo as its EXIF orientation says; damaged EXIF data is ignored.

    Differs: the published script leaves photos as the sensor saw them.
    """
    try:
        turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        return ImageOps.exif_transpose(image) if turned else image
    except (SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return image


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB: transparency is laid on white, 16-bit grey is divided by 257.

    Differs: the published script drops the alpha channel, which shows whatever colour hides under transparent pixels, often black, and
    cuts 16-bit values at 255. Opaque 8-bit images come out the same.

    Raises:
        BadRequest: Pixels are floating-point numbers, which have no agreed range.
    """
    if image.mode == "F":
        raise BadRequest("the image has floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        wide = image.mode != "I" or grey.max(initial=0) > _BYTE
        return Image.fromarray((grey / _PER_BYTE if wide else grey).round().clip(0, _BYTE).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (_BYTE, _BYTE):
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Fits an image into a square without changing its proportions and normalises it.

    Source: the published image processor; size, mean and standard deviation are those assumed for the published checkpoint.
    """

    image_size: int = 384
    min_size: int = 14
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def square(self, image: Image.Image) -> Image.Image:
        """Resize the longer side to ``image_size`` (bicubic, sides truncated) and centre on a canvas of the mean colour."""
        image = upright(image)
        side, longer = self.image_size, max(image.size)
        width, height = (max(int(s / longer * side), self.min_size) for s in image.size)
        resized = as_rgb(image).resize((width, height), Image.Resampling.BICUBIC)
        canvas = Image.new("RGB", (side, side), tuple(int(255 * m) for m in self.mean))
        canvas.paste(resized, ((side - width) // 2, (side - height) // 2))
        return canvas

    def __call__(self, image: Image.Image) -> Tensor:
        """Return pixels (3, S, S), float32; with mean and deviation 0.5 they lie in [-1, 1]."""
        pixels = torch.from_numpy(np.asarray(self.square(image), dtype=np.float32) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (pixels - mean) / std


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The strings that a tokenizer must know as single tokens.

    Source of the defaults: deepseek-ai/Janus @ 1daa72f, janus/janusflow/models/processing_vlm.py, and the deepseek-llm tokenizer.
    """

    begin: str = BEGIN_OF_SENTENCE
    image: str = IMAGE_PLACEHOLDER
    image_start: str = "<begin_of_image>"
    image_end: str = "<end_of_image>"
    generation_start: str = "<｜begin▁of▁generation｜>"
    pad: str = "<｜▁pad▁｜>"
    end: str = END_OF_SENTENCE

    @classmethod
    def from_published(cls, settings: Mapping[str, Any]) -> Self:
        """Read the tags of a ``processor_config.json``; what it does not name keeps its default."""
        tags = {"image": "image_tag", "image_start": "image_start_tag", "image_end": "image_end_tag", "generation_start": "image_gen_tag"}
        return cls(**{name: read_setting(settings, key, "", "the tag") for name, key in tags.items() if settings.get(key)})


class Processor:
    """Turns prompts and conversations into token ids."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        images: ImageProcessor,
        *,
        tokens_per_image: int,
        template: str = "deepseek_old",
        special: SpecialTokens | None = None,
        start_tag: Literal["generation_start", "image_start"] = "generation_start",
    ) -> None:
        """Check that the tokenizer knows every special token.

        Raises:
            UserError: One is missing; names it.
        """
        self.tokenizer, self.images, self.template, self.tokens_per_image = tokenizer, images, template, tokens_per_image
        self.special = special or SpecialTokens()
        self.choose_start_tag(start_tag)
        self.pad_id, self.image_id, self.image_start_id, self.image_end_id, self.end_id = (
            self._token(s)
            for s in (self.special.pad, self.special.image, self.special.image_start, self.special.image_end, self.special.end)
        )

    def published_settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the published form writes into ``preprocessor_config.json`` and ``processor_config.json``."""
        i, tags = self.images, self.special
        pixels = {"image_size": i.image_size, "min_size": i.min_size, "image_mean": list(i.mean), "image_std": list(i.std)}
        chat = {
            "add_special_token": False,
            "image_end_tag": tags.image_end,
            "image_gen_tag": tags.generation_start,
            "image_start_tag": tags.image_start,
            "image_tag": tags.image,
            "num_image_tokens": self.tokens_per_image,
            "sft_format": self.template,
        }
        return pixels, chat

    def choose_start_tag(self, name: Literal["generation_start", "image_start"]) -> None:
        """End prompts that are to be drawn with this special token; the published scripts disagree about which."""
        self.start_tag: str = getattr(self.special, name)

    def _token(self, text: str) -> int:
        token = self.tokenizer.convert_tokens_to_ids(text)
        unk = getattr(self.tokenizer, "unk_token_id", None)
        if token is None or (token == unk and unk is not None):
            raise UserError(f"the tokenizer does not know the special token {text!r}; it does not belong to this checkpoint")
        return int(token)  # pyright: ignore[reportArgumentType] - a list only for a list of tokens

    def encode(self, text: str) -> list[int]:
        """Tokenise with the begin-of-sentence token in front."""
        return list(self.tokenizer.encode(text))

    def encode_more(self, text: str) -> list[int]:
        """Tokenise text that goes on after other text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Turn tokens back into text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def generation_prompt(self, prompt: str) -> list[int]:
        """Return the prompt's ids without its last token, whose place the time embedding takes.

        Source: the published inference script (empty system prompt, start tag appended, last token dropped).
        """
        text = format_prompt([Message("User", prompt), Message("Assistant", "")], template=self.template)
        return self.encode(text + self.start_tag)[:-1]

    def conversation(self, text: str) -> tuple[list[int], list[bool]]:
        """Return ids and image positions of a formatted conversation.

        Each placeholder becomes begin-of-image, N image tokens and end-of-image; all but the last are image positions.
        """
        ids, places = [], []
        for token in self.encode(text):
            if token == self.image_id:
                ids += [self.image_start_id, *[self.image_id] * self.tokens_per_image, self.image_end_id]
                places += [True] * (self.tokens_per_image + 1) + [False]
            else:
                ids.append(token)
                places.append(False)
        return ids, places


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""Files that a tokenizer is read from; only the first must be there."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a checkpoint folder.

    Raises:
        UserError: ``tokenizer.json`` is missing, or a file is damaged; names it.
    """
    if not (folder / TOKENIZER_FILES[0]).is_file():
        raise UserError(f"no {TOKENIZER_FILES[0]} in {folder}; copy the tokenizer files of the checkpoint there")
    try:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises no other class
        there = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        for file in there:
            read_object(file)
        names = ", ".join(file.name for file in there)
        raise UserError(f"{names} in {folder} hold no tokenizer that can be read; copy or download them again: {error}") from error


def load_processor(path: Path, config: JanusFlowConfig) -> Processor:
    """Load tokenizer, tags, template and image settings of a checkpoint folder.

    Read are ``tokenizer.json`` and, where they exist, ``processor_config.json`` and ``preprocessor_config.json``.

    Raises:
        UserError: A file is missing or damaged, the tokenizer's vocabulary is larger than the model's, a special token is unknown, or a
            setting is of another type or does not fit the model; names the file and the key.
    """
    tokenizer = load_tokenizer(path)
    vocabulary, vision = config.language.vocab_size, config.vision
    if len(tokenizer) > vocabulary:
        raise UserError(f"the tokenizer in {path} has {len(tokenizer)} tokens, more than the model's vocabulary of {vocabulary}")
    file = path / "processor_config.json"
    chat = read_object(file) if file.is_file() else {}
    with naming(file):
        _must_be(chat, {"num_image_tokens": vision.tokens, "add_special_token": False})
        template = read_setting(chat, "sft_format", "deepseek_old", "its")
        if template not in TEMPLATES:
            raise unknown("prompt template (sft_format)", template, TEMPLATES)
        special = SpecialTokens.from_published(chat)
    file = path / "preprocessor_config.json"
    pixels = read_object(file) if file.is_file() else {}
    with naming(file):
        _must_be(pixels, {"image_size": vision.image_size, "do_normalize": True, "rescale_factor": 1 / 255})
        images = ImageProcessor(
            image_size=vision.image_size,
            min_size=read_setting(pixels, "min_size", ImageProcessor.min_size, "its"),
            mean=_per_colour(pixels, "image_mean", ImageProcessor.mean, least=0.0),
            std=_per_colour(pixels, "image_std", ImageProcessor.std, least=1e-6),
        )
    return Processor(tokenizer, images, tokens_per_image=vision.tokens, template=template, special=special)


def _per_colour(settings: Mapping[str, Any], key: str, default: tuple[float, float, float], *, least: float) -> tuple[float, float, float]:
    """Read three numbers, of red, green and blue, between ``least`` and 1."""
    match settings.get(key, default):
        case [int() | float() as red, int() | float() as green, int() | float() as blue] if all(
            least <= value <= 1 for value in (red, green, blue)
        ):
            return red, green, blue
        case found:
            raise UserError(f"its {key} must be three numbers between {least:g} and 1, not {found!r}")


def _must_be(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse settings that mean something this model does not do."""
    for key, value in expected.items():
        given = settings.get(key, value)
        same = math.isclose(given, value, rel_tol=1e-6) if isinstance(given, int | float) else given == value
        if not same:
            raise UserError(f"it says {key} = {given!r}, but this model needs {value}; it belongs to another checkpoint")
