"""Text and images in the form the model reads: prompt templates, token ids and pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jfeval.errors import UserError, unknown

Role: TypeAlias = Literal["User", "Assistant"]

END_OF_SENTENCE = "<｜end▁of▁sentence｜>"
IMAGE_PLACEHOLDER = "<image_placeholder>"

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
        side, longer = self.image_size, max(image.size)
        width, height = (max(int(s / longer * side), self.min_size) for s in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
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
    """The strings that a tokenizer must know as single tokens. The defaults are the published code's."""

    image: str = IMAGE_PLACEHOLDER
    image_start: str = "<begin_of_image>"
    image_end: str = "<end_of_image>"
    generation_start: str = "<｜begin▁of▁generation｜>"
    pad: str = "<｜▁pad▁｜>"
    end: str = END_OF_SENTENCE


class Processor:
    """Turns prompts and conversations into token ids."""

    def __init__(
        self,
        tokenizer: "object",
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

    def choose_start_tag(self, name: Literal["generation_start", "image_start"]) -> None:
        """End prompts that are to be drawn with this special token; the published scripts disagree about which."""
        self.start_tag: str = getattr(self.special, name)

    def _token(self, text: str) -> int:
        token = self.tokenizer.convert_tokens_to_ids(text)  # pyright: ignore[reportAttributeAccessIssue]
        unk = getattr(self.tokenizer, "unk_token_id", None)
        if token is None or (token == unk and unk is not None):
            raise UserError(f"the tokenizer does not know the special token {text!r}; it does not belong to this checkpoint")
        return int(token)

    def encode(self, text: str) -> list[int]:
        """Tokenise with the begin-of-sentence token in front."""
        return list(self.tokenizer.encode(text))  # pyright: ignore[reportAttributeAccessIssue]

    def encode_more(self, text: str) -> list[int]:
        """Tokenise text that goes on after other text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))  # pyright: ignore[reportAttributeAccessIssue]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn tokens back into text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()  # pyright: ignore[reportAttributeAccessIssue]

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
