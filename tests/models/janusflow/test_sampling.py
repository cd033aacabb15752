import itertools
import math

import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.compiling import compiles
from jfeval.models.janusflow.model import PromptBatch
from jfeval.models.janusflow.sampling import GuidedVelocity, Stepper, noise, sample
from jfeval.models.janusflow.settings import SamplerSettings, SystemSettings

PAD = 0
ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "adams": 2}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2, "adams": 1}


def integrate(field, z, settings):
    advance = Stepper(field, settings.solver)
    for t, until in itertools.pairwise(settings.times()):
        z = advance(z, t, until)
    return z


def decay(z, t):
    """dz/dt = (1 + 2t) z, whose solution at t = 1 is z(0) e^2."""
    return (1 + 2 * t) * z


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("solver", ORDER)
def test_a_solver_converges_at_its_order(solver, shift):
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    errors = []
    for steps in (100, 200, 400):
        reached = integrate(decay, start, SamplerSettings(num_steps=steps, solver=solver, time_shift=shift))
        errors.append(abs(reached.item() - math.e**2))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(ORDER[solver], abs=0.15)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_a_solver_is_exact_where_its_order_says_so(solver):
    degree = ORDER[solver] - 1
    reached = integrate(lambda z, t: torch.full_like(z, t**degree), torch.zeros(1, dtype=torch.float64), SamplerSettings(solver=solver))
    assert reached.item() == pytest.approx(1 / (degree + 1), abs=1e-12)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_adams_is_exact_to_its_order_after_a_first_step_of_euler(shift):
    settings = SamplerSettings(num_steps=6, solver="adams", time_shift=shift)
    reached = integrate(lambda z, t: torch.full_like(z, t), torch.zeros(1, dtype=torch.float64), settings)
    assert reached.item() == pytest.approx(0.5 - settings.times()[1] ** 2 / 2, abs=1e-12)  # Euler's first step adds nothing: v(0) = 0


@pytest.mark.parametrize("solver", ORDER)
def test_a_solver_evaluates_as_often_as_stated(solver):
    calls = []
    integrate(lambda z, t: calls.append(t) or z, torch.zeros(1), SamplerSettings(num_steps=5, solver=solver))
    assert len(calls) == 5 * EVALUATIONS[solver]


def test_times_are_even_or_lean_towards_the_noise():
    assert SamplerSettings(num_steps=4).times() == [0, 0.25, 0.5, 0.75, 1]
    shifted = SamplerSettings(num_steps=4, time_shift=3.0).times()
    assert shifted == pytest.approx([0, 0.1, 0.25, 0.5, 1])
    noise_level = [1 - t for t in SamplerSettings(num_steps=4).times()]
    assert [1 - t for t in shifted] == pytest.approx([3 * s / (1 + 2 * s) for s in noise_level])  # equation 23 of arXiv 2403.03206


def drawn(model, ids, z, **settings):
    return sample(model, PromptBatch.from_lists(ids, pad_id=PAD), z, SamplerSettings(**{"num_steps": 3, **settings}), pad_id=PAD)


@pytest.mark.parametrize(
    "settings", [{"solver": "heun"}, {"solver": "adams"}, {"guidance_from": 0.3, "guidance_until": 0.7}, {"time_shift": 2.0}]
)
def test_rows_of_different_length_equal_single_runs(model, settings):
    generator = torch.Generator().manual_seed(1)
    lists = [torch.randint(1, 50, (n,), generator=generator).tolist() for n in (8, 36, 250)]
    z = noise([1, 2, 3], (4, 8, 8))
    together = drawn(model, lists, z, guidance_scale=4.0, **settings)
    for row, ids in enumerate(lists):
        alone = drawn(model, [ids], z[row : row + 1], guidance_scale=4.0, **settings)
        torch.testing.assert_close(together[row : row + 1], alone, atol=2e-5, rtol=1e-4)


def test_a_compiled_model_draws_the_same(model):
    """Prompts of two lengths, so that shapes change under the compiled code."""
    if not compiles("cpu"):
        pytest.skip("torch.compile does not work here")
    z, settings = noise([1, 2], (4, 8, 8)), {"guidance_scale": 4.0, "num_steps": 2}
    prompts = [[[3, 4, 5], [6, 7]], [[8, 9, 10, 11], [12]]]
    plain = [drawn(model, ids, z, **settings) for ids in prompts]
    model.compile_velocity()
    try:
        compiled = [drawn(model, ids, z, **settings) for ids in prompts]
    finally:
        del model.velocity
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(other, one, atol=2e-5, rtol=1e-4)


def test_guidance_acts_inside_its_interval_only(model):
    ids, z = [[3, 4, 5], [6, 7]], noise([1, 2], (4, 8, 8))
    plain = drawn(model, ids, z, guidance_scale=1.0)
    outside = drawn(model, ids, z, guidance_scale=4.0, guidance_from=0.9, guidance_until=0.95)
    torch.testing.assert_close(outside, plain, atol=1e-6, rtol=1e-5)
    batch = PromptBatch.from_lists(ids, pad_id=PAD)
    field = GuidedVelocity(model, batch, SamplerSettings(guidance_scale=4.0, guidance_until=0.5), pad_id=PAD)
    with torch.no_grad():
        early = field(z, 0.5)
        conditional, unconditional = field.parts
        torch.testing.assert_close(early, 4 * conditional - 3 * unconditional)
        late = field(z, 0.51)
    assert field.parts[1] is None
    assert torch.equal(late, field.parts[0])


def test_a_bfloat16_state_rounds_times_and_latents_as_the_published_script_does(model):
    seen = []
    settings = SamplerSettings(num_steps=30, guidance_scale=2.0, state_dtype="bfloat16")
    batch = PromptBatch.from_lists([[3, 4, 5]], pad_id=PAD)
    original = model.velocity

    def spy(z, t, *args, **kwargs):
        seen.append((z.dtype, t[0].item()))
        return original(z, t, *args, **kwargs)

    model.velocity = spy
    try:
        latents = sample(model, batch, noise([1], (4, 8, 8)), settings, pad_id=PAD)
    finally:
        del model.velocity
    assert latents.dtype == torch.float32
    assert torch.equal(latents, latents.bfloat16().float())
    assert {kind for kind, _ in seen} == {torch.bfloat16}
    wanted = [torch.tensor(1000 * step / 30, dtype=torch.bfloat16).item() / 1000 for step in range(30)]
    assert [t for _, t in seen] == pytest.approx(wanted, rel=1e-6)
    assert seen[7][1] != pytest.approx(7 / 30, rel=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"guidance_from": 0.6, "guidance_until": 0.5}, "guidance_from"),
        ({"time_shift": 0}, "time_shift"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        SamplerSettings(**wrong)


def test_an_unknown_device_is_refused_before_anything_loads():
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        SystemSettings(device="gpu")
    with pytest.raises(UserError, match=r"unknown device 'cudaa'; did you mean 'cuda'\? Known: auto, cpu, cuda, cuda:N"):
        SystemSettings(device="cudaa")


def test_latents_that_are_not_finite_name_their_step(model):
    batch = PromptBatch.from_lists([[3, 4, 5]], pad_id=PAD)
    with pytest.raises(FloatingPointError, match="step 1 of 3"):
        sample(model, batch, torch.full((1, 4, 8, 8), float("nan")), SamplerSettings(num_steps=3), pad_id=PAD)
