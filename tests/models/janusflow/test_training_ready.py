"""What training needs of the model: gradients everywhere, less memory on request, arguments left alone."""

import copy

import pytest
import torch

from jfeval.models.janusflow.model import JanusFlow, PromptBatch, causal_mask
from jfeval.models.training.objectives import (
    IGNORED,
    AlignmentHead,
    Conversations,
    FlowSettings,
    autoregressive_loss,
    draw_flow_batch,
    flow_losses,
)

PAD = 0


@pytest.fixture
def batches(config):
    generator = torch.Generator().manual_seed(5)
    side, n = config.latent_size, config.vision.tokens + 1
    prompts = PromptBatch.from_lists([[1, 5, 6, 7], [1, 9]], pad_id=PAD)
    flow = draw_flow_batch(
        torch.randn(2, 4, side, side, generator=generator),
        prompts,
        torch.randn(2, 3, 16, 16, generator=generator),
        FlowSettings(prompt_dropout=0.0),
        pad_id=PAD,
        generator=generator,
    )
    ids = torch.tensor([[1, 4, *[-1] * n, 8, 11, 12, 2]])
    targets = torch.full_like(ids, IGNORED)
    targets[0, -3:] = ids[0, -3:]
    talk = Conversations(
        ids=ids,
        valid=torch.ones_like(ids, dtype=torch.bool),
        targets=targets,
        image_positions=ids < 0,
        pixel_values=torch.randn(1, 1, 3, 16, 16, generator=generator),
    )
    return flow, talk


def losses(model, head, batches):
    flow, talk = batches
    velocity, aligned = flow_losses(model, head, flow, FlowSettings())
    return velocity + aligned + autoregressive_loss(model, talk)


@pytest.fixture
def trained(model):
    """A copy in training mode, and an alignment head."""
    torch.manual_seed(2)
    return copy.deepcopy(model).train(), AlignmentHead(32, 24, 16)


def test_gradients_reach_every_parameter_but_the_unused_head(trained, batches):
    model, head = trained
    losses(model, head, batches).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert without == {name for name, _ in model.named_parameters() if ".vision_tower.head." in name} | _without_gradient_by_nature(model)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert all(p.grad.abs().sum() > 0 for p in head.parameters())
    assert model.beg_of_und_embed.grad.abs().min() > 0


def _without_gradient_by_nature(model):
    """A key's bias adds the same to all scores of a query, which softmax ignores: its gradient is rounding, zero or nearly so."""
    return {name for name, p in model.named_parameters() if name.endswith("k_proj.bias") and not p.grad.abs().sum() > 0}


@pytest.mark.parametrize("wanted", ["flow", "talk"])
def test_each_task_alone_trains_what_it_uses(trained, batches, wanted):
    model, _ = trained
    flow, talk = batches
    (flow_losses(model, None, flow, FlowSettings())[0] if wanted == "flow" else autoregressive_loss(model, talk)).backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    drawing = {f"vision_gen_{name}" for name in ("enc_model", "enc_aligner", "dec_aligner_norm", "dec_aligner", "dec_model")}
    reading = {"vision_und_enc_model", "vision_und_enc_aligner", "beg_of_und_embed"}
    assert touched == {"language_model"} | (drawing if wanted == "flow" else reading)


def gradients(model, head, batches):
    saved = 0

    def count(tensor):
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = losses(model, head, batches)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, saved


def test_activation_checkpointing_saves_memory_and_changes_no_gradient(trained, batches):
    model, head = trained
    loss, expected, plain = gradients(model, head, batches)
    model.checkpoint_activations()
    again, found, less = gradients(model, head, batches)
    assert torch.equal(loss, again)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-5)
    assert less < 0.5 * plain
    model.checkpoint_activations(False)
    assert gradients(model, head, batches)[2] == plain


def test_checkpointing_is_for_training_only(trained, batches):
    model, head = trained
    _, _, plain = gradients(model.eval(), head, batches)
    model.checkpoint_activations()
    assert gradients(model, head, batches)[2] == plain
    cache = model.encode_prompt(batches[0].prompts)
    assert cache.length == 4


def test_nothing_that_is_given_is_changed(model, batches):
    flow, talk = batches
    prompts = flow.prompts
    given = {
        "z": flow.latents, "t": flow.t, "ids": prompts.ids, "valid": prompts.valid, "positions": prompts.positions, "talk": talk.ids,
        "places": talk.image_positions, "pixels": talk.pixel_values, "whole": talk.valid,
    }  # fmt: skip
    before = {name: tensor.clone() for name, tensor in given.items()}
    with torch.no_grad():
        cache = model.encode_prompt(prompts)
        for use in (None, cache):
            model.velocity(flow.latents, flow.t, prompts, cache=use)
        embeds = model.embed_conversation(talk.ids, talk.image_positions, talk.pixel_values)
        embeds_before = embeds.clone()
        positions = torch.arange(embeds.shape[1])[None]
        model.backbone(embeds, positions, causal_mask(talk.valid, embeds.shape[1]))
        prompts.unconditional(PAD)
        prompts.then(prompts)
    assert torch.equal(embeds, embeds_before)
    for name, tensor in given.items():
        assert torch.equal(tensor, before[name]), name


def test_a_cache_made_from_another_writes_elsewhere(model):
    prompts = PromptBatch.from_lists([[1, 5, 6], [1, 9, 4]], pad_id=PAD)
    with torch.no_grad():
        cache = model.encode_prompt(prompts)
        before = [k.clone() for k in cache._keys]
        other = cache.rows([1, 0, 1], room=2)
        valid = torch.ones(3, 8, dtype=torch.bool)
        for step in range(5):  # beyond the room
            embeds = model.embed(torch.tensor([[3], [4], [5]]))
            model.backbone(embeds, torch.full((3, 1), 3 + step), causal_mask(valid[:, : 4 + step], 1), cache=other)
    assert other.length == 8
    assert cache.length == 3
    assert all(torch.equal(a, b) for a, b in zip(cache._keys, before, strict=True))
    assert torch.equal(other._keys[0][0, :, :3], cache._keys[0][1])


def test_a_prompt_longer_than_the_context_is_refused(model):
    context = model.config.language.max_position_embeddings
    room = context - 1 - model.config.image_tokens
    with pytest.raises(ValueError, match=f"a prompt of {room + 1} tokens and an image of 16 exceed the model's context of {context}"):
        model.encode_prompt(PromptBatch.from_lists([[1] * (room + 1)], pad_id=PAD))
    with torch.no_grad():
        assert model.encode_prompt(PromptBatch.from_lists([[1] * room], pad_id=PAD)).length == room


def test_a_model_can_be_copied_and_moved_between_types(model):
    moved = copy.deepcopy(model).to(torch.bfloat16).to(torch.float32)
    exact = JanusFlow(model.config).language_model.model.rotary_emb.inv_freq
    assert torch.equal(moved.language_model.model.rotary_emb.inv_freq, exact)
