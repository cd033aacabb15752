import pytest
import torch

from jfeval.models.janusflow.model import PromptBatch, causal_mask
from jfeval.models.janusflow.sampling import SamplerSettings, noise, sample

PAD = 0


def prompts(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 50, (n,), generator=generator).tolist() for n in lengths]


def test_prompt_batch_pads_left_and_starts_at_zero():
    batch = PromptBatch.from_lists([[5, 6, 7], [8]], pad_id=PAD)
    assert batch.ids.tolist() == [[5, 6, 7], [PAD, PAD, 8]]
    assert batch.valid.tolist() == [[True, True, True], [False, False, True]]
    assert batch.positions.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_unconditional_keeps_the_first_token_and_every_position():
    batch = PromptBatch.from_lists([[5, 6, 7], [8, 9]], pad_id=PAD)
    without = batch.unconditional(PAD)
    assert without.ids.tolist() == [[5, PAD, PAD], [PAD, 8, PAD]]
    assert without.valid.tolist() == [[True, False, False], [False, True, False]]
    assert torch.equal(without.positions, batch.positions)
    some = batch.unconditional(PAD, torch.tensor([False, True]))
    assert some.ids.tolist() == [[5, 6, 7], [PAD, 8, PAD]]


@pytest.mark.parametrize("empty", [[], [[]], [[1], []]])
def test_an_empty_prompt_is_refused(empty):
    with pytest.raises(ValueError, match="at least one token"):
        PromptBatch.from_lists(empty, pad_id=PAD)


def test_causal_mask_by_hand():
    mask = causal_mask(torch.tensor([[False, True, True]]), queries=2)
    assert mask.tolist() == [[[[False, True, False], [False, True, True]]]]
    whole = causal_mask(torch.tensor([[False, True, True]]), queries=3)
    assert whole[0, 0, 0].tolist() == [True, False, False]  # padding sees itself only, so its softmax is finite


def test_a_mixed_length_batch_equals_single_runs(model):
    lists, settings = prompts(8, 36, 120), SamplerSettings(num_steps=3, guidance_scale=4.0)
    z = noise([1, 2, 3], (4, 8, 8))
    together = sample(model, PromptBatch.from_lists(lists, pad_id=PAD), z, settings, pad_id=PAD)
    for row, ids in enumerate(lists):
        alone = sample(model, PromptBatch.from_lists([ids], pad_id=PAD), z[row : row + 1], settings, pad_id=PAD)
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_reusing_the_prompt_equals_recomputing_it(model):
    batch = PromptBatch.from_lists(prompts(5, 9), pad_id=PAD)
    z, t = noise([1, 2], (4, 8, 8)), torch.tensor([0.1, 0.7])
    with torch.no_grad():
        cache = model.encode_prompt(batch)
        first, _ = model.velocity(z, t, batch, cache=cache)
        again, _ = model.velocity(z, t, batch, cache=cache)
        fresh, _ = model.velocity(z, t, batch)
    assert torch.equal(first, again)  # a frozen prefix is not extended
    assert cache.length == 9
    torch.testing.assert_close(first, fresh, atol=1e-5, rtol=1e-4)


def test_guidance_one_equals_the_conditional_flow(model):
    batch = PromptBatch.from_lists(prompts(6), pad_id=PAD)
    z = noise([4], (4, 8, 8))
    one = sample(model, batch, z, SamplerSettings(num_steps=2, guidance_scale=1.0), pad_id=PAD)
    almost = sample(model, batch, z, SamplerSettings(num_steps=2, guidance_scale=1.0 + 1e-7), pad_id=PAD)
    torch.testing.assert_close(one, almost, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(one, sample(model, batch, z, SamplerSettings(num_steps=2, guidance_scale=3.0), pad_id=PAD), atol=1e-3)


def test_the_prompt_and_the_past_matter_and_the_future_does_not(model):
    a, b = prompts(6, 6)
    z = noise([4], (4, 8, 8))
    t = torch.tensor([0.5])
    with torch.no_grad():
        v = {name: model.velocity(z, t, PromptBatch.from_lists([ids], pad_id=PAD))[0] for name, ids in {"a": a, "b": b}.items()}
    assert (v["a"] - v["b"]).abs().max() > 1e-4
    ids = torch.tensor([a])
    with torch.no_grad():
        valid = torch.ones(1, 6, dtype=torch.bool)
        positions = torch.arange(6)[None]
        full, _ = model.backbone(model.embed(ids), positions, causal_mask(valid, 6))
        changed = ids.clone()
        changed[0, -1] = 3
        other, _ = model.backbone(model.embed(changed), positions, causal_mask(valid, 6))
    assert torch.equal(full[:, :-1], other[:, :-1])
    assert not torch.equal(full[:, -1], other[:, -1])


def test_noise_is_the_same_in_every_batch():
    together = noise([7, 8, 9], (4, 8, 8))
    assert torch.equal(together[1:2], noise([8], (4, 8, 8)))


def test_non_finite_latents_stop_with_the_step(model):
    batch = PromptBatch.from_lists(prompts(4), pad_id=PAD)
    with pytest.raises(FloatingPointError, match="after step 1 of 3"):
        sample(model, batch, torch.full((1, 4, 8, 8), float("nan")), SamplerSettings(num_steps=3), pad_id=PAD)


def test_understanding_leaves_its_arguments_alone_and_trains_the_begin_vector(model):
    n = model.config.vision.tokens + 1
    ids = torch.tensor([[1, *[-1] * n, 5, 6]])
    places = ids < 0
    before = ids.clone()
    pixels = torch.randn(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    embeds = model.embed_conversation(ids, places, pixels)
    assert torch.equal(ids, before)
    embeds.square().sum().backward()
    assert model.beg_of_und_embed.grad is not None
    assert model.beg_of_und_embed.grad.abs().sum() > 0
    model.zero_grad()
