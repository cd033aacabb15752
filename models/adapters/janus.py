"""Janus and Janus-Pro through transformers' own classes: answers, and pictures drawn token by token.

Pictures are sampled here and not by transformers' ``generate``, whose draws depend on what else is in the batch: every picture has its
own generator, so it is the same in every batch.

Source: Wu et al., "Janus" (arXiv 2410.13848), section 3 (guidance: g = g_u + s (g_c - g_u) with s = 5; the unconditional row keeps the
first and the begin-of-image token); deepseek-ai/Janus, ``generation_inference.py`` (temperature 1; pixels (x + 1) / 2 * 255, cut off).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import DynamicCache

from jfeval.errors import UserError
from jfeval.models.adapters import chat
from jfeval.models.hub import local_folder
from jfeval.models.janusflow.cache import CACHE_ARGUMENT
from jfeval.schema import ImageJob, JsonObject, TextRequest


@dataclass(frozen=True, kw_only=True)
class Settings(chat.Settings):
    """A Janus checkpoint in transformers' form and how pictures are sampled."""

    guidance_scale: float = 5.0
    """Weight of the prompt in the logits; 1 means no guidance."""
    temperature: float = 1.0
    """Divides the logits before sampling."""

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        super().__post_init__()
        if self.temperature <= 0:
            raise UserError(f"temperature must be positive, not {self.temperature}")
        if not 1 <= self.guidance_scale <= 100:
            raise UserError(f"guidance_scale must lie between 1 and 100, not {self.guidance_scale}")


def load(settings: Settings) -> "Janus":
    """Load Janus or Janus-Pro in transformers' form: `--model janus:PATH`.

    Raises:
        UserError: No checkpoint is named, or what is in it is no Janus.
    """
    if not settings.path:
        raise UserError("model 'janus' needs its checkpoint: --model janus:FOLDER, or --model janus:OWNER/NAME --set revision=COMMIT")
    folder = local_folder(settings.path, settings.revision, form="a folder of Janus in transformers' form")
    return Janus(chat.ChatModel(folder, settings), settings)


class Janus:
    """Answers through the chat template and draws images of as many tokens as the checkpoint states.

    Args:
        chat: The loaded checkpoint.
        settings: How pictures are sampled.
    """

    name = "janus"

    def __init__(self, chat: chat.ChatModel, settings: Settings) -> None:
        self.chat, self.settings = chat, settings
        self.model: Any = chat.model
        if not hasattr(self.model, "decode_image_tokens"):
            raise UserError(f"{settings.path} holds a {type(self.model).__name__}, not a Janus; use --model hf:{settings.path}")
        self.tokens = int(self.model.model.vision_model.config.num_image_tokens)

    def identity(self) -> JsonObject:
        """Return what the chat part states, and how pictures are sampled."""
        recipe: JsonObject = {
            "guidance_scale": self.settings.guidance_scale,
            "temperature": self.settings.temperature,
            "sampling": "softmax",
        }
        return {**self.chat.identity(), "model": self.name, "recipe": {"answers": self.chat.identity()["recipe"], **recipe}}

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request by the likeliest tokens."""
        return self.chat.answer(requests)

    def option_losses(self, requests: Sequence[TextRequest]) -> list[list[float]]:
        """Weigh each request's options; see `ChatModel.option_losses`."""
        return self.chat.option_losses(requests)

    def generate(self, jobs: Sequence[ImageJob]) -> list[Image.Image]:
        """Draw one image per job."""
        encoded = self.chat.encode([self.chat.prompt(TextRequest(question=job.prompt)) for job in jobs], generation_mode="image")
        tokens = self.sample(encoded["input_ids"].to(self.chat.device), encoded["attention_mask"].to(self.chat.device), jobs)
        with torch.inference_mode():
            decoded = self.model.decode_image_tokens(tokens).float()
        pixels = ((decoded + 1) * 127.5).clamp(0, 255).to(torch.uint8)
        return [Image.fromarray(picture) for picture in pixels.cpu().numpy()]

    @torch.inference_mode()
    def sample(self, ids: Tensor, valid: Tensor, jobs: Sequence[ImageJob]) -> Tensor:
        """Sample the image tokens of each prompt.

        Args:
            ids: Prompts (B, P), padded on the left, ending in the begin-of-image token.
            valid: (B, P), 0 where padded.
            jobs: Their seeds.

        Returns:
            Tokens (B, N) of the image codebook.
        """
        guided = self.settings.guidance_scale != 1.0
        generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
        embeds = self.model.get_input_embeddings()(self._with_unconditional(ids, valid) if guided else ids)
        mask = valid.repeat(2, 1) if guided else valid
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        keys_and_values, drawn = {CACHE_ARGUMENT: DynamicCache(config=self.model.model.language_model.config)}, []
        for _ in range(self.tokens):
            out = self.model.model.language_model(
                inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=True, **keys_and_values
            )
            logits = self.model.model.generation_head(out.last_hidden_state[:, -1]).float()
            if guided:
                conditional, unconditional = logits.chunk(2)
                logits = unconditional + self.settings.guidance_scale * (conditional - unconditional)
            chances = (logits / self.settings.temperature).softmax(dim=-1).cpu()
            token = torch.cat([torch.multinomial(row, 1, generator=g) for row, g in zip(chances, generators, strict=True)]).to(ids.device)
            drawn.append(token)
            embeds = self.model.prepare_embeddings_for_image_generation((token.repeat(2) if guided else token)[:, None])
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return torch.stack(drawn, dim=1)

    def _with_unconditional(self, ids: Tensor, valid: Tensor) -> Tensor:
        """Stack prompts over their unconditional rows: all but the first and the begin-of-image token become padding."""
        first = valid.cumsum(dim=1).eq(1) & valid.bool()
        kept = first.clone()
        kept[:, -1] = True
        return torch.cat([ids, ids.masked_fill(~kept, self.chat.tokenizer.pad_token_id)])
