"""Any image-text-to-text model of transformers: LLaVA, Qwen-VL, InternVL, SmolVLM and the rest, by folder or hub id.

The prompt is what the checkpoint's own chat template makes of the question; nothing is added. Answers are the likeliest token at each
step: penalties, bans and lengths that a generation_config.json states do not act.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image, ImageOps
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.adapters.layout import content
from jfeval.models.adapters.loading import attempt, load_whole
from jfeval.models.hub import content_hash, local_folder
from jfeval.models.memory import in_batches
from jfeval.models.placing import Dtype, check_device, choose_device, choose_dtype
from jfeval.schema import JsonObject, TextRequest

_KIND = "an image-text-to-text model of transformers"
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""What is taken of a checkpoint's generation_config.json."""
_FORMS = {True: "the assistant's turn in the chat template", False: "the option's tokens and the end token"}
"""As what options are weighed, by whether the chat template can write an answer after the prompt."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A checkpoint in transformers' form and how to run it."""

    path: str = ""
    """Folder in transformers' form, or a hub id OWNER/NAME with its revision."""
    revision: str = ""
    """Commit of a hub id, 40 hexadecimal digits."""
    dtype: Dtype = "auto"
    """Type of the weights; auto is bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..., or auto: a GPU where there is one."""

    def __post_init__(self) -> None:
        """Refuse a device that is not there."""
        check_device(self.device)


def load(settings: Settings) -> "ChatModel":
    """Load any image-text-to-text model of transformers, by folder or hub id: `--model hf:PATH`.

    Raises:
        UserError: No checkpoint is named, or what is in it is no such model.
    """
    if not settings.path:
        raise UserError("model 'hf' needs its checkpoint: --model hf:FOLDER, or --model hf:OWNER/NAME --set revision=COMMIT")
    return ChatModel(local_folder(settings.path, settings.revision, form="a folder in transformers' form"), settings)


class ChatModel:
    """Answers questions about images through a checkpoint's own processor and chat template.

    Args:
        folder: The checkpoint.
        settings: Type and device.
    """

    name = "hf"

    def __init__(self, folder: Path, settings: Settings) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

        self.device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, self.device)
        options = {"local_files_only": True, "trust_remote_code": False}
        self.processor: Any = attempt(folder, _KIND, partial(AutoProcessor.from_pretrained, folder, **options))
        if not getattr(self.processor, "chat_template", None):
            raise UserError(
                f"{folder} has no chat template (chat_template.jinja or processor_config.json), so its prompt form is not known"
            )
        self.model = load_whole(folder, _KIND, partial(AutoModelForImageTextToText.from_pretrained, folder, dtype=dtype, **options))
        own = self.model.generation_config
        self.model.generation_config = GenerationConfig(**{name: getattr(own, name, None) for name in _TOKENS})
        self.model.to(self.device).eval()
        self.tokenizer: Any = getattr(self.processor, "tokenizer", self.processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._turns = self._turn(TextRequest(question="?", images=[b""]), "yes") is not None
        self._identity: JsonObject = {
            "model": self.name,
            "architecture": type(self.model).__name__,
            "weights": content_hash(folder),
            "dtype": str(dtype).removeprefix("torch."),
            "recipe": {
                "decoding": "greedy, without the checkpoint's penalties and bans",
                "prompt": "the checkpoint's chat template",
                "options": _FORMS[self._turns],
            },
        }

    def identity(self) -> JsonObject:
        """Return architecture, weights hash, dtype and how it decodes."""
        return dict(self._identity)

    def prompt(self, request: TextRequest, answer: str | None = None) -> str:
        """Return the text that the chat template makes of a request, up to where the answer begins, or with an answer."""
        system = [{"role": "system", "content": [{"type": "text", "text": request.system}]}] if request.system else []
        turns = [*system, {"role": "user", "content": content(request.question, len(request.images))}]
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return self.processor.apply_chat_template(turns, add_generation_prompt=answer is None, tokenize=False)

    def encode(self, texts: Sequence[str], **more: Any) -> Any:  # noqa: ANN401 - the processor's own arguments and result
        """Tokenise prompts, padded on the left; the tokenizer adds no beginning where the template has written it.

        Source: transformers, ``ProcessorMixin.apply_chat_template``, whose tokens these are.
        """
        begin = self.tokenizer.bos_token
        if begin and texts[0].startswith(begin):
            more["add_special_tokens"] = False
        return self.processor(text=texts, padding=True, return_tensors="pt", padding_side="left", **more)

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request by the likeliest tokens."""
        found: dict[int, str] = {}
        for limit in sorted({request.max_new_tokens for request in requests}):
            group = [i for i, request in enumerate(requests) if request.max_new_tokens == limit]
            found |= dict(zip(group, self._answer([requests[i] for i in group], limit), strict=True))
        return [found[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, requests: Sequence[TextRequest], limit: int) -> list[str]:
        inputs = self._inputs(requests)
        tokens = self.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=limit)
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(fresh, skip_special_tokens=True)]

    def option_losses(self, requests: Sequence[TextRequest]) -> list[list[float]]:
        """Weigh each request's options: negative log-likelihood in nats of the option and of the end after it."""
        pairs = [(request, ids) for request in requests for ids in self.option_ids(request)]
        batches = in_batches(len(pairs), len(pairs), lambda part: self._losses(pairs[part]))
        losses = iter([loss for batch in batches for loss in batch])
        return [[next(losses) for _ in request.options] for request in requests]

    def option_ids(self, request: TextRequest) -> list[list[int]]:
        """Return the tokens of each option and of the end after it: as the template writes an answer, else all by themselves."""
        turns = [self._turn(request, option) if self._turns else None for option in request.options]
        written = [turn for turn in turns if turn is not None]
        if len(written) == len(turns):
            return written
        return [[*self.tokenizer.encode(option, add_special_tokens=False), self.tokenizer.eos_token_id] for option in request.options]

    def _turn(self, request: TextRequest, option: str) -> list[int] | None:
        """Return the tokens that the template writes after the prompt for an answer; None where it does not write it there.

        White space after the turn is left out, which is never generated, and an end token put where the template has none.
        """
        try:
            prompt, turn = self.prompt(request), self.prompt(request, option).rstrip()
        except (TemplateError, TypeError):  # the second from templates that join texts where they are given a list
            return None
        before, after = (self.tokenizer.encode(text, add_special_tokens=False) for text in (prompt, turn))
        if not turn.removeprefix(prompt).lstrip().startswith(option.strip()) or after[: len(before)] != before:
            return None
        return [*after[len(before) :], *([self.tokenizer.eos_token_id] if turn.endswith(option.strip()) else [])]

    @torch.inference_mode()
    def _losses(self, pairs: Sequence[tuple[TextRequest, list[int]]]) -> list[float]:
        inputs, answers = self._inputs([request for request, _ in pairs]), [answer for _, answer in pairs]
        longest = max(map(len, answers))
        places = torch.tensor([[i < len(answer) for i in range(longest)] for answer in answers], device=self.device)
        ids = torch.tensor([[*answer, *[self.tokenizer.pad_token_id] * (longest - len(answer))] for answer in answers], device=self.device)
        prompt = inputs["input_ids"]
        for name, value in inputs.items():  # whatever else the processor says of each token, it says 0 of an answer's
            if isinstance(value, Tensor) and value.shape == prompt.shape and name not in ("input_ids", "attention_mask"):
                inputs[name] = torch.cat([value, value.new_zeros(ids.shape)], dim=1)
        inputs["input_ids"] = torch.cat([prompt, ids], dim=1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], places.to(inputs["attention_mask"].dtype)], dim=1)
        logits = self.model(**inputs).logits[:, prompt.shape[1] - 1 : -1].float()
        likelihood = logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0]
        return (-(likelihood * places).sum(dim=1)).tolist()

    def _inputs(self, requests: Sequence[TextRequest]) -> dict[str, Any]:
        """Tokenise a batch, padded on the left, with every image as RGB."""
        images = [[opened(data) for data in request.images] for request in requests]
        inputs = self.encode([self.prompt(request) for request in requests], images=images if any(images) else None)
        kept = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return {name: v.to(self.device, self.model.dtype) if v.is_floating_point() else v.to(self.device) for name, v in kept.items()}


def opened(data: bytes) -> Image.Image:
    """Open an encoded image upright and as RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
