"""Reading requests that are numbers: tokens and images through the model, with what requests have in common computed once.

Requests with the same system prompt and the same images share the beginning of their token sequences: system prompt, images, and
whatever follows that is equal. That beginning passes through the model once; only its keys and values are repeated for each request.
Attention is causal, so the outputs are those of the requests asked alone, up to float rounding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

import torch
from torch import Tensor

from jfeval.models.janusflow.cache import KeyValueCache
from jfeval.models.janusflow.decoding import Chooser, Decoding, continue_rows
from jfeval.models.janusflow.model import JanusFlow, PromptBatch, causal_mask
from jfeval.models.janusflow.questions import ImageTable

CACHE_BYTES = 4 << 30
"""Memory for keys and values by default."""


@dataclass(frozen=True, kw_only=True)
class Coded:
    """One request as numbers: token ids, and for a place of an image -1 - its row in the table of image embeddings."""

    codes: list[int]
    first_needed: int
    """First position whose output is used."""
    shared_by: tuple[str, tuple[int, ...]]
    """System prompt and images: requests of one kind are likely to begin alike."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Requests with a common beginning."""

    rows: list[int]
    prefix: list[int]


@dataclass(frozen=True, kw_only=True)
class Started:
    """Requests that have passed through the model once."""

    rows: list[int]
    hidden: Tensor
    """Outputs (B, S, D) at the requests' last S columns, padded on the left."""
    cache: KeyValueCache
    valid: Tensor
    """(B, K) bool."""
    positions: Tensor
    """(B, S)."""


class Reader:
    """Passes requests through the model and continues them.

    Args:
        model: The model.
        pad_id: Fills the places of shorter requests in a batch; it is never looked at.
        cache_bytes: Bound of the memory for keys and values; one request is always processed, whatever its size.
        share: Compute common beginnings once. Without, every request is computed whole, which only measurements want.
    """

    def __init__(self, model: JanusFlow, *, pad_id: int, cache_bytes: int = CACHE_BYTES, share: bool = True) -> None:
        self.model, self.pad_id, self.cache_bytes, self.share = model, pad_id, cache_bytes, share

    def continued(
        self, requests: Sequence[Coded], images: ImageTable, *, limits: Sequence[int], rules: Sequence[Decoding], stop_id: int | None
    ) -> Iterator[list[tuple[int, int]]]:
        """Continue requests token by token, batch after batch.

        Args:
            requests: What is continued.
            images: What they show.
            limits: Most new tokens of each.
            rules: How each one's next token is chosen.
            stop_id: Ends a request; it is not part of the result. None never stops.

        Yields:
            (request, token) pairs, step by step.

        Raises:
            FloatingPointError: The model's outputs are not finite; names the step.
        """
        for started in self.start(requests, images, room=max(limits)):
            steps = continue_rows(
                self.model,
                started.hidden[:, -1],
                cache=started.cache,
                valid=started.valid,
                positions=started.positions[:, -1:],
                choose=Chooser([rules[row] for row in started.rows]),
                limits=[limits[row] for row in started.rows],
                stop_id=stop_id,
            )
            for step in steps:
                yield [(started.rows[place], token) for place, token in step]

    @torch.no_grad()
    def start(self, requests: Sequence[Coded], images: ImageTable, *, room: int) -> Iterator[Started]:
        """Pass all requests through the model, common beginnings once, in batches that fit into the memory for keys and values.

        Args:
            requests: What is read.
            images: What they show.
            room: New tokens for which there must be memory.
        """
        budget = self.cache_bytes // 2 // self._bytes_per_token()
        groups = sorted(self._groups(requests), key=lambda group: len(group.prefix))
        for batch in _fitting(groups, [len(group.prefix) for group in groups], budget):
            prefix = self._padded([group.prefix for group in batch])
            held = KeyValueCache()
            self.forward(prefix, images, held)
            rows = [(row, place) for place, group in enumerate(batch) for row in group.rows]
            suffixes = {row: requests[row].codes[len(batch[place].prefix) :] for row, place in rows}
            rows.sort(key=lambda pair: len(suffixes[pair[0]]))
            sizes = [prefix.ids.shape[1] + len(suffixes[row]) + room for row, _ in rows]
            for part in _fitting(rows, sizes, budget):
                places = [place for _, place in part]
                new = self._padded([suffixes[row] for row, _ in part])
                cache = held.rows(places, room=new.ids.shape[1] + room)
                whole = PromptBatch(
                    ids=new.ids,
                    valid=torch.cat([prefix.valid[places], new.valid], dim=1),
                    positions=new.positions + prefix.valid[places].sum(dim=1, keepdim=True),
                )
                hidden = self.forward(whole, images, cache)
                yield Started(rows=[row for row, _ in part], hidden=hidden, cache=cache, valid=whole.valid, positions=whole.positions)

    def embed(self, batch: PromptBatch, images: ImageTable) -> Tensor:
        """Embed codes (B, T), images included, as (B, T, D)."""
        embeds = self.model.embed(batch.ids.clamp(min=0))
        if bool((batch.ids < 0).any()):
            embeds[batch.ids < 0] = images.table()[-1 - batch.ids[batch.ids < 0]].to(embeds.dtype)
        return embeds

    def forward(self, batch: PromptBatch, images: ImageTable, cache: KeyValueCache) -> Tensor:
        """Embed codes and run the language model; returns outputs (B, T, D).

        Args:
            batch: Codes (B, T) with their positions, and the columns (B, prefix + T) that hold something.
            images: What the codes show.
            cache: The prefix, which is extended.
        """
        mask = causal_mask(batch.valid, batch.ids.shape[1])
        return self.model.backbone(self.embed(batch, images), batch.positions, mask, cache=cache)[0]

    def _groups(self, requests: Sequence[Coded]) -> Iterator[_Group]:
        """Put requests with a common beginning together; a request without company is a group of its own."""
        order = sorted(range(len(requests)), key=lambda row: requests[row].shared_by)
        for _, members in groupby(order, key=lambda row: requests[row].shared_by if self.share else row):
            rows = list(members)
            longest = min(requests[row].first_needed for row in rows)
            columns = zip(*(requests[row].codes[:longest] for row in rows), strict=True)
            common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
            if common:
                yield _Group(rows=rows, prefix=requests[rows[0]].codes[:common])
            else:
                yield from (_Group(rows=[row], prefix=requests[row].codes[: requests[row].first_needed]) for row in rows)

    def _padded(self, codes: list[list[int]]) -> PromptBatch:
        return PromptBatch.from_lists(codes, pad_id=self.pad_id, device=self.model.device)

    def _bytes_per_token(self) -> int:
        language = self.model.config.language
        width = language.hidden_size // language.num_attention_heads * language.num_key_value_heads
        return 2 * language.num_hidden_layers * width * self.model.dtype.itemsize


def gathered(steps: Iterable[list[tuple[int, int]]], requests: int) -> list[list[int]]:
    """Put the pairs that `Reader.continued` yields together: the new tokens of each request."""
    out: list[list[int]] = [[] for _ in range(requests)]
    for step in steps:
        for row, token in step:
            out[row].append(token)
    return out


def _fitting(items: Sequence, sizes: Sequence[int], budget: int) -> Iterator[list]:
    """Cut items into batches whose number times their largest size stays within a budget; a batch has at least one."""
    batch: list = []
    largest = 0
    for item, size in zip(items, sizes, strict=True):
        if batch and (len(batch) + 1) * max(largest, size) > budget:
            yield batch
            batch, largest = [], 0
        batch.append(item)
        largest = max(largest, size)
    if batch:
        yield batch
