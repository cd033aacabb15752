"""The three kinds of training data in one batch: images to draw, conversations about images, and text.

A batch is a pure function of the step. Its shares are fixed counts, so that the ratio is exact in every batch and every tensor has a
fixed shape (a compiled loss is compiled once), or phases of shares, whose counts `ratios.Schedule` gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.model import PromptBatch
from jfeval.models.janusflow.processing import IMAGE_PLACEHOLDER, Message, Processor, format_prompt
from jfeval.models.training.checks import fraction, not_negative, positive
from jfeval.models.training.data import Question, Sampler, Scenes, StepRng
from jfeval.models.training.objectives import IGNORED, Conversations, FlowBatch, FlowSettings, draw_flow_batch, shuffled
from jfeval.models.training.part import ADDED, coerce
from jfeval.models.training.ratios import ALIKE, KINDS, Counts, Fixed, Phase, Scale, Schedule, check_phases
from jfeval.settings import NO_EFFECT

DESCRIBE = "Generate the caption of this picture."
"""Asks for a description. Source: paper, training data."""


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
    """Captions in chat form are padded to this length; a longer one is left out. Of a data source's row, which has no other, the caption
    loses its last tokens, inside the chat form, which stays whole."""
    short_captions: float = field(default=0.0, metadata=ADDED)
    """Share of images to be drawn that take their shortest caption instead of any, as prompts in use are short. Source: paper, training
    data (a quarter of the captions for generation are single sentences)."""
    long_captions: float = field(default=0.0, metadata=ADDED)
    """Share of images to be drawn that take their longest caption that fits: it says most, above all which attribute is whose."""
    turns: int = 3
    """Questions per conversation, at most; 0 for all. Decoded scenes have many short ones, drawn anew for every batch; a data source's
    conversations are whole and keep their order, so 0 suits them."""
    describe: float = field(default=0.0, metadata=ADDED)
    """Share of conversations that ask for a description and are answered by one of the image's captions, where a short answer says one
    thing. Source: paper, training data (image captions stand among the understanding data of stages 1 and 2)."""
    conversation_tokens: int = 128
    """Conversations are padded to this length; turns that do not fit are left out."""
    text_tokens: int = 40
    """Texts are padded or cut to this length."""
    batch_size: int = field(default=0, metadata=ADDED)
    """Samples per batch where the ratio is given as `phases`; the three counts above then play no part."""
    phases: tuple[Phase, ...] = field(default=(), metadata=ADDED)
    """Shares of the three kinds, from one update to another; empty for the fixed counts above."""
    leave_out: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Kinds that are drawn and then left out of the batch, so that what remains is what a training with every kind sees."""
    pack_to: int = field(default=0, metadata=ADDED)
    """Tokens per row into which samples of data sources are packed, 4,096 in the paper; 0 for decoded scenes, which are not packed."""
    workers: int = field(default=0, metadata=NO_EFFECT)
    """Threads that decode the images of data sources; 0 for one for each core, 16 at most. They hold a batch of images."""
    isolate: bool = field(default=True, metadata=ADDED)
    """Whether packed samples see themselves only. The paper does not say; a sample then learns what it will meet in use."""

    def __post_init__(self) -> None:
        coerce(self, "phases", Phase)
        fraction(self, "describe", "short_captions", "long_captions", prefix="mixture.")
        not_negative(self, *KINDS, "batch_size", "pack_to", "turns", "workers", prefix="mixture.")
        positive(self, "prompt_tokens", "conversation_tokens", "text_tokens", prefix="mixture.")
        if self.short_captions + self.long_captions > 1:
            raise UserError(
                f"mixture.short_captions and mixture.long_captions are shares of the same images and exceed 1: {self.short_captions:g} + "
                f"{self.long_captions:g}"
            )
        if bool(self.phases) != bool(self.batch_size):
            raise UserError("mixture.phases and mixture.batch_size belong together: give both, or neither")
        if self.phases:
            check_phases(self.phases, self.batch_size)
        if wrong := sorted(set(self.leave_out) - set(KINDS)):
            raise UserError(f"mixture.leave_out names {', '.join(wrong)}; the kinds are {', '.join(KINDS)}")
        shares = self.phases or (self,)
        if not any(getattr(each, kind) for each in shares for kind in KINDS if kind not in self.leave_out):
            raise UserError("the mixture is empty: generation, understanding and text are all 0 or left out")

    def schedule(self, accumulate: int) -> Schedule | Fixed:
        """Return the counts of every batch; ``accumulate`` batches make an update."""
        if self.phases:
            return Schedule(self.phases, self.batch_size, accumulate)
        return Fixed(Counts(understanding=self.understanding, generation=self.generation, text=self.text))

    def samples(self, updates: int, accumulate: int) -> Counts:
        """Return how many samples of each kind a training of so many updates learns from."""
        drawn = self.schedule(accumulate).before(updates * accumulate)
        return Counts(*(0 if kind in self.leave_out else n for kind, n in zip(KINDS, drawn, strict=True)))


@dataclass(frozen=True, kw_only=True)
class MixedBatch:
    """One step's samples; a kind with no samples is None."""

    ids: tuple[str, ...]
    flow: FlowBatch | None
    understanding: Conversations | None
    text: Conversations | None
    scale: Scale = ALIKE
    """How much each kind counts in the batch's update."""


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
        accumulate: int = 1,
        features: np.ndarray | None = None,
    ) -> None:
        if len(latents) != len(scenes):
            raise UserError(f"{len(latents)} cached latents for {len(scenes)} scenes; they belong to different data")
        self.schedule = settings.schedule(accumulate)
        reads = any(phase.text for phase in settings.phases) if settings.phases else settings.text
        if reads and not texts:
            raise UserError("the mixture asks for text, but the data has none; set mixture.text to 0")
        self.scenes, self.latents, self.texts, self.processor, self.settings, self.flow = scenes, latents, texts, processor, settings, flow
        self.features = features
        sizes = {"generation": len(scenes), "understanding": len(scenes), "text": len(texts)}
        self._samplers = {kind: Sampler(n, 1, seed + k) for k, (kind, n) in enumerate(sizes.items()) if n}

    def batch(self, step: int, rng: StepRng) -> MixedBatch:
        """Draw the batch of one step: generation, understanding, text, in this order."""
        start, counts = self.schedule.before(step)._asdict(), self.schedule.counts(step)._asdict()
        rows = {
            kind: self._samplers[kind].between(start[kind], start[kind] + n) if n else np.empty(0, np.int64) for kind, n in counts.items()
        }
        drawing, talking, reading = rows["generation"], rows["understanding"], rows["text"]
        flow = self._flow(drawing, rng) if len(drawing) else None
        understanding = self._conversations(talking, rng) if len(talking) else None
        text = self._text(reading) if len(reading) else None
        out = self.settings.leave_out
        kept = [*(() if "generation" in out else drawing), *(() if "understanding" in out else talking)]
        return MixedBatch(
            ids=(*(self.scenes.ids[int(i)] for i in kept), *(f"text {int(i)}" for i in (() if "text" in out else reading))),
            flow=None if "generation" in out else flow,
            understanding=None if "understanding" in out else understanding,
            text=None if "text" in out else text,
            scale=self.schedule.scale(step),
        )

    def _flow(self, rows: np.ndarray, rng: StepRng) -> FlowBatch:
        ids = [self._caption(int(row), rng) for row in rows]
        prompts = fixed_prompts(ids, self.settings.prompt_tokens, self.processor.pad_id)
        latents = torch.from_numpy(np.asarray(self.latents[rows], np.float32))
        pixels = self.scenes.pixels(rows)
        batch = draw_flow_batch(latents, prompts, pixels, self.flow, pad_id=self.processor.pad_id, generator=rng.torch)
        batch = replace(batch, features=self._features(rows))
        return shuffled(batch, self.processor.tokens_per_image, rng.torch) if self.flow.repa_target == "shuffled" else batch

    def _caption(self, row: int, rng: StepRng) -> list[int]:
        captions, short, long = self.scenes.captions(row), self.settings.short_captions, self.settings.long_captions
        mark = rng.numpy.random() if short or long else 1.0
        if mark < short:
            captions = [min(captions, key=len)]
        order = [captions[int(place)] for place in rng.numpy.permutation(len(captions))]
        if short <= mark < short + long:
            order.sort(key=len, reverse=True)
        for caption in order:
            ids = self.processor.generation_prompt(caption)
            if len(ids) <= self.settings.prompt_tokens:
                return ids
        raise UserError(
            f"every caption of scene {self.scenes.ids[row]} is longer than mixture.prompt_tokens = {self.settings.prompt_tokens}; raise it"
        )

    def _conversations(self, rows: np.ndarray, rng: StepRng) -> Conversations:
        built = []
        for row in rows:
            if self.settings.describe and rng.numpy.random() < self.settings.describe:
                captions = self.scenes.captions(int(row))
                chosen = [Question(question=DESCRIBE, answer=captions[rng.numpy.integers(len(captions))], kind="caption")]
            else:
                questions = self.scenes.questions(int(row))
                chosen = [questions[int(i)] for i in rng.numpy.permutation(len(questions))[: self.settings.turns or None]]
            built.append(dialogue(chosen, self.processor, self.settings.conversation_tokens))
        pixels, features = self.scenes.pixels(rows)[:, None], self._features(rows)
        padded = pad_conversations(built, self.settings.conversation_tokens, self.processor.pad_id, pixels)
        return padded if features is None else replace(padded, features=features[:, None])

    def _features(self, rows: np.ndarray) -> torch.Tensor | None:
        return None if self.features is None else torch.from_numpy(np.asarray(self.features[rows], np.float32))

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
