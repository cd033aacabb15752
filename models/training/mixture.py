"""The three kinds of training data in one batch: images to draw, conversations about images, and text.

A batch is a pure function of the step. Its three shares are fixed counts, so the mixture's ratio is exact in every batch, and every
tensor has a fixed shape, so a compiled loss is compiled once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.model import PromptBatch
from jfeval.models.janusflow.processing import IMAGE_PLACEHOLDER, Message, Processor, format_prompt
from jfeval.models.training.data import Question, Sampler, Scenes, StepRng
from jfeval.models.training.objectives import IGNORED, Conversations, FlowBatch, FlowSettings, draw_flow_batch


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How many samples of each kind a batch holds, and how long they may be."""

    generation: int = 64
    """Images with a caption, to be drawn."""
    understanding: int = 8
    """Conversations about an image."""
    text: int = 8
    """Texts without an image."""
    prompt_tokens: int = 32
    """Captions in chat form are padded to this length; a longer one is left out."""
    turns: int = 3
    """Questions per conversation, at most."""
    conversation_tokens: int = 128
    """Conversations are padded to this length; turns that do not fit are left out."""
    text_tokens: int = 40
    """Texts are padded or cut to this length."""

    def __post_init__(self) -> None:
        for name in ("generation", "understanding", "text"):
            if getattr(self, name) < 0:
                raise UserError(f"mixture.{name} must not be negative, not {getattr(self, name)}")
        if self.generation + self.understanding + self.text == 0:
            raise UserError("the mixture is empty: generation, understanding and text are all 0")


@dataclass(frozen=True, kw_only=True)
class MixedBatch:
    """One step's samples; a kind with no samples is None."""

    ids: tuple[str, ...]
    flow: FlowBatch | None
    understanding: Conversations | None
    text: Conversations | None


class Mixture:
    """Draws mixed batches from decoded scenes, cached latents and texts."""

    def __init__(
        self,
        *,
        scenes: Scenes,
        latents: np.ndarray,
        texts: Sequence[str],
        processor: Processor,
        settings: MixtureSettings,
        flow: FlowSettings,
        seed: int,
    ) -> None:
        if len(latents) != len(scenes):
            raise UserError(f"{len(latents)} cached latents for {len(scenes)} scenes; they belong to different data")
        if settings.text and not texts:
            raise UserError("the mixture asks for text, but the data has none; set mixture.text to 0")
        self.scenes, self.latents, self.texts, self.processor, self.settings, self.flow = scenes, latents, texts, processor, settings, flow
        counts = (settings.generation, settings.understanding, settings.text)
        sizes = (len(scenes), len(scenes), len(texts))
        self._samplers = [Sampler(n, count, seed + k) if count else None for k, (n, count) in enumerate(zip(sizes, counts, strict=True))]

    def batch(self, step: int, rng: StepRng) -> MixedBatch:
        """Draw the batch of one step."""
        drawing, talking, reading = (s.indices(step) if s else np.empty(0, np.int64) for s in self._samplers)
        return MixedBatch(
            ids=tuple(self.scenes.ids[int(i)] for i in (*drawing, *talking)),
            flow=self._flow(drawing, rng) if len(drawing) else None,
            understanding=self._conversations(talking, rng) if len(talking) else None,
            text=self._text(reading) if len(reading) else None,
        )

    def _flow(self, rows: np.ndarray, rng: StepRng) -> FlowBatch:
        ids = [self._caption(int(row), rng) for row in rows]
        prompts = fixed_prompts(ids, self.settings.prompt_tokens, self.processor.pad_id)
        latents = torch.from_numpy(np.asarray(self.latents[rows], np.float32))
        pixels = self.scenes.pixels(rows)
        return draw_flow_batch(latents, prompts, pixels, self.flow, pad_id=self.processor.pad_id, generator=rng.torch)

    def _caption(self, row: int, rng: StepRng) -> list[int]:
        captions = self.scenes.captions(row)
        for place in rng.numpy.permutation(len(captions)):
            ids = self.processor.generation_prompt(captions[int(place)])
            if len(ids) <= self.settings.prompt_tokens:
                return ids
        raise UserError(
            f"every caption of scene {self.scenes.ids[row]} is longer than mixture.prompt_tokens = {self.settings.prompt_tokens}; raise it"
        )

    def _conversations(self, rows: np.ndarray, rng: StepRng) -> Conversations:
        built = []
        for row in rows:
            questions = self.scenes.questions(int(row))
            chosen = [questions[int(i)] for i in rng.numpy.permutation(len(questions))[: self.settings.turns]]
            built.append(dialogue(chosen, self.processor, self.settings.conversation_tokens))
        return pad_conversations(built, self.settings.conversation_tokens, self.processor.pad_id, self.scenes.pixels(rows)[:, None])

    def _text(self, rows: np.ndarray) -> Conversations:
        length, end = self.settings.text_tokens, self.processor.end_id
        encoded = [[*self.processor.encode(self.texts[int(row)])[: length - 1], end] for row in rows]
        built = [(ids, [False] * len(ids), [IGNORED, *ids[1:]]) for ids in encoded]
        return pad_conversations(built, length, self.processor.pad_id, None)


def dialogue(questions: Sequence[Question], processor: Processor, limit: int) -> tuple[list[int], list[bool], list[int]]:
    """Build one conversation about an image: ids, image positions and targets.

    Each answer with its end token is a target; the first question carries the image. Turns beyond ``limit`` tokens are left out.
    """
    ids: list[int] = []
    places: list[bool] = []
    targets: list[int] = []
    for turn, question in enumerate(questions):
        text = f"{IMAGE_PLACEHOLDER}\n{question.question}" if turn == 0 else question.question
        asked, where = processor.conversation(format_prompt([Message("User", text), Message("Assistant", "")], template=processor.template))
        if turn:
            asked, where = asked[1:], where[1:]  # the begin-of-sentence token stands once
        answer = [*processor.encode(f" {question.answer}")[1:], processor.end_id]
        if len(ids) + len(asked) + len(answer) > limit:
            break
        ids += asked + answer
        places += where + [False] * len(answer)
        targets += [IGNORED] * len(asked) + answer
    if not ids:
        raise UserError(f"no turn of a conversation fits into mixture.conversation_tokens = {limit}; raise it")
    return ids, places, targets


def fixed_prompts(prompts: list[list[int]], length: int, pad_id: int) -> PromptBatch:
    """Pad prompts on the left to a fixed length."""
    filler = PromptBatch.from_lists([*prompts, [pad_id] * length], pad_id=pad_id)
    return PromptBatch(ids=filler.ids[:-1], valid=filler.valid[:-1], positions=filler.positions[:-1])


def pad_conversations(
    built: Sequence[tuple[list[int], list[bool], list[int]]], length: int, pad_id: int, pixel_values: torch.Tensor | None
) -> Conversations:
    """Pad conversations on the right to a fixed length."""
    rows = len(built)
    ids, targets = torch.full((rows, length), pad_id), torch.full((rows, length), IGNORED)
    valid, places = torch.zeros(rows, length, dtype=torch.bool), torch.zeros(rows, length, dtype=torch.bool)
    for row, (tokens, where, wanted) in enumerate(built):
        n = len(tokens)
        ids[row, :n], targets[row, :n] = torch.tensor(tokens), torch.tensor(wanted)
        valid[row, :n], places[row, :n] = True, torch.tensor(where)
    image_positions = places if pixel_values is not None else None
    return Conversations(ids=ids, valid=valid, targets=targets, image_positions=image_positions, pixel_values=pixel_values)
