import itertools
import json
import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from jfeval.errors import UserError
from jfeval.models.janusflow.model import PromptBatch
from jfeval.models.training.checkpoints import adopt, complete, foreign
from jfeval.models.training.data import seeded
from jfeval.models.training.ema import Ema
from jfeval.models.training.loop import LoopSettings, PausedError, fit, make_optimizer, rate_at
from jfeval.models.training.mixture import MixedBatch
from jfeval.models.training.objectives import Conversations, FlowBatch
from jfeval.models.training.progress import Display, Size
from jfeval.models.training.sharding import moved

SETTINGS = LoopSettings(steps=12, learning_rate=0.05, warmup=3, ema=0.9, checkpoint_minutes=0.0, dtype="float32")


@dataclass
class KilledError(Exception):
    step: int


class Regression:
    """Fits a small network to y = sum(x) with noise from the step's generator; may be killed, or go wrong, at a step."""

    def __init__(self, *, kill_at=-1, spoil_at=-1):
        with seeded(0):
            self.module = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
        self.kill_at, self.spoil_at = kill_at, spoil_at
        self.seen = []

    def groups(self):
        return [(1.0, list(self.module[0].parameters())), (0.5, list(self.module[2].parameters()))]

    def batch(self, step, rng):
        if step == self.kill_at:
            raise KilledError(step)
        self.seen.append(step)
        x = torch.randn(16, 4, generator=rng.torch) + float(rng.numpy.random())
        return step, x * (math.nan if step == self.spoil_at else 1.0)

    def ids(self, batch):
        return [f"row-{batch[0]}"]

    def loss(self, batch):
        error = self.module(batch[1])[:, 0] - batch[1].sum(1)
        return error.square().mean(), {"absolute": error.detach().abs().mean()}


def weights(objective):
    return {k: v.clone() for k, v in objective.module.state_dict().items()}


@pytest.mark.parametrize("kill_at", [1, 5, 11])
def test_a_killed_run_ends_in_the_same_bytes(tmp_path, kill_at):
    whole = Regression()
    fit("whole", whole, SETTINGS, tmp_path / "whole", signature="a")
    with pytest.raises(KilledError):
        fit("cut", Regression(kill_at=kill_at), SETTINGS, tmp_path / "cut", signature="a")
    rest = Regression()
    result = fit("cut", rest, SETTINGS, tmp_path / "cut", signature="a")
    assert rest.seen == list(range(kill_at, 12))
    assert result.steps == 12
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(rest)[key]), key
    assert (tmp_path / "whole" / "log.jsonl").read_text() == (tmp_path / "cut" / "log.jsonl").read_text()


def test_a_crash_while_saving_leaves_the_last_checkpoint(tmp_path):
    with pytest.raises(KilledError):
        fit("cut", Regression(kill_at=6), SETTINGS, tmp_path, signature="a")
    half = tmp_path / "checkpoints" / "writing-00000007"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "lo')
    rest = Regression()
    fit("cut", rest, SETTINGS, tmp_path, signature="a")
    assert rest.seen == list(range(6, 12))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, 13))


def test_another_signature_is_refused(tmp_path):
    with pytest.raises(KilledError):
        fit("cut", Regression(kill_at=6), SETTINGS, tmp_path, signature="a")
    with pytest.raises(UserError, match=r"other settings; move it away, or .* `jfeval train --force`"):
        fit("cut", Regression(), SETTINGS, tmp_path, signature="b")


class Recorder(Regression):
    """Notes what the optimiser is told."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.told = []
        step = torch.optim.AdamW.step
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda adamw: (self.told.append(adamw.param_groups[0]["betas"]), step(adamw)))


def test_an_adopted_checkpoint_goes_on_under_the_new_settings(tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        fit("cut", Regression(kill_at=6), SETTINGS, tmp_path, signature="a")
    folder = tmp_path / "checkpoints"
    assert foreign(folder, "b") == complete(folder)
    for checkpoint in foreign(folder, "b"):
        adopt(checkpoint, "b")
    assert foreign(folder, "b") == []
    wide = Regression()
    wide.module = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 1))
    for objective, change, message in (
        (Regression(), {"steps": 5}, r"6 updates were done before, more than loop\.steps = 5"),
        (Muon(), {"ema": 0.0, "optimizer": "muon"}, "loop.optimizer, or what is frozen, has changed"),
        (wide, {}, r"0\.weight has shape \[8, 4\], the model's \[9, 4\]"),
    ):
        with pytest.raises(UserError, match=message):
            fit("cut", objective, replace(SETTINGS, **change), tmp_path, signature="b")
    (average,) = folder.glob("*/ema.safetensors")
    average.rename(tmp_path / "ema")
    with pytest.raises(UserError, match=r"no moving average.*loop\.ema=0"):
        fit("cut", Regression(), SETTINGS, tmp_path, signature="b")
    (tmp_path / "ema").rename(average)
    changed = Recorder(monkeypatch)
    fit("cut", changed, replace(SETTINGS, beta1=0.5, steps=8), tmp_path, signature="b")
    assert changed.seen == [6, 7]
    assert changed.told == [(0.5, SETTINGS.beta2)] * 2


class Muon(Regression):
    """Gives muon its first matrix."""

    def matrices(self):
        return [self.module[0].weight]


def test_the_time_limit_pauses_with_a_checkpoint(tmp_path):
    short = replace(SETTINGS, time_limit_minutes=1e-9, checkpoint_minutes=60.0)
    with pytest.raises(PausedError, match="after 1 of 12 steps"):
        fit("cut", Regression(), short, tmp_path, signature="a")
    rest, whole = Regression(), Regression()
    fit("cut", rest, SETTINGS, tmp_path, signature="a")
    fit("whole", whole, SETTINGS, tmp_path / "whole", signature="a")
    assert rest.seen[0] == 1
    assert all(torch.equal(v, weights(rest)[k]) for k, v in weights(whole).items())


def test_a_loss_that_is_not_finite_names_the_batch_and_changes_nothing(tmp_path):
    objective = Regression(spoil_at=4)
    with pytest.raises(UserError, match="step 4; samples: row-4"):
        fit("bad", objective, SETTINGS, tmp_path)
    assert all(torch.isfinite(p).all() for p in objective.module.parameters())


def test_all_samples_of_such_a_batch_are_listed_in_a_file(tmp_path):
    class Many(Regression):
        def ids(self, batch):
            return [f"row-{batch[0]}-{n}" for n in range(30)]

    with pytest.raises(UserError, match=r"row-4-19 and 40 more; all are listed in .*not-finite\.txt") as raised:
        fit("bad", Many(spoil_at=4), replace(SETTINGS, accumulate=2), tmp_path)
    assert "row-5-0" not in str(raised.value)
    said, *names = (tmp_path / "not-finite.txt").read_text().splitlines()
    assert said.startswith("bad: loss nan and gradient norm")
    assert names == [f"row-{step}-{n}" for step in (4, 5) for n in range(30)]


def test_accumulation_averages_gradients(tmp_path):
    """Two half batches make the update of one whole batch when both halves are the same size."""
    parts, whole = Regression(), Regression()

    class Joined(Regression):
        def batch(self, step, rng):
            pieces = [super(Joined, self).batch(m, type(rng)(0, m)) for m in (2 * step, 2 * step + 1)]
            return step, torch.cat([x for _, x in pieces])

    joined = Joined()
    once = replace(SETTINGS, steps=1, ema=0.0)
    fit("parts", parts, replace(once, accumulate=2), tmp_path / "parts")
    fit("joined", joined, once, tmp_path / "joined")
    for key, value in weights(parts).items():
        torch.testing.assert_close(value, weights(joined)[key])
    assert not torch.equal(weights(parts)["0.weight"], weights(whole)["0.weight"])


def test_the_result_holds_the_average_and_evaluation_sees_it(tmp_path):
    objective = Regression()
    seen = []

    def evaluate(step):
        assert not objective.module.training
        seen.append((step, objective.module[0].weight.detach().clone()))
        return {"score": 1.0}

    fit("avg", objective, replace(SETTINGS, evaluate_every=12), tmp_path, evaluate=evaluate)
    assert [step for step, _ in seen] == [12]
    assert torch.equal(seen[0][1], objective.module[0].weight)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["score"] == 1.0
    assert {"loss", "absolute", "norm", "rate"} <= last.keys()


def test_training_learns(tmp_path):
    objective = Regression()
    result = fit("learn", objective, replace(SETTINGS, steps=200, schedule="cosine"), tmp_path)
    first = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert result.losses["loss"] < 0.05 * first


def test_rates_by_hand():
    base = LoopSettings(steps=100, learning_rate=1.0, warmup=10, schedule="constant")
    assert [rate_at(base, s) for s in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    linear = replace(base, schedule="linear", decay_from=0.5)
    assert [rate_at(linear, s) for s in (49, 50, 75)] == pytest.approx([1.0, 1.0, 0.5])
    cosine = replace(base, schedule="cosine", final_rate=0.1)
    assert [rate_at(cosine, s) for s in (10, 55)] == pytest.approx([1.0, 0.55])


@given(
    st.integers(1, 500),
    st.integers(0, 600),
    st.sampled_from(["constant", "cosine", "linear"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_a_rate_is_a_fraction_and_falls_after_the_warmup(steps, warmup, schedule, start, final):
    settings = LoopSettings(steps=steps, learning_rate=1.0, warmup=warmup, schedule=schedule, decay_from=start, final_rate=final)
    rates = [rate_at(settings, s) for s in range(steps)]
    assert all(0.0 <= r <= 1.0 + 1e-12 for r in rates)
    after = rates[warmup:]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(after))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"learning_rate": -1.0}, {"accumulate": 0}, {"warmup": -1}, {"ema": 1.0}, {"decay_from": 1.5}]
)
def test_settings_that_cannot_train_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        LoopSettings(**{"steps": 1, "learning_rate": 1.0, **wrong})


def test_weight_decay_spares_vectors_and_groups_keep_their_scale():
    objective = Regression()
    optimizer = make_optimizer(LoopSettings(steps=1, learning_rate=0.1, weight_decay=0.3), objective.groups())
    found = [(g["weight_decay"], g["scale"], [p.ndim for p in g["params"]]) for g in optimizer.param_groups]
    assert found == [(0.3, 1.0, [2]), (0.0, 1.0, [1]), (0.3, 0.5, [2]), (0.0, 0.5, [1])]
    with pytest.raises(UserError, match="no parameter"):
        make_optimizer(LoopSettings(steps=1, learning_rate=0.1), [])


def test_ema_by_hand():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    plain, ramped = Ema(module, 0.9, warmup=False), Ema(module, 0.9)
    nn.init.constant_(module.weight, 1.0)
    for ema in (plain, ramped):
        ema.update()
        ema.update()
    assert plain.shadow["weight"].item() == pytest.approx(1 - 0.9**2)
    assert ramped.shadow["weight"].item() == pytest.approx(1 - (2 / 11) * (3 / 12))
    with plain.averaged():
        assert module.weight.item() == pytest.approx(0.19)
    assert module.weight.item() == 1.0


def test_ema_refuses_a_wrong_decay_and_other_names():
    module = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Ema(module, 1.0)
    with pytest.raises(ValueError, match="names differ"):
        Ema(module, 0.5).load({"weight": torch.zeros(1, 1)}, 3)


def test_frozen_parameters_stay(tmp_path):
    objective = Regression()
    objective.module[0].requires_grad_(False)
    before = weights(objective)
    fit("frozen", objective, replace(SETTINGS, steps=3), tmp_path)
    after = weights(objective)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["2.weight"], after["2.weight"])


def test_every_tensor_of_a_batch_goes_to_the_device():
    prompts = PromptBatch.from_lists([[1, 2], [3]], pad_id=0)
    pictures = torch.zeros(2, 3, 4, 4)
    flow = FlowBatch(latents=pictures, noise=pictures, t=torch.zeros(2), prompts=prompts, pixel_values=pictures)
    talk = Conversations(ids=prompts.ids, valid=prompts.valid, targets=prompts.ids)
    batch = MixedBatch(ids=("a", "b"), flow=flow, understanding=talk, text=None)
    there = moved(batch, "meta")
    assert (there.ids, there.text, there.flow.order, there.understanding.pixel_values) == (("a", "b"), None, None, None)
    for held in (there.flow, there.flow.prompts, there.understanding):
        tensors = [getattr(held, item.name) for item in fields(held) if isinstance(getattr(held, item.name), torch.Tensor)]
        assert len(tensors) >= 3
        assert all(tensor.device.type == "meta" for tensor in tensors)
    number, pixels = moved((3, pictures), "meta")
    assert (number, pixels.device.type, pictures.device.type) == (3, "meta", "cpu")


def test_outside_a_terminal_progress_is_plain_lines_whatever_asks_for_colours(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("FORCE_COLOR", "1")
    caplog.set_level("INFO", "jfeval")
    display = Display("vae", replace(SETTINGS, steps=1), tmp_path / "log.jsonl", 0)
    display.update(1, {"loss": 0.5}, Size(1, 0))
    display.close()
    assert "\x1b" not in capsys.readouterr().out
    assert "vae 1/1  loss 0.5" in caplog.text
