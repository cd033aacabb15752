"""Packed rows give the losses of the same samples one per row."""

from dataclasses import replace

import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.training.objectives import IGNORED, Conversations, FlowBatch, autoregressive_loss, interpolate
from jfeval.models.training.packing import DRAWN, READ, Piece, arranged, forward_packed, pack

PAD, IMAGE, TOKENS = 0, 9, 4
GENERATOR = torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    language = LanguageConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, vocab_size=20
    )
    vision = VisionConfig(model_name="tiny", image_size=8, patch_size=4, width=8, layers=1, heads=2)
    built = JanusFlow(JanusFlowConfig(language=language, vision=vision, flow=FlowConfig(width=8)))
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return built


def image():
    return torch.randn(3, 8, 8, generator=GENERATOR)


def drawing(prompt, t, dropped=False):
    ids = [prompt[0], *[PAD] * (len(prompt) - 1)] if dropped else prompt
    total = len(ids) + 1 + TOKENS
    return Piece(
        id="g",
        kind="generation",
        tokens=[*ids, *[PAD] * (1 + TOKENS)],
        targets=[IGNORED] * total,
        inserted=[0] * len(ids) + [DRAWN] * (1 + TOKENS),
        hidden=[dropped and 0 < i < len(ids) for i in range(total)],
        pixels=image(),
        t=t,
        noise=torch.randn(4, 4, 4, generator=GENERATOR),
    )


def conversation(before, answer):
    tokens = [1, *[IMAGE] * (1 + TOKENS), *before, *answer]
    targets = [IGNORED] * (len(tokens) - len(answer)) + answer
    inserted = [0, *[READ] * (1 + TOKENS), *[0] * (len(before) + len(answer))]
    return Piece(id="u", kind="understanding", tokens=tokens, targets=targets, inserted=inserted, pixels=image())


def text(tokens):
    return Piece(id="t", kind="text", tokens=tokens, targets=[IGNORED, *tokens[1:]], inserted=[0] * len(tokens))


@pytest.fixture(scope="module")
def pieces():
    return [
        drawing([1, 5, 6, 7], 0.3),
        conversation([3, 4], [8, 2]),
        text([1, 11, 12, 2]),
        drawing([1, 5], 0.7, dropped=True),
        drawing([1, 5, 6], 0.9, dropped=True),
        conversation([3], [10, 2]),
        text([1, 13, 2]),
    ]


def unpacked(model, pieces):
    """The losses of `objectives`, each kind padded as `Mixture` pads it."""
    drawn = [p for p in pieces if p.kind == "generation"]
    prompts = PromptBatch.from_lists([p.tokens[: -1 - TOKENS] for p in drawn], pad_id=PAD)
    dropped = torch.tensor([any(p.hidden) for p in drawn])
    latents = torch.stack([p.pixels[:1].expand(4, -1, -1)[:, :4, :4] for p in drawn])
    batch = FlowBatch(
        latents=latents,
        noise=torch.stack([p.noise for p in drawn]),
        t=torch.tensor([p.t for p in drawn]),
        prompts=prompts.unconditional(PAD, dropped),
        pixel_values=torch.stack([p.pixels for p in drawn]),
    )
    z, _ = interpolate(batch.latents, batch.noise, batch.t)
    velocity, states = model.velocity(z, batch.t, batch.prompts, collect=2)
    losses = {}
    for kind, name in (("understanding", "answers"), ("text", "text")):
        chosen = [p for p in pieces if p.kind == kind]
        length = max(map(len, chosen))
        rows = [
            (
                p.tokens + [PAD] * (length - len(p)),
                p.targets + [IGNORED] * (length - len(p)),
                [i < len(p) for i in range(length)],
                [i < len(p) and p.inserted[i] == READ for i in range(length)],
            )
            for p in chosen
        ]
        ids, targets, valid, places = (torch.tensor(column) for column in zip(*rows, strict=True))
        pixels = torch.stack([p.pixels for p in chosen])[:, None] if kind == "understanding" else None
        image_positions = places if pixels is not None else None
        losses[name] = autoregressive_loss(
            model, Conversations(ids=ids, valid=valid, targets=targets, image_positions=image_positions, pixel_values=pixels)
        )
    return velocity, states, losses, z


def in_order(pieces, room):
    """The numbers of the drawn pieces, in the order in which rows hold them."""
    drawn = [n for n, p in enumerate(pieces) if p.kind == "generation"]
    return [drawn.index(n) for row in arranged([len(p) for p in pieces], room) for n in row if n in drawn]


@pytest.mark.parametrize("room", [12, 25, 70])
def test_packed_rows_give_the_losses_of_single_rows(model, pieces, room):
    velocity, states, losses, z = unpacked(model, pieces)
    order = in_order(pieces, room)
    batch = pack(pieces, room, PAD, isolate=True)
    out = forward_packed(model, batch, z[order], collect=2)
    torch.testing.assert_close(out.velocity, velocity[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.states, states[order], atol=1e-5, rtol=1e-5)
    for name, value in losses.items():
        torch.testing.assert_close(out.losses[name], value, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_single_rows(model, pieces):
    velocity, _, losses, z = unpacked(model, pieces)
    order = in_order(pieces, 25)
    parameters = [p for n, p in model.named_parameters() if ".head." not in n]
    alone = torch.autograd.grad(velocity.square().mean() + losses["answers"] + losses["text"], parameters)
    out = forward_packed(model, pack(pieces, 25, PAD, isolate=True), z[order], collect=None)
    packed = torch.autograd.grad(out.velocity.square().mean() + out.losses["answers"] + out.losses["text"], parameters)
    for a, b in zip(alone, packed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_without_isolation_samples_see_one_another(model, pieces):
    apart, joined = (pack(pieces, 70, PAD, isolate=isolate) for isolate in (True, False))
    z = torch.zeros(3, 4, 4, 4)
    with torch.no_grad():
        a, b = (forward_packed(model, batch, z, collect=None) for batch in (apart, joined))
    torch.testing.assert_close(a.velocity[0], b.velocity[0])  # the first of the row sees itself only, either way
    assert not torch.allclose(a.velocity[1], b.velocity[1], atol=1e-3)
    assert joined.positions[0, :20].tolist() == list(range(20))


def test_a_row_by_hand():
    batch = pack([text([1, 7, 2]), drawing([1, 5, 6], 0.5, dropped=True)], 12, PAD, isolate=True)
    assert batch.tokens[0].tolist() == [1, 7, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert batch.positions[0].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert batch.documents[0].tolist() == [0] * 3 + [1] * 8 + [-1]
    allowed = batch.mask()[0, 0]
    assert allowed[7].nonzero().flatten().tolist() == [3, 6, 7]  # the kept first token and what is drawn before it, not the dropped prompt
    assert allowed[11].nonzero().flatten().tolist() == [11]
    assert allowed[2].nonzero().flatten().tolist() == [0, 1, 2]


def test_pieces_fill_the_first_row_with_room_and_none_is_cut():
    assert arranged([6, 5, 2, 3, 9], 10) == [[0, 2], [1, 3], [4]]
    with pytest.raises(UserError, match=r"a sample of 11 tokens does not fit into mixture.pack_to = 10"):
        arranged([3, 11], 10)


def test_a_batch_of_one_kind_needs_no_other(model, pieces):
    only = [p for p in pieces if p.kind == "text"]
    out = forward_packed(model, pack(only, 16, PAD, isolate=True), None, collect=2)
    assert out.velocity is None
    assert set(out.losses) == {"text"}
    drawn = [replace(p, id="x") for p in pieces if p.kind == "generation"]
    out = forward_packed(model, pack(drawn, 16, PAD, isolate=True), torch.zeros(3, 4, 4, 4), collect=2)
    assert out.losses == {}
