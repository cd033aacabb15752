"""Keys and values of a prefix, computed once and reused."""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

CACHE_ARGUMENT = "cache" if "cache" in inspect.signature(LlamaDecoderLayer.forward).parameters else "past_key_values"
"""What the installed transformers calls the keys and values that its language models are given; it renamed them in release 5."""
_ROOM = 64
"""Columns that are added at a time to a cache that grows token by token."""


class KeyValueCache:
    """Keys and values of every block, in the form that transformers' attention layers ask for.

    While open, each forward pass appends. Once frozen, a pass sees the prefix and leaves it as it is: that is what a sampler needs,
    which runs many passes after one prompt. Reusing the prompt is exact, because attention is causal and the prompt comes first.
    An open cache that came from another writes into memory of its own, never into the other's.
    """

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._lengths: list[int] = []
        self.frozen = False

    @property
    def length(self) -> int:
        """Cached positions."""
        return self._lengths[0] if self._lengths else 0

    def freeze(self) -> "KeyValueCache":
        """Stop appending."""
        self.frozen = True
        return self

    def first(self, rows: int) -> "KeyValueCache":
        """Return a frozen view of the first ``rows`` rows; nothing is copied."""
        return self._derived(lambda held: held[:rows]).freeze()

    def rows(self, indices: Sequence[int], room: int = 0) -> "KeyValueCache":
        """Return an open copy of some rows, in the order and as often as asked for, with space for ``room`` more columns."""

        def chosen(held: Tensor) -> Tensor:
            columns = held.shape[2]
            out = held.new_empty(len(indices), held.shape[1], columns + room, held.shape[3])
            for row, index in enumerate(indices):
                out[row, :, :columns] = held[index]
            return out

        return self._derived(chosen)

    def _derived(self, change: Callable[[Tensor], Tensor]) -> "KeyValueCache":
        other = KeyValueCache()
        other._lengths = list(self._lengths)
        for ours, theirs in ((self._keys, other._keys), (self._values, other._values)):
            theirs.extend(change(held[:, :, :length]) for held, length in zip(ours, self._lengths, strict=True))
        return other

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Return the keys and values that block ``layer_idx`` attends to, each (B, heads, prefix + T, head width)."""
        if layer_idx >= len(self._keys):
            if not self.frozen:
                self._keys.append(keys)
                self._values.append(values)
                self._lengths.append(keys.shape[2])
            return keys, values
        length = self._lengths[layer_idx]
        if self.frozen:
            held_keys, held_values = self._keys[layer_idx][:, :, :length], self._values[layer_idx][:, :, :length]
            return torch.cat([held_keys, keys], dim=2), torch.cat([held_values, values], dim=2)
        end = self._lengths[layer_idx] = length + keys.shape[2]
        held_keys = self._keys[layer_idx] = _written(self._keys[layer_idx], keys, length)
        held_values = self._values[layer_idx] = _written(self._values[layer_idx], values, length)
        return held_keys[:, :, :end], held_values[:, :, :end]


def _written(held: Tensor, new: Tensor, start: int) -> Tensor:
    """Write columns into a cache's tensor, or into a longer copy where they do not fit."""
    end = start + new.shape[2]
    if end > held.shape[2]:
        longer = held.new_empty(held.shape[0], held.shape[1], end + _ROOM, held.shape[3])
        longer[:, :, :start] = held[:, :, :start]
        held = longer
    held[:, :, start:end] = new
    return held
