"""The language model before it meets an image: a small Llama on packed training texts.

Documents (captions, exchanges in chat form, plain texts) are laid end to end into rows of fixed length. Each begins with the
sentence-begin token, ends with the sentence-end token, attends to itself only and counts its positions from 0, exactly as it will when
JanusFlow reads it alone.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from jfeval.errors import UserError
from jfeval.models.compiling import compile_each
from jfeval.models.training.checks import fraction, positive
from jfeval.models.training.corpus import chat, draw_document, plain_texts
from jfeval.models.training.data import Sampler, Scenes, StepRng, seeded
from jfeval.models.training.loop import LoopSettings, fit
from jfeval.models.training.objectives import IGNORED
from jfeval.models.training.part import Part
from jfeval.models.training.tokenizer import BOS, end_and_pad, load_tokenizer
from jfeval.settings import NO_EFFECT

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LmSettings:
    """Sizes and batches of the language model."""

    width: int = 256
    mlp: int = 640
    layers: int = 6
    heads: int = 8
    max_positions: int = 1024
    rms_eps: float = 1e-6
    rope_theta: float = 1e4
    row_length: int = 128
    """Tokens per packed row."""
    batch_size: int = 32
    """Rows per batch."""
    captions: float = 0.4
    chats: float = 0.3
    texts: float = 0.3
    """Shares of the three kinds of documents."""
    compile_blocks: bool = field(default=False, metadata=NO_EFFECT)
    """Compile each block, once for all of them. Results change by float rounding only."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=700, learning_rate=2e-3))
    test_scenes: int = 500
    """Test scenes whose captions and exchanges are measured at the end."""

    def __post_init__(self) -> None:
        """Refuse empty batches and shares that do not sum to 1."""
        positive(self, "batch_size", "row_length")
        fraction(self, "captions", "chats", "texts")
        if abs(self.captions + self.chats + self.texts - 1.0) > 1e-6:
            raise UserError(f"captions, chats and texts must sum to 1, got {self.captions} + {self.chats} + {self.texts}")


def build_lm(settings: LmSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the model with random weights drawn from the loop's seed."""
    end, pad = end_and_pad(tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        rms_norm_eps=settings.rms_eps,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.get_vocab()[BOS],
        eos_token_id=end,
        pad_token_id=pad,
    )
    with seeded(settings.loop.seed):
        return LlamaForCausalLM(config)


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Documents laid end to end."""

    ids: list[str]
    tokens: Tensor
    """(B, T)."""
    positions: Tensor
    """(B, T), counted from 0 in each document."""
    documents: Tensor
    """(B, T), which document of its row a token belongs to; -1 for padding."""
    labels: Tensor
    """(B, T), the next token of the same document, or IGNORED."""

    def mask(self) -> Tensor:
        """Return the additive attention mask (B, 1, T, T): causal, and inside one document."""
        same = self.documents[:, :, None] == self.documents[:, None, :]
        allowed = (same & torch.ones_like(same[0]).tril())[:, None]
        return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, torch.finfo(torch.float32).min)


def pack(documents: Iterator[tuple[str, list[int]]], rows: int, length: int, pad: int) -> PackedRows:
    """Fill `rows` rows of `length` tokens with whole documents from an endless iterator of (id, tokens); longer ones are cut to a row."""
    tokens, positions = torch.full((rows, length), pad), torch.zeros((rows, length), dtype=torch.long)
    numbers, labels = torch.full((rows, length), -1), torch.full((rows, length), IGNORED)
    ids: list[str] = []
    name, waiting = next(documents)
    for row in range(rows):
        start = number = 0
        while start + len(waiting[:length]) <= length:
            piece = torch.tensor(waiting[:length])
            span = slice(start, start + len(piece))
            tokens[row, span], positions[row, span], numbers[row, span] = piece, torch.arange(len(piece)), number
            labels[row, start : span.stop - 1] = piece[1:]
            ids.append(name)
            start, number = span.stop, number + 1
            name, waiting = next(documents)
    return PackedRows(ids=ids, tokens=tokens, positions=positions, documents=numbers, labels=labels)


class LmObjective:
    """Next-token prediction on packed documents."""

    def __init__(
        self, module: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, scenes: Scenes, texts: list[str], settings: LmSettings
    ) -> None:
        self.module, self.tokenizer, self.scenes, self.texts, self.settings = module, tokenizer, scenes, texts, settings
        self.end, self.pad = end_and_pad(tokenizer)
        self.most = settings.batch_size * settings.row_length // 4
        self.sampler = Sampler(len(scenes), self.most, settings.loop.seed)

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Train everything at one rate."""
        return [(1.0, list(self.module.parameters()))]

    def batch(self, step: int, rng: StepRng) -> PackedRows:
        """Draw documents until the rows are full."""
        s = self.settings
        shares = (s.captions, s.chats, s.texts)
        rows = self.sampler.indices(step)

        def documents() -> Iterator[tuple[str, list[int]]]:
            number = 0
            while True:
                row = int(rows[number % len(rows)])
                yield self.scenes.ids[row], self._tokens(draw_document(self.scenes, self.texts, row, rng, shares))
                number += 1

        return pack(documents(), s.batch_size, s.row_length, self.pad)

    def _tokens(self, text: str) -> list[int]:
        return [*self.tokenizer.encode(text), self.end]

    def ids(self, batch: PackedRows) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def loss(self, batch: PackedRows) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the mean negative log likelihood per token."""
        return next_token_loss(self.module, batch), {}


def next_token_loss(model: LlamaForCausalLM, batch: PackedRows) -> Tensor:
    """Return the mean negative log likelihood, in nats, of the tokens that follow another in their document."""
    logits = model(input_ids=batch.tokens, position_ids=batch.positions, attention_mask=batch.mask()).logits
    return F.cross_entropy(logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, documents: Sequence[str], settings: LmSettings) -> float:
    """Return exp of the mean negative log likelihood per token over `documents`."""
    end, pad = end_and_pad(tokenizer)
    total = count = 0.0
    for start in range(0, len(documents), 256):
        encoded = [[*tokenizer.encode(d), end][: settings.row_length] for d in documents[start : start + 256]]
        single = one_per_row(encoded, max(len(e) for e in encoded), pad)
        tokens = int((single.labels != IGNORED).sum())
        total += float(next_token_loss(model, single)) * tokens
        count += tokens
    return math.exp(total / count)


def one_per_row(encoded: Sequence[Sequence[int]], length: int, pad: int) -> PackedRows:
    """Lay one document per row, padded on the right to `length`."""
    tokens = torch.tensor([[*e, *[pad] * (length - len(e))] for e in encoded])
    inside = torch.arange(length)[None] < torch.tensor([len(e) for e in encoded])[:, None]
    labels = torch.full_like(tokens, IGNORED)
    labels[:, :-1] = torch.where(inside[:, 1:], tokens[:, 1:], IGNORED)
    positions = torch.arange(length).expand(len(encoded), -1)
    return PackedRows(ids=[], tokens=tokens, positions=positions, documents=torch.where(inside, 0, -1), labels=labels)


def train_lm(settings: LmSettings, part: Part) -> dict[str, float]:
    """Train the language model and write it in transformers' form, with its perplexity on texts of test scenes."""
    data = part.inputs["data"]
    tokenizer = load_tokenizer(part.inputs["tokenizer"] / "tokenizer")
    scenes, test = Scenes.open_train(data), Scenes(data, "test")
    model = build_lm(settings, tokenizer)
    size = float(np.sum([p.numel() for p in model.parameters()]))
    log.info("lm: %d parameters", size)
    device = part.ranks.device(settings.loop.device)
    if device == "cpu":
        model.set_attn_implementation("eager")  # short rows: the backward pass of fused attention is slower on a CPU
    if settings.compile_blocks:
        compile_each(model.model.layers, device)
    objective = LmObjective(model, tokenizer, scenes, plain_texts(data), settings)
    result = fit(part.name, objective, settings.loop, part.folder, signature=part.hash)
    model.save_pretrained(part.folder / "lm", safe_serialization=True)
    rows = range(min(settings.test_scenes, len(test)))
    exchanges = [chat(q.question, q.answer) for row in rows for q in test.questions(row)[:2]]
    with torch.compiler.set_stance("force_eager"):  # documents have many lengths, each of which would be compiled
        captions = perplexity(model, tokenizer, [test.captions(row)[0] for row in rows], settings)
        chats = perplexity(model, tokenizer, exchanges, settings)
    return {
        "caption_perplexity": captions,
        "chat_perplexity": chats,
        "parameters": size,
        "seconds": result.seconds,
    }
