"""The diffusion model beside the embedded one: its noise, its loss, and the part from cached latents to a pipeline that draws."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.adapters.diffusion import Settings, load
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.diffusion import (
    NOISE,
    DiffusionBatch,
    DiffusionObjective,
    DiffusionSettings,
    TextSettings,
    attend_plainly,
    build_text_encoder,
    build_transformer,
    draw_steps,
    noise_levels,
)
from jfeval.models.training.latents import LATENTS_FILE
from jfeval.models.training.loop import LoopSettings, PausedError
from jfeval.models.training.making import train
from jfeval.models.training.recipe import load_recipe
from jfeval.models.training.tokenizer import load_tokenizer
from jfeval.schema import ImageJob

LOOP = {"steps": 4, "learning_rate": 1e-2, "warmup": 1, "dtype": "float32", "ema": 0.5, "optimizer": "muon", "checkpoint_minutes": 0.0}
SIZES = {"width": 16, "layers": 2, "heads": 2, "text": {"width": 16, "layers": 1, "heads": 2, "mlp": 16}, "prompt_tokens": 60}
PART = {
    "name": "diffusion",
    "kind": "diffusion",
    "inputs": ["data", "vae", "tokenizer", "latents"],
    "settings": {**SIZES, "batch_size": 4, "sample_prompts": ["a red square"], "loop": LOOP},
}
SETTINGS = DiffusionSettings(
    **{**SIZES, "text": TextSettings(**SIZES["text"])},
    batch_size=6,
    prompt_dropout=0.5,
    loop=LoopSettings(steps=1, learning_rate=1.0, seed=3),
)


@pytest.fixture(scope="module")
def recipe(made, tmp_path_factory):
    """The toy recipe's first parts, with a diffusion model on top."""
    raw = yaml.safe_load((made.parent / "recipe.yaml").read_text())
    shared = [part for part in raw["parts"] if part["name"] in PART["inputs"]]
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_text(yaml.safe_dump({"threads": 1, "parts": [*shared, PART]}))
    return file


@pytest.fixture(scope="module")
def trained(made, recipe, tmp_path_factory):
    """That recipe in the folder of another one, whose parts it shares; with the times at which these were made."""
    out = tmp_path_factory.mktemp("shared") / "out"
    shutil.copytree(made, out)
    return train(recipe, out)


@pytest.fixture(scope="module")
def drawer(trained):
    return load(Settings(path=str(trained / "diffusion" / "pipeline"), device="cpu"))


@pytest.fixture
def objective(made):
    tokenizer = load_tokenizer(made / "tokenizer" / "tokenizer")
    latents = np.load(made / "latents" / LATENTS_FILE)
    transformer, text_encoder = build_transformer(SETTINGS, channels=4, side=8), build_text_encoder(SETTINGS, tokenizer)
    return DiffusionObjective(transformer, text_encoder, tokenizer, Scenes.open_train(made / "data"), latents, SETTINGS)


def results(out, part):
    return json.loads((out / part / "done.json").read_text())


def test_parts_of_another_recipe_are_kept(made, trained):
    for part in ("data", "vae", "tokenizer", "latents"):
        assert results(trained, part) == results(made, part)
    found = results(trained, "diffusion")["results"]
    assert (found["updates"], found["generation_samples"]) == (4, 16)
    assert found["loss"] > 0
    assert "on 16 pictures in 4\nupdates" in (trained / "diffusion" / "pipeline" / "README.md").read_text()
    assert Image.open(trained / "diffusion" / "samples.png").size == (4 * 16 * 3, 16 * 3)


def test_the_adapter_draws_with_it(drawer):
    jobs = [ImageJob(prompt="a red square", seed=seed) for seed in (1, 2)]
    together = [np.asarray(image).astype(int) for image in drawer.generate(jobs)]
    assert together[0].shape == (16, 16, 3)
    assert np.abs(together[0] - together[1]).max() > 1
    alone = np.asarray(drawer.generate(jobs[1:])[0]).astype(int)
    assert np.abs(alone - together[1]).max() <= 1
    recipe = drawer.identity()["recipe"]
    expected = {
        "num_inference_steps": 20,
        "guidance_scale": 4.5,
        "use_resolution_binning": False,
        "scheduler": "DPMSolverMultistepScheduler",
    }
    assert recipe.items() >= expected.items()


def test_the_sampler_has_the_noise_of_the_training(drawer, objective):
    own = drawer.pipeline.scheduler
    assert torch.equal(own.alphas_cumprod, objective.scheduler.alphas_cumprod)
    assert own.config.prediction_type == objective.scheduler.config.prediction_type == NOISE["prediction_type"]
    own.set_timesteps(20)
    assert own.timesteps[0] == 999


def test_the_pipeline_reads_prompts_as_the_training_does(drawer):
    pipeline = drawer.pipeline
    states, mask, empty, empty_mask = pipeline.encode_prompt(["A red square"], True, device=torch.device("cpu"))
    objective = DiffusionObjective(pipeline.transformer, pipeline.text_encoder, pipeline.tokenizer, [0], np.zeros(1), SETTINGS)
    tokens, own_mask = objective._encode(["a red square", ""])
    assert mask.sum() == own_mask[0].sum() == 1 + len(pipeline.tokenizer.encode("a red square", add_special_tokens=False))
    assert empty_mask.sum() == own_mask[1].sum() == 1
    with torch.no_grad():
        own = pipeline.text_encoder(input_ids=tokens, attention_mask=own_mask).last_hidden_state
        for i, (theirs, n) in enumerate(((states, int(mask.sum())), (empty, 1))):
            torch.testing.assert_close(own[i, :n], theirs[0, :n], atol=1e-5, rtol=1e-4)
        noisy, step = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
        drawn = [
            pipeline.transformer(noisy, encoder_hidden_states=s, encoder_attention_mask=m, timestep=step, return_dict=False)[0]
            for s, m in ((states, mask), (own[:1], own_mask[:1]))
        ]
    torch.testing.assert_close(*drawn, atol=1e-5, rtol=1e-4)


def test_a_resumed_training_ends_in_the_same_bytes(trained, recipe, tmp_path):
    out = shutil.copytree(trained, tmp_path / "out")
    shutil.rmtree(out / "diffusion")
    for _ in range(2):
        with pytest.raises(PausedError):
            train(recipe, out, overrides=["diffusion.loop.time_limit_minutes=1e-9"])
    train(recipe, out)
    for name in ("transformer", "text_encoder"):
        file = "diffusion_pytorch_model" if name == "transformer" else "model"
        one, other = (folder / "diffusion" / "pipeline" / name / f"{file}.safetensors" for folder in (trained, out))
        assert one.read_bytes() == other.read_bytes()


def test_the_noise_levels_are_those_of_the_betas(objective):
    signal = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    expected = torch.log(signal.sqrt() / (1 - signal).sqrt())
    levels = noise_levels(objective.scheduler)
    torch.testing.assert_close(levels.double(), expected, atol=1e-3, rtol=1e-4)
    assert (levels.diff() < 0).all()


def test_levels_are_drawn_where_the_settings_say():
    levels = torch.linspace(4, -4, 801)
    drawn = levels[draw_steps(20_000, levels, SETTINGS, torch.Generator().manual_seed(0))]
    assert drawn.mean() == pytest.approx(-1.0, abs=0.03)  # the tails beyond the last level are cut: 0.6 % of them
    assert drawn.std() == pytest.approx(1.2, abs=0.03)
    evenly = DiffusionSettings(level_scale=0.0)
    assert draw_steps(20_000, levels, evenly, torch.Generator().manual_seed(0)).double().mean() == pytest.approx(400, abs=5)


def by_hand(objective, answer):
    """The loss of a batch of one picture where the transformer answers a constant."""
    x, e, n = torch.full((1, 4, 8, 8), 2.0), torch.full((1, 4, 8, 8), -1.0), torch.tensor([300])
    tokens, mask = objective._encode(["a red square"])
    with torch.no_grad():
        objective.transformer.proj_out.bias.fill_(answer)
    return objective.loss(DiffusionBatch(ids=["one"], latents=x, noise=e, steps=n, tokens=tokens, mask=mask))[0]


def test_the_loss_by_hand(objective):
    signal = float(np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:301]))
    velocity = -1.0 * signal**0.5 - 2.0 * (1 - signal) ** 0.5  # a e - s x
    assert by_hand(objective, 0.0).item() == pytest.approx(velocity**2, rel=1e-4)  # the last layer starts at zero
    assert by_hand(objective, 0.5).item() == pytest.approx((0.5 - velocity) ** 2, rel=1e-4)


def test_everything_learns_once_the_zeros_have_moved(objective):
    trained = dict(objective.module.named_parameters())
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.Adam([p for _, group in objective.groups() for p in group], lr=0.01)  # moves by the gradient's sign
    for step in range(3):  # the last layer, then the attention to the prompt, then what is behind it
        optimizer.zero_grad()
        objective.loss(objective.batch(step, StepRng(0, step)))[0].backward()
        optimizer.step()
    # A bias of keys adds the same to every score.
    assert {n for n, p in trained.items() if torch.equal(p, before[n]) and not n.endswith("to_k.bias")} == set()


def test_the_prompt_decides_the_picture(made):
    tokenizer, scenes = load_tokenizer(made / "tokenizer" / "tokenizer"), Scenes.open_train(made / "data")
    colors = ["red", "blue", "green"]
    shades = np.array([colors.index(scenes.objects(row)[0]["color"]) - 1.0 for row in range(len(scenes))], np.float32)
    latents = np.broadcast_to(shades[:, None, None, None], (len(scenes), 4, 8, 8)).copy()
    settings = replace(SETTINGS, width=32, batch_size=8, prompt_dropout=0.0)
    transformer, text_encoder = build_transformer(settings, channels=4, side=8), build_text_encoder(settings, tokenizer)
    objective = DiffusionObjective(transformer, text_encoder, tokenizer, scenes, latents, settings)
    optimizer = torch.optim.Adam(objective.module.parameters(), lr=5e-3)
    for step in range(80):
        optimizer.zero_grad()
        objective.loss(objective.batch(step, StepRng(0, step)))[0].backward()
        optimizer.step()
    batch = replace(objective.batch(100, StepRng(0, 100)), steps=torch.full((8,), 950))  # all but noise: only the prompt tells
    tokens, mask = objective._encode([f"a {color} square" for color in colors])
    with torch.no_grad():
        truth = [colors.index(scenes.objects(scenes.ids.index(name))[0]["color"]) for name in batch.ids]
        right, wrong = (
            objective.loss(replace(batch, tokens=tokens[places], mask=mask[places]))[0].item()
            for places in (truth, [(place + 1) % 3 for place in truth])
        )
    assert right < wrong / 3


def test_a_batch_depends_on_the_step_alone_and_drops_prompts(objective):
    a, b = objective.batch(7, StepRng(5, 7)), objective.batch(7, StepRng(5, 7))
    objective.batch(0, StepRng(5, 0))
    for name in ("latents", "noise", "steps", "tokens", "mask"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    row = objective.scenes.ids.index(a.ids[0])
    assert torch.equal(a.latents[0], torch.from_numpy(objective.latents[row].astype(np.float32)))
    lengths = torch.cat([objective.batch(step, StepRng(5, step)).mask.sum(1) for step in range(20)])
    assert 0.3 < (lengths == 1).double().mean() < 0.7
    said = {objective.tokenizer.decode(t, skip_special_tokens=True) for t in a.tokens[a.mask.sum(1) > 1]}
    assert said <= {caption for row in range(len(objective.scenes)) for caption in objective.scenes.captions(row)}


def test_plain_attention_gives_the_same_loss(objective):
    with torch.no_grad():
        for block in objective.transformer.transformer_blocks:
            block.attn2.to_out[0].weight.normal_(generator=torch.Generator().manual_seed(1))
        objective.transformer.proj_out.weight.normal_(generator=torch.Generator().manual_seed(2))
    batch = objective.batch(0, StepRng(0, 0))
    fused = objective.loss(batch)[0]
    attend_plainly(objective.transformer, objective.text_encoder)
    torch.testing.assert_close(objective.loss(batch)[0], fused, atol=1e-4, rtol=1e-4)


def test_muon_updates_the_hidden_matrices_and_nothing_else(objective):
    names = {id(p): n for n, p in objective.module.named_parameters()}
    matrices = {names[id(p)] for p in objective.matrices()}
    assert "transformer.transformer_blocks.1.attn2.to_v.weight" in matrices
    assert "text_encoder.encoder.block.0.layer.1.DenseReluDense.wi_1.weight" in matrices
    assert not any(word in name for name in matrices for word in ("table", "bias", "shared", "embed", "proj_out", "adaln"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 30, "heads": 4}, "width 30 must be a multiple of heads"),
        ({"prompt_dropout": 1.0}, r"prompt_dropout must lie in \[0, 1\)"),
        ({"level_scale": -1.0}, "level_scale must not be negative"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        DiffusionSettings(**wrong)


def test_what_does_not_fit_the_data_is_refused(objective):
    with pytest.raises(UserError, match="cannot be cut into patches of 2"):
        build_transformer(SETTINGS, channels=4, side=7)
    objective.settings = DiffusionSettings(prompt_tokens=2, batch_size=6)
    with pytest.raises(UserError, match="longer than prompt_tokens = 2"):
        objective.batch(0, StepRng(0, 0))


@pytest.mark.parametrize(("recipe", "beside"), [("shapes-diffusion", "shapes"), ("shapes-short", "shapes-short")])
def test_the_recipe_shows_as_many_pictures_as_the_janusflow_beside_it(recipe, beside):
    own = {plan.name: plan for plan in load_recipe(recipe).parts}
    other = {plan.name: plan for plan in load_recipe(beside).parts}
    for name in ("data", "vae", "tokenizer", "latents"):
        assert own[name] == other[name]
    stages = [plan.settings for plan in other.values() if plan.kind == "stage"]
    drawings = sum(stage.mixture.samples(stage.loop.steps, stage.loop.accumulate).generation for stage in stages)
    assert own["diffusion"].settings.drawings == drawings, f"set diffusion.loop.steps in models/configs/{recipe}/diffusion.yaml"
