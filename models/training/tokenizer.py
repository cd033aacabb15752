"""The text tokenizer: byte-level, with every common word one token, and the published special tokens.

A vocabulary this small needs no learnt merges: a pre-token (a word with the space before it, a punctuation mark) that is frequent
enough in the training texts is one token, everything else is spelt in bytes, so no text is ever unknown.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from jfeval.errors import UserError
from jfeval.models.janusflow.processing import SpecialTokens
from jfeval.models.training.corpus import plain_texts, vocabulary_texts
from jfeval.models.training.data import Scenes
from jfeval.models.training.part import Part

log = logging.getLogger(__name__)

_TOKENS = SpecialTokens()
BOS, EOS, PAD = _TOKENS.begin, _TOKENS.end, _TOKENS.pad
SPECIAL = (BOS, EOS, PAD, _TOKENS.image, _TOKENS.image_start, _TOKENS.image_end, _TOKENS.generation_start)


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """What the vocabulary holds."""

    size: int = 512
    """Most tokens; the fewest is the special tokens and 256 bytes."""
    least_count: int = 5
    """Occurrences in the texts looked at that make a pre-token a token."""
    scenes: int = 20000
    """Scenes whose captions and questions are counted."""
    always: tuple[str, ...] = ("User: \n\nAssistant:", " yes no Yes No", "yes")
    """Texts whose pre-tokens are tokens however rare they are."""

    def __post_init__(self) -> None:
        """Refuse a vocabulary without room for bytes."""
        if self.size < len(SPECIAL) + 256:
            raise UserError(f"size must be at least {len(SPECIAL) + 256} (special tokens and bytes), got {self.size}")


def build_tokenizer(texts: Iterable[str], settings: TokenizerSettings) -> Tokenizer:
    """Count the pre-tokens of `texts` and build the tokenizer; ties go by spelling, so the result depends on the counts alone."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter(texts)
    for text, times in seen.items():
        for piece, _ in splitter.pre_tokenize_str(text):
            counts[piece] += times
    for text in settings.always:
        for piece, _ in splitter.pre_tokenize_str(text):
            counts[piece] += 1_000_000_000
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= settings.least_count and len(w) > 1]
    entries = [*SPECIAL, *alphabet, *words][: settings.size]
    vocabulary = {token: number for number, token in enumerate(entries)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B:1", special_tokens=[(BOS, vocabulary[BOS])]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write tokenizer.json and a tokenizer_config.json that transformers' AutoTokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": list(SPECIAL[3:]),
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), "utf-8")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer folder as transformers does, without looking anywhere else."""
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def end_and_pad(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    """Return the ids of the sentence-end and padding tokens.

    Raises:
        UserError: where the tokenizer has none.
    """
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if not isinstance(end, int) or not isinstance(pad, int):
        raise UserError(f"the tokenizer needs an end and a padding token; it has {tokenizer.eos_token!r} and {tokenizer.pad_token!r}")
    return end, pad


def train_tokenizer(settings: TokenizerSettings, part: Part) -> dict[str, Any]:
    """Build the tokenizer from training texts and write it, with the length of captions in tokens."""
    data = part.inputs["data"]
    scenes = Scenes.open_train(data)
    tokenizer = build_tokenizer(vocabulary_texts(scenes, plain_texts(data), settings.scenes), settings)
    save_tokenizer(tokenizer, part.folder / "tokenizer", max_length=1024)
    lengths = [len(tokenizer.encode(scenes.captions(row)[0]).ids) for row in range(0, len(scenes), max(1, len(scenes) // 1000))]
    return {
        "vocabulary": tokenizer.get_vocab_size(),
        "caption_tokens_mean": sum(lengths) / len(lengths),
        "caption_tokens_most": max(lengths),
    }
