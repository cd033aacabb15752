"""Any image-text-to-text model of transformers: LLaVA, Qwen-VL, InternVL, SmolVLM and the rest, by folder or hub id.

The prompt is what the checkpoint's own chat template makes of the question; nothing is added. Answers are greedy.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.adapters.layout import content
from jfeval.models.hub import content_hash, local_folder
from jfeval.models.memory import in_batches
from jfeval.models.placing import Dtype, check_device, choose_device, choose_dtype
from jfeval.schema import JsonObject, TextRequest


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
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, self.device)
        self.processor: Any = _loaded(folder, partial(AutoProcessor.from_pretrained, folder, local_files_only=True))
        if not getattr(self.processor, "chat_template", None):
            raise UserError(
                f"{folder} has no chat template (chat_template.jinja or processor_config.json), so its prompt form is not known"
            )
        model = partial(AutoModelForImageTextToText.from_pretrained, folder, local_files_only=True, dtype=dtype, output_loading_info=True)
        self.model, info = _loaded(folder, model)
        if missing := sorted(map(str, info["missing_keys"])):
            raise UserError(f"{folder} lacks {len(missing)} tensors, such as {', '.join(missing[:3])}; the download is not whole")
        if shapes := info["mismatched_keys"]:
            raise UserError(f"{folder}: {len(shapes)} tensors have shapes that its config.json does not state, such as {str(shapes)[:200]}")
        self.model.to(self.device).eval()
        self.tokenizer: Any = getattr(self.processor, "tokenizer", self.processor)
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._identity: JsonObject = {
            "model": self.name,
            "architecture": type(self.model).__name__,
            "weights": content_hash(folder),
            "dtype": str(dtype).removeprefix("torch."),
            "recipe": {"decoding": "greedy", "prompt": "the checkpoint's chat template"},
        }

    def identity(self) -> JsonObject:
        """Return architecture, weights hash, dtype and how it decodes."""
        return dict(self._identity)

    def prompt(self, request: TextRequest) -> str:
        """Return the text that the chat template makes of a request, up to where the answer begins."""
        system = [{"role": "system", "content": [{"type": "text", "text": request.system}]}] if request.system else []
        asked = {"role": "user", "content": content(request.question, len(request.images))}
        return self.processor.apply_chat_template([*system, asked], add_generation_prompt=True, tokenize=False)

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request by the likeliest tokens."""
        found: dict[int, str] = {}
        for limit in sorted({request.max_new_tokens for request in requests}):
            group = [i for i, request in enumerate(requests) if request.max_new_tokens == limit]
            answer = partial(self._answer, [requests[i] for i in group])
            texts = [text for batch in in_batches(len(group), len(group), answer) for text in batch]
            found |= dict(zip(group, texts, strict=True))
        return [found[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, requests: Sequence[TextRequest], part: slice) -> list[str]:
        inputs = self._inputs(requests[part])
        tokens = self.model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=requests[0].max_new_tokens)
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.tokenizer.batch_decode(fresh, skip_special_tokens=True)]

    def option_losses(self, requests: Sequence[TextRequest]) -> list[list[float]]:
        """Weigh each request's options: negative log-likelihood in nats of the option and of the end after it."""
        pairs = [(request, option) for request in requests for option in request.options]
        batches = in_batches(len(pairs), len(pairs), lambda part: self._losses(pairs[part]))
        losses = iter([loss for batch in batches for loss in batch])
        return [[next(losses) for _ in request.options] for request in requests]

    @torch.inference_mode()
    def _losses(self, pairs: Sequence[tuple[TextRequest, str]]) -> list[float]:
        inputs = self._inputs([request for request, _ in pairs])
        answers = [[*self.tokenizer.encode(option, add_special_tokens=False), self.tokenizer.eos_token_id] for _, option in pairs]
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
        texts = [self.prompt(request) for request in requests]
        inputs = self.processor(text=texts, images=images if any(images) else None, padding=True, return_tensors="pt", padding_side="left")
        kept = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        return {name: v.to(self.device, self.model.dtype) if v.is_floating_point() else v.to(self.device) for name, v in kept.items()}


def opened(data: bytes) -> Image.Image:
    """Open an encoded image upright and as RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _loaded(folder: Path, load: "partial[Any]") -> Any:  # noqa: ANN401 - transformers' own types
    """Load with transformers, its errors turned into ours."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{folder} does not load as an image-text-to-text model of transformers: {reason[:300]}") from error
