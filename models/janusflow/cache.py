"""Keys and values of a prefix, computed once and reused."""

import torch
from torch import Tensor


class KeyValueCache:
    """Keys and values of every block, in the form that transformers' attention layers ask for.

    While open, each forward pass appends. Once frozen, a pass sees the prefix and leaves it as it is: that is what a sampler needs,
    which runs many passes after one prompt. Reusing the prompt is exact, because attention is causal and the prompt comes first.
    """

    def __init__(self) -> None:
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self.frozen = False

    @property
    def length(self) -> int:
        """Cached positions."""
        return self._keys[0].shape[2] if self._keys else 0

    def freeze(self) -> "KeyValueCache":
        """Stop appending."""
        self.frozen = True
        return self

    def first(self, rows: int) -> "KeyValueCache":
        """Return a frozen view of the first ``rows`` rows; nothing is copied."""
        view = KeyValueCache()
        view._keys, view._values = [k[:rows] for k in self._keys], [v[:rows] for v in self._values]
        return view.freeze()

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Return the keys and values that block ``layer_idx`` attends to, each (B, heads, prefix + T, head width)."""
        if layer_idx < len(self._keys):
            keys = torch.cat([self._keys[layer_idx], keys], dim=2)
            values = torch.cat([self._values[layer_idx], values], dim=2)
            if not self.frozen:
                self._keys[layer_idx], self._values[layer_idx] = keys, values
        elif not self.frozen:
            self._keys.append(keys)
            self._values.append(values)
        return keys, values
