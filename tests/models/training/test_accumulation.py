"""An update is the same however it is divided into batches and among processes."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.vae import load_vae
from jfeval.models.training.accumulation import forward_backward, joined
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.mixture import Mixture, MixtureSettings
from jfeval.models.training.objectives import IGNORED, AlignmentHead, FlowSettings, autoregressive_loss, flow_losses
from jfeval.models.training.ranks import Ranks
from jfeval.models.training.ratios import ALIKE, Phase
from jfeval.models.training.sources import SourcesSettings
from jfeval.models.training.stages import stage_processor
from jfeval.models.training.stream import PackedObjective, StreamMixture

TWO = Phase(understanding=0.375, generation=0.625)
"""In four batches of 2, the third has no conversation."""
THREE = Phase(understanding=0.125, generation=0.625, text=0.25)
"""In two batches of 4, the second has no conversation."""
LENGTHS = {"prompt_tokens": 80, "conversation_tokens": 120, "text_tokens": 60}
WEIGHTS = {"answer_weight": 0.5, "text_weight": 0.25, "flow": FlowSettings(repa_weight=2.0)}


def learned(objective, accumulate, processes=1, step=0):
    """Return what an update learned from, and its gradients by parameter."""
    loop = LoopSettings(steps=1, learning_rate=1.0, accumulate=accumulate, dtype="float32")
    found, gradients = [], {}
    for rank in range(processes):
        objective.module.zero_grad()
        found.append(forward_backward(objective, objective.loss, loop, step, "cpu", Ranks(rank=rank, size=processes)))
        for name, parameter in objective.module.named_parameters():
            if parameter.grad is not None:
                gradients[name] = gradients.get(name, 0.0) + parameter.grad / processes
    return joined(found), gradients


def assert_same(one, other):
    (a, first), (b, second) = one, other
    assert sorted(a.ids) == sorted(b.ids)
    assert a.parts.keys() == b.parts.keys()
    assert b.parts == pytest.approx(a.parts, rel=1e-5)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def weighted_sum(parts):
    return parts["flow"] + 2.0 * parts["repa"] + 0.5 * parts["answers"] + 0.25 * parts.get("text", 0.0)


def parts_of(made):
    """Return a model and an alignment MLP."""
    torch.manual_seed(0)
    return JanusFlow.from_pretrained(made / "stage1"), AlignmentHead(16, 16, 16)


def stage(phase, size):
    mixture = MixtureSettings(phases=(phase,), batch_size=size, pack_to=200, **LENGTHS)
    return StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), mixture=mixture, **WEIGHTS)


def packed(made, phase, size, accumulate):
    world, (model, head) = made.parent / "world", parts_of(made)
    listed = [("asked", "understanding", "scenes"), ("drawn", "generation", "scenes"), ("read", "text", "text")]
    sources = SourcesSettings(sources=[{"name": n, "kind": k, "path": str(world / f), "streaming": False} for n, k, f in listed])
    settings = stage(phase, size)
    processor = stage_processor(made / "tokenizer", model)
    stream = StreamMixture(sources, processor, model.config, settings.mixture, settings.flow, seed=0, accumulate=accumulate)
    return PackedObjective(model, head, stream, settings, None, load_vae(made / "vae" / "vae"))


@pytest.mark.parametrize(("phase", "size", "accumulate"), [(TWO, 2, 4), (THREE, 4, 2)])
def test_an_update_from_sources_is_that_of_one_batch(made, phase, size, accumulate):
    """All answers have as many tokens, and all texts, as the last line checks: so a batch's tokens are in proportion to its samples."""
    whole = learned(packed(made, phase, size * accumulate, 1), 1)
    assert_same(whole, learned(packed(made, phase, size, accumulate), accumulate))
    assert_same(whole, learned(packed(made, phase, size, accumulate), accumulate, processes=2))
    assert whole[0].parts["loss"] == pytest.approx(weighted_sum(whole[0].parts), rel=1e-6)
    stream = packed(made, THREE, 8, 1).stream
    pieces = [stream.piece(kind, place) for kind in ("understanding", "text") for place in range(4)]
    assert len({(piece.kind, sum(target != IGNORED for target in piece.targets)) for piece in pieces}) == 2


class Joined(JanusFlowObjective):
    """Learns from the batches of an update as one."""

    def batch(self, step, rng):
        n = self.mixture.schedule.accumulate
        return replace(together([self.mixture.batch(m, StepRng(0, m)) for m in range(step * n, (step + 1) * n)]), scale=ALIKE)


def together(parts):
    """Lay batches, or what they are made of, end to end."""
    parts = [part for part in parts if part is not None]
    if not parts:
        return None
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    if is_dataclass(parts[0]):
        return replace(parts[0], **{f.name: together([getattr(part, f.name) for part in parts]) for f in fields(parts[0])})
    return tuple(value for part in parts for value in part)


def decoded(made, phase, size, accumulate, cls=JanusFlowObjective):
    (model, head), settings = parts_of(made), stage(phase, size)
    mixture = Mixture(
        scenes=Scenes.open_train(made / "data"),
        latents=np.load(made / "latents" / "latents.npy"),
        texts=["the square is red", "a square is blue"],
        processor=stage_processor(made / "tokenizer", model),
        settings=settings.mixture,
        flow=settings.flow,
        seed=0,
        accumulate=accumulate,
    )
    return cls(model, head, mixture, settings)


@pytest.mark.parametrize(("phase", "size", "accumulate"), [(TWO, 2, 4), (THREE, 4, 2)])
def test_an_update_from_decoded_scenes_is_that_of_one_batch(made, phase, size, accumulate):
    whole = learned(decoded(made, phase, size, accumulate, Joined), 1)
    assert_same(whole, learned(decoded(made, phase, size, accumulate), accumulate))
    assert_same(whole, learned(decoded(made, phase, size, accumulate), accumulate, processes=2))
    assert whole[0].parts["loss"] == pytest.approx(weighted_sum(whole[0].parts), rel=1e-6)


def test_fixed_counts_weigh_every_batch_alike(made):
    """Loss, parts and gradients are, bit for bit, those of the sum written out."""
    settings = replace(stage(TWO, 2), mixture=MixtureSettings(generation=2, understanding=1, text=1, **LENGTHS))
    objective = decoded(made, TWO, 2, 2)
    objective.settings, objective.mixture.schedule = settings, settings.mixture.schedule(2)
    found, gradients = learned(objective, 2)
    objective.module.zero_grad()
    loss = 0.0
    for micro in range(2):
        batch = objective.batch(micro, StepRng(0, micro))
        flow, aligned = flow_losses(objective.model, objective.head, batch.flow, settings.flow)
        total = flow + 2.0 * aligned + 0.5 * autoregressive_loss(objective.model, batch.understanding)
        total = total + 0.25 * autoregressive_loss(objective.model, batch.text)
        (total / 2).backward()
        loss += float(total.detach()) / 2
    assert found.parts["loss"] == loss
    for name, parameter in objective.module.named_parameters():
        assert parameter.grad is None or torch.equal(parameter.grad, gradients[name]), name
