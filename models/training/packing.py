"""Samples of all three kinds laid end to end into sequences of one length, through one pass of the language model.

A sample is a run of tokens: a conversation with its image's embeddings in place, a prompt followed by the time embedding and an image's
latents, or a text. Where samples are isolated, each attends to itself only and counts its positions from 0, so the losses are those of
the same samples one per row. Otherwise a row is one long causal sequence, as where nothing tells samples apart.

Source: paper section 4.2 (packing to 4,096 tokens); whether packed samples see one another is not stated there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training.objectives import IGNORED
from jfeval.models.training.ratios import ALIKE, Scale

READ, DRAWN = 1, 2
"""What stands at a token's place instead of a token's embedding: a picture that is read, or time and latents of one that is drawn."""


@dataclass(kw_only=True)
class Piece:
    """One sample as tokens."""

    id: str
    kind: str
    tokens: list[int]
    targets: list[int]
    """Per token: itself where it is to be predicted, `IGNORED` elsewhere."""
    inserted: list[int]
    """Per token: 0, `READ` or `DRAWN`."""
    hidden: list[bool] = field(default_factory=list)
    """Per token: whether others may not attend to it, as in a dropped prompt; empty for none."""
    pixels: Tensor | None = None
    """The image (3, S, S), to be read or drawn."""
    t: float = 0.0
    noise: Tensor | None = None
    """Of an image that is drawn: its time and its noise (C, h, w)."""
    order: Tensor | None = None
    """(N,): which position's feature each position is aligned to; None for its own."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Rows of pieces."""

    ids: tuple[str, ...]
    tokens: Tensor
    """(R, T)."""
    targets: Tensor
    """(R, T), the token expected at each place, or `IGNORED`."""
    kinds: Tensor
    """(R, T): 0 for a text's token, 1 for another."""
    inserted: Tensor
    """(R, T): 0, `READ` or `DRAWN`."""
    positions: Tensor
    """(R, T) rotary positions."""
    documents: Tensor
    """(R, T): which piece of its row a token belongs to; -1 for padding."""
    visible: Tensor
    """(R, T) bool: may be attended to."""
    read_pixels: Tensor
    """(U, 3, S, S), in the order of their places."""
    drawn_pixels: Tensor
    """(G, 3, S, S), in the order of their places."""
    t: Tensor
    """(G,)."""
    noise: Tensor
    """(G, C, h, w)."""
    order: Tensor | None
    """(G, N), see `Piece.order`."""
    scale: Scale = ALIKE
    """How much each kind counts in the batch's update."""

    def mask(self) -> Tensor:
        """Return which columns each may attend to, (R, 1, T, T) bool: itself, and the visible ones before it in its piece."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        before = columns[None, :] < columns[:, None]
        same = self.documents[:, :, None] == self.documents[:, None, :]
        itself = columns[None, :] == columns[:, None]
        return ((before & same & self.visible[:, None, :]) | itself)[:, None]


def arranged(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Put pieces into rows of ``room`` tokens, each into the first row that has space; return the pieces' numbers by row.

    Raises:
        UserError: A piece is longer than a row.

    >>> arranged([5, 3, 4, 2], 8)
    [[0, 1], [2, 3]]
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for number, length in enumerate(lengths):
        if length > room:
            raise UserError(f"a sample of {length} tokens does not fit into mixture.pack_to = {room}; raise it or shorten samples")
        row = next((r for r, space in enumerate(left) if space >= length), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(number)
        left[row] -= length
    return rows


def pack(pieces: Sequence[Piece], room: int, pad_id: int, *, isolate: bool, scale: Scale = ALIKE) -> PackedBatch:
    """Lay pieces into rows; see `arranged`.

    Args:
        pieces: The samples of one batch.
        room: Tokens per row.
        pad_id: Fills what is left.
        isolate: Whether pieces of one row see themselves only and count positions of their own.
        scale: See `PackedBatch`.
    """
    rows = arranged([len(piece) for piece in pieces], room)
    shape = (len(rows), room)
    tokens, targets, kinds = torch.full(shape, pad_id), torch.full(shape, IGNORED), torch.zeros(shape, dtype=torch.long)
    inserted, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    documents, visible = torch.full(shape, -1), torch.zeros(shape, dtype=torch.bool)
    ordered = [pieces[number] for row in rows for number in row]
    for r, row in enumerate(rows):
        start = 0
        for number, piece in enumerate(pieces[n] for n in row):
            span = slice(start, start + len(piece))
            tokens[r, span], targets[r, span] = torch.tensor(piece.tokens), torch.tensor(piece.targets)
            targets[r, start] = IGNORED  # nothing of its own piece comes before it
            inserted[r, span], kinds[r, span] = torch.tensor(piece.inserted), int(piece.kind != "text")
            first = 0 if isolate else start
            positions[r, span] = torch.arange(first, first + len(piece))
            documents[r, span] = number if isolate else 0
            visible[r, span] = ~torch.tensor(piece.hidden) if piece.hidden else True
            start = span.stop
    read = [p.pixels for p in ordered if p.pixels is not None and READ in p.inserted]
    drawn = [p for p in ordered if p.pixels is not None and DRAWN in p.inserted]
    orders = [p.order for p in drawn if p.order is not None]
    return PackedBatch(
        ids=tuple(piece.id for piece in ordered),
        tokens=tokens,
        targets=targets,
        kinds=kinds,
        inserted=inserted,
        positions=positions,
        documents=documents,
        visible=visible,
        read_pixels=torch.stack(read) if read else torch.empty(0),
        drawn_pixels=torch.stack([p.pixels for p in drawn if p.pixels is not None]) if drawn else torch.empty(0),
        t=torch.tensor([p.t for p in drawn]),
        noise=torch.stack([p.noise for p in drawn if p.noise is not None]) if drawn else torch.empty(0),
        order=torch.stack(orders) if orders else None,
        scale=scale,
    )


@dataclass(frozen=True, kw_only=True)
class PackedOutputs:
    """What one pass over a packed batch gives."""

    losses: Mapping[str, Tensor]
    """``answers`` and ``text``: mean negative log-likelihood of their targets, where there are any."""
    velocity: Tensor | None
    """(G, C, h, w) of the images that are drawn."""
    states: Tensor | None
    """(G, N, D): the collected states of their tokens."""


def forward_packed(
    model: JanusFlow, batch: PackedBatch, z: Tensor | None, *, collect: int | None, read_features: Tensor | None = None
) -> PackedOutputs:
    """Run the model over a packed batch.

    Args:
        model: The model.
        batch: The rows.
        z: Latents (G, C, h, w) at the batch's times; None where nothing is drawn.
        collect: See `JanusFlow.backbone`.
        read_features: (U, N, E), the encoder's features of the images that are read, where they are known; their pixels are then not
            looked at.
    """
    embeds = model.embed(batch.tokens)
    if batch.read_pixels.numel():
        read = model.embed_images(batch.read_pixels) if read_features is None else model.embed_features(read_features)
        embeds = _insert(embeds, batch.inserted == READ, read)
    skip = t_emb = None
    if z is not None:
        t_emb = model.vision_gen_enc_model.embed_time(batch.t)
        skip = model.vision_gen_enc_model(z.to(model.dtype), t_emb)
        image = model.vision_gen_enc_aligner(skip.flatten(2).transpose(1, 2))
        embeds = _insert(embeds, batch.inserted == DRAWN, torch.cat([t_emb[:, None], image], dim=1))
    hidden, collected = model.backbone(embeds, batch.positions, batch.mask(), collect=collect)
    velocity = states = None
    if skip is not None and t_emb is not None:
        out = _extract(hidden, batch.inserted == DRAWN, len(t_emb))
        out = model.vision_gen_dec_aligner(model.vision_gen_dec_aligner_norm(out))
        velocity = model.vision_gen_dec_model(out, skip, t_emb)
        states = None if collected is None else _extract(collected, batch.inserted == DRAWN, len(t_emb))
    return PackedOutputs(losses=_answer_losses(model, hidden, batch), velocity=velocity, states=states)


def _insert(embeds: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Put values (n, k, D) into the marked places of embeds (R, T, D), in order."""
    return embeds.masked_scatter(places[..., None].expand_as(embeds), values.flatten(0, 1).to(embeds.dtype))


def _extract(hidden: Tensor, places: Tensor, images: int) -> Tensor:
    """Take the outputs (n, N, D) at the latents' places; the first of each image's places is the time's."""
    return hidden[places].unflatten(0, (images, -1))[:, 1:]


def _answer_losses(model: JanusFlow, hidden: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
    """Compute the losses of tokens that are to be predicted; the vocabulary is only looked at where one is."""
    wanted = batch.targets[:, 1:]
    asked = wanted != IGNORED
    if not bool(asked.any()):
        return {}
    losses = F.cross_entropy(model.logits(hidden[:, :-1][asked]).float(), wanted[asked], reduction="none")
    kinds = batch.kinds[:, 1:][asked]
    found = {name: losses[kinds == number] for name, number in (("answers", 1), ("text", 0))}
    return {name: values.mean() for name, values in found.items() if len(values)}
