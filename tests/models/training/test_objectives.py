import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from jfeval.errors import UserError
from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.objectives import (
    IGNORED,
    AlignmentHead,
    Conversations,
    FlowSettings,
    aligned_to,
    alignment_loss,
    autoregressive_loss,
    draw_flow_batch,
    flow_losses,
    interpolate,
    logit_normal_times,
    velocity_loss,
)
from jfeval.models.training.ratios import ALIKE, Scale
from jfeval.models.training.stream import PackedObjective


@pytest.fixture
def model():
    torch.manual_seed(0)
    language = LanguageConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2, vocab_size=20
    )
    vision = VisionConfig(model_name="tiny", image_size=8, patch_size=4, width=8, layers=1, heads=2)
    return JanusFlow(JanusFlowConfig(language=language, vision=vision, flow=FlowConfig(width=8)))


def flow_batch(n=2):
    generator = torch.Generator().manual_seed(3)
    prompts = PromptBatch.from_lists([[1, 2, 3], [1, 4]][:n], pad_id=0)
    latents, pixels = torch.randn(n, 4, 4, 4, generator=generator), torch.randn(n, 3, 8, 8, generator=generator)
    return draw_flow_batch(latents, prompts, pixels, FlowSettings(prompt_dropout=0.0), pad_id=0, generator=generator)


def test_the_path_runs_from_noise_to_data_at_constant_velocity():
    data, noise = torch.full((2, 1, 1, 1), 5.0), torch.full((2, 1, 1, 1), 1.0)
    z, velocity = interpolate(data, noise, torch.tensor([0.0, 0.25]))
    assert z.flatten().tolist() == [1.0, 2.0]
    assert velocity.flatten().tolist() == [4.0, 4.0]


def test_times_are_logit_normal():
    settings = FlowSettings(time_location=0.5, time_scale=0.8)
    t = logit_normal_times(200_000, settings, torch.Generator().manual_seed(0))
    logit = torch.logit(t.double())
    assert logit.mean().item() == pytest.approx(0.5, abs=0.01)
    assert logit.std().item() == pytest.approx(0.8, abs=0.01)


def test_alignment_by_hand_and_no_gradient_to_the_target():
    projected = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]], requires_grad=True)
    target = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]], requires_grad=True)
    loss = alignment_loss(projected, target)
    assert loss.item() == pytest.approx(-(1.0 + 0.5**0.5) / 2)
    loss.backward()
    assert target.grad is None
    assert projected.grad is not None


def test_the_gradient_of_alignment_by_hand():
    """d(-cos)/dp = -(t/|t| - cos p/|p|) / |p|; here |p| = 5, t/|t| = (1, 0), cos = 3/5, and a second position that is aligned already."""
    projected = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]], requires_grad=True)
    alignment_loss(projected, torch.tensor([[[2.0, 0.0], [0.0, 5.0]]])).backward()
    torch.testing.assert_close(projected.grad, torch.tensor([[[-0.128, 0.096], [0.0, 0.0]]]) / 2)


def test_the_gradient_of_the_flow_loss_by_hand():
    """d/dv mean (v - u)^2 = 2 (v - u) / n."""
    predicted = torch.tensor([[[[1.0, 3.0]]]], requires_grad=True)
    loss = velocity_loss(predicted, torch.tensor([[[[0.0, 1.0]]]]))
    loss.backward()
    assert loss.item() == 2.5
    assert predicted.grad.flatten().tolist() == [1.0, 2.0]


def test_the_gradient_of_the_autoregressive_loss_by_hand():
    """d/dz = (softmax(z) - onehot) / n, for two targets of a vocabulary of two; the last place predicts nothing."""
    logits = torch.tensor([[[0.0, math.log(3.0)], [0.0, 0.0], [5.0, 1.0]]], requires_grad=True)
    model = SimpleNamespace(embed=lambda ids: ids, backbone=lambda *_: (logits, None), logits=lambda hidden: hidden)
    ids = torch.tensor([[0, 1, 0]])
    loss = autoregressive_loss(model, Conversations(ids=ids, valid=ids >= 0, targets=torch.tensor([[IGNORED, 1, 0]])))
    loss.backward()
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.25, -0.25], [-0.5, 0.5], [0.0, 0.0]]]) / 2)


def test_the_weighted_sum_by_hand(model):
    settings = StageSettings(
        loop=LoopSettings(steps=1, learning_rate=1.0), answer_weight=0.5, text_weight=0.25, flow=FlowSettings(repa_weight=2.0)
    )
    objective = JanusFlowObjective(model, None, None, settings)
    parts = {
        name: torch.tensor(value, requires_grad=True) for name, value in (("text", 8.0), ("flow", 1.0), ("repa", -0.5), ("answers", 4.0))
    }
    total, named = objective.summed(parts, ALIKE)
    total.backward()
    assert total.item() == 1.0 - 2 * 0.5 + 0.5 * 4.0 + 0.25 * 8.0
    assert {name: part.grad.item() for name, part in parts.items()} == {"flow": 1.0, "repa": 2.0, "answers": 0.5, "text": 0.25}
    assert {name: value.item() for name, value in named.items()} == {"flow": 1.0, "repa": -0.5, "answers": 4.0, "text": 8.0}
    total, named = objective.summed({"flow": torch.tensor(1.0), "answers": torch.tensor(4.0)}, Scale(understanding=2.0, generation=0.5))
    assert (total.item(), named["flow"].item(), named["answers"].item()) == (0.5 + 0.5 * 8.0, 0.5, 8.0)
    assert PackedObjective.summed is JanusFlowObjective.summed


def test_flow_loss_is_the_mean_squared_velocity_error(model):
    batch = flow_batch()
    loss, aligned = flow_losses(model, None, batch, FlowSettings())
    z, target = interpolate(batch.latents, batch.noise, batch.t)
    predicted, _ = model.velocity(z, batch.t, batch.prompts)
    assert loss.item() == pytest.approx((predicted - target).square().mean().item(), rel=1e-5)
    assert aligned.item() == 0.0


def test_alignment_reads_the_chosen_block_and_spares_the_encoder(model):
    head = AlignmentHead(16, 16, 8)
    batch = flow_batch()
    _, aligned = flow_losses(model, head, batch, FlowSettings(repa_block=2))
    aligned.backward()
    layers = model.language_model.model.layers
    assert layers[1].mlp.down_proj.weight.grad.abs().sum() > 0
    assert layers[2].mlp.down_proj.weight.grad is None  # later blocks play no part
    assert all(p.grad is None for p in model.vision_und_enc_model.parameters())
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("output", ["normed", "unnormed", "penultimate"])
def test_alignment_aims_at_the_chosen_output_of_the_encoder(output):
    torch.manual_seed(0)
    tower = VisionTower(VisionConfig(model_name="tiny", image_size=8, patch_size=4, width=8, layers=2, heads=2)).eval()
    pixels = torch.randn(2, 3, 8, 8)
    whole = tower.vision_tower(pixels, output_hidden_states=True)
    expected = {"normed": whole.last_hidden_state, "unnormed": whole.hidden_states[-1], "penultimate": whole.hidden_states[-2]}
    torch.testing.assert_close(aligned_to(tower, FlowSettings(repa_output=output))(pixels), expected[output])
    others = [features for name, features in expected.items() if name != output]
    assert all((features - expected[output]).abs().max() > 0.01 for features in others)


def test_the_alignment_loss_uses_that_output_whatever_is_known_of_another(model):
    head, batch = AlignmentHead(16, 16, 8), flow_batch()
    known = replace(batch, features=model.vision_und_enc_model(batch.pixel_values).detach())
    losses = {output: flow_losses(model, head, known, FlowSettings(repa_output=output))[1].item() for output in ("normed", "unnormed")}
    fresh = {output: flow_losses(model, head, batch, FlowSettings(repa_output=output))[1].item() for output in losses}
    assert losses == pytest.approx(fresh, abs=1e-6)
    assert abs(losses["normed"] - losses["unnormed"]) > 1e-4


def test_the_alignment_head_has_the_chosen_activation():
    kinds = {name: [type(layer) for layer in AlignmentHead(4, 4, 4, name).layers][1::2] for name in ("silu", "gelu")}
    assert kinds == {"silu": [nn.SiLU] * 2, "gelu": [nn.GELU] * 2}
    assert AlignmentHead(*AlignmentHead(4, 5, 6, "gelu").form).form == (4, 5, 6, "gelu")


@pytest.mark.parametrize(("depth", "block"), [(24, 6), (6, 1), (2, 1)])
def test_the_aligned_block_is_a_quarter_of_the_depth(depth, block):
    assert FlowSettings().block(depth) == block


def test_a_block_that_is_not_there_is_refused(model):
    assert FlowSettings(repa_block=4).block(4) == 4
    with pytest.raises(UserError, match=r"flow\.repa_block = 5, but the language model"):
        FlowSettings(repa_block=5).block(4)
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), flow=FlowSettings(repa_block=5))
    with pytest.raises(UserError, match=r"flow\.repa_block = 5"):
        JanusFlowObjective(model, AlignmentHead(16, 16, 8), None, settings)


def test_dropped_prompts_are_drawn_at_their_rate():
    n = 4000
    prompts = PromptBatch.from_lists([[1, 2]] * n, pad_id=0)
    zeros = torch.zeros(n, 1, 1, 1)
    batch = draw_flow_batch(zeros, prompts, zeros, FlowSettings(prompt_dropout=0.1), pad_id=0, generator=torch.Generator().manual_seed(0))
    share = 1 - batch.prompts.valid[:, 1].float().mean().item()
    assert share == pytest.approx(0.1, abs=0.02)
    assert bool(batch.prompts.valid[:, 0].all())


class _Uniform(nn.Module):
    """A language model that knows nothing: every token is equally likely."""

    def __init__(self, vocab):
        super().__init__()
        self.vocab = vocab

    def forward(self, hidden):
        return hidden.new_zeros(*hidden.shape[:-1], self.vocab)


def test_answers_alone_carry_the_autoregressive_loss(model):
    ids = torch.tensor([[1, 5, 6, 7, 0]])
    valid = torch.tensor([[True, True, True, True, False]])
    targets = torch.tensor([[IGNORED, IGNORED, 6, 7, IGNORED]])
    batch = Conversations(ids=ids, valid=valid, targets=targets)
    loss = autoregressive_loss(model, batch)
    hidden = model.logits(_hidden(model, ids[:, :4]))
    by_hand = -(hidden[0, 1].log_softmax(-1)[6] + hidden[0, 2].log_softmax(-1)[7]) / 2
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-4)
    model.language_model.lm_head = _Uniform(20)
    assert autoregressive_loss(model, batch).item() == pytest.approx(torch.tensor(20.0).log().item(), rel=1e-6)


def _hidden(model, ids):
    from jfeval.models.janusflow.model import causal_mask

    valid = torch.ones_like(ids, dtype=torch.bool)
    return model.backbone(model.embed(ids), torch.arange(ids.shape[1])[None], causal_mask(valid, ids.shape[1]))[0]


@pytest.mark.parametrize("wrong", [{"prompt_dropout": 1.0}, {"time_scale": 0.0}, {"repa_weight": -1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        FlowSettings(**wrong)
