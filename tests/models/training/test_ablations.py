"""Every variant of the ablations, at toy size: it builds, learns, and trains the tensors that it should."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from jfeval.errors import UserError
from jfeval.models.janusflow.pipeline import JanusFlowPipeline, Question
from jfeval.models.janusflow.sampling import SamplerSettings
from jfeval.models.training.ablations import Variant, read_variant, varied
from jfeval.models.training.budget import budgets, sample_operations
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.encoders import load_stage
from jfeval.models.training.janusflow_objective import JanusFlowObjective
from jfeval.models.training.loop import fit
from jfeval.models.training.mixture import Mixture
from jfeval.models.training.part import Part
from jfeval.models.training.ratios import Counts
from jfeval.models.training.recipe import CONFIGS, load_recipe
from jfeval.models.training.stages import alignment_head, assemble, save_stage, stage_processor, stage_target

VARIANTS = {file.stem: read_variant(file) for file in sorted((CONFIGS / "ablations" / "variants").glob("*.yaml"))}
INPUTS = ("data", "vae", "latents", "tokenizer", "contrastive", "lm")


@pytest.fixture(scope="module")
def base(made):
    """The toy recipe, of which the first stage trains for two updates."""
    recipe = load_recipe(made.parent / "recipe.yaml", ["stage1.loop.steps=2"])
    return replace(recipe, parts=tuple(p for p in recipe.parts if p.kind != "export"))


def stage(base, variant, number=1, seed=0):
    return next(p for p in varied(base, variant, seed).parts if p.name == f"stage{number}").settings


def build(made, settings, folder):
    """Make a stage's objective as `train_stage` does, and keep the weights it starts from."""
    part = Part(name="stage1", folder=folder, inputs={role: made / role for role in INPUTS})
    folder.mkdir(parents=True, exist_ok=True)
    model = assemble(settings, part)
    model.language_model.model.config._attn_implementation = "eager"
    mixture = Mixture(
        scenes=Scenes.open_train(made / "data"),
        latents=np.load(made / "latents" / "latents.npy"),
        texts=["a text"] * 9,
        processor=stage_processor(made / "tokenizer", model),
        settings=settings.mixture,
        flow=settings.flow,
        seed=settings.loop.seed,
    )
    return JanusFlowObjective(model, alignment_head(model, settings, part), mixture, settings, stage_target(model, settings, part))


def trained(made, settings, folder):
    """Train; return the objective, and the names of the tensors that changed."""
    objective = build(made, settings, folder)
    before = {n: p.detach().clone() for n, p in objective.module.named_parameters()}
    result = fit("toy", objective, settings.loop, folder)
    assert all(np.isfinite(v) for v in result.losses.values())
    return objective, result, {n for n, p in objective.module.named_parameters() if not torch.equal(before[n], p)}


def of(names, *prefixes):
    return {n for n in names if n.startswith(tuple(f"model.{p}" for p in prefixes))}


GENERATION = ("vision_gen_enc_model.in_conv", "vision_gen_enc_aligner", "vision_gen_dec")
UNDERSTANDING = ("vision_und_enc_aligner", "beg_of_und_embed")


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_trains_the_right_tensors(made, base, name, tmp_path):
    settings = stage(base, VARIANTS[name])
    objective, result, changed = trained(made, settings, tmp_path)
    draws, reads = name not in ("D", "D2"), name not in ("E", "E2")
    assert bool(of(changed, *GENERATION)) == draws
    assert bool(of(changed, *UNDERSTANDING)) == reads
    assert ("flow" in result.losses, "answers" in result.losses) == (draws, reads)
    assert ("repa" in result.losses) == (draws and name != "A")
    assert any(n.startswith("head.") for n in changed) == (draws and name != "A")
    assert not of(changed, "language_model.")  # frozen in the first stage
    encoder = of(changed, "vision_und_enc_model.")
    if name == "C":
        assert {n.split(".")[2] for n in encoder} == {"encoder", "quant_conv", "blocks"}
    else:
        assert encoder == set()  # the pre-trained one is frozen here; the shared one has its VAE frozen and its blocks elsewhere
    if objective.target is not None:
        assert not any(p.requires_grad for p in objective.target.parameters())
    assert (objective.target is not None) == (name in "BCR")


def test_later_stages_train_the_pre_trained_encoder_but_never_a_target(made, base):
    third = replace(stage(base, VARIANTS["F"]), freeze=())
    assert any(p.requires_grad for n, p in build(made, third, made.parent / "f").model.named_parameters() if "vision_und_enc_model" in n)
    shared = replace(stage(base, VARIANTS["B"]), freeze=())
    names = [n for n, p in build(made, shared, made.parent / "b").model.named_parameters() if p.requires_grad and "und_enc_model" in n]
    assert names == []


@pytest.mark.parametrize("name", ["B", "C", "F"])
def test_a_variant_is_stored_and_continues_draws_and_answers(made, base, name, tmp_path):
    objective, _, _ = trained(made, stage(base, VARIANTS[name]), tmp_path)
    save_stage(objective.model, tmp_path)
    again = load_stage(tmp_path)
    state = objective.model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    pixels = Scenes.open_train(made / "data").pixels([0, 1])
    torch.testing.assert_close(again.embed_images(pixels), objective.model.embed_images(pixels))
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    pipeline = JanusFlowPipeline(again, stage_processor(made / "tokenizer", again), AutoencoderKL.from_pretrained(made / "vae" / "vae"))
    image = pipeline.draw(["a red square"], [1], SamplerSettings(num_steps=2))[0]
    assert isinstance(pipeline.answer([Question(text="What color?", images=(image,), max_new_tokens=2)])[0], str)


def test_a_shared_encoder_is_the_generation_encoder(made, base, tmp_path):
    model = build(made, stage(base, VARIANTS["B"]), tmp_path).model
    pixels = Scenes.open_train(made / "data").pixels([0])
    before = model.embed_images(pixels)
    with torch.no_grad():
        model.vision_gen_enc_model.in_conv.weight.mul_(1.5)
    assert not torch.allclose(model.embed_images(pixels), before)
    assert not any(n.startswith("vision_und_enc_model.blocks") for n, _ in model.named_parameters())


def test_a_seed_gives_every_variant_the_same_pictures_and_noise(made, base, tmp_path):
    def drawn(name, seed=3):
        objective = build(made, stage(base, VARIANTS[name], seed=seed), tmp_path / f"{name}{seed}")
        return objective.batch(5, StepRng(seed, 5))

    reference = drawn("F")
    for name in ("A", "B", "C", "E2", "R", "S"):
        batch = drawn(name)
        assert torch.equal(batch.flow.noise, reference.flow.noise), name
        assert torch.equal(batch.flow.prompts.ids, reference.flow.prompts.ids), name
    for name in ("A", "B", "C", "D2", "R", "S"):
        assert torch.equal(drawn(name).understanding.ids, reference.understanding.ids), name
    assert drawn("E2").understanding is None
    assert drawn("D2").flow is None
    assert not torch.equal(drawn("F", seed=4).flow.noise, reference.flow.noise)
    order = drawn("S").flow.order
    assert sorted(order[0].tolist()) == list(range(order.shape[1]))
    assert not torch.equal(order[0], order[1])


def test_single_tasks_see_the_papers_iterations_and_samples():
    base = load_recipe("ablations/paper")
    stages = {name: stage(base, VARIANTS[name], 2) for name in ("D", "E", "F", "D2", "E2")}
    assert {name: s.loop.steps for name, s in stages.items()} == {"D": 13_000, "E": 37_000, "F": 50_000, "D2": 50_000, "E2": 50_000}
    samples = {name: s.mixture.samples(s.loop.steps, s.loop.accumulate) for name, s in stages.items()}
    assert samples["D2"] == replace_kind(samples["F"], generation=0)
    assert samples["E2"] == replace_kind(samples["F"], understanding=0, text=0)
    for got, wanted in zip(samples["D"] + samples["E"], samples["D2"] + samples["E2"], strict=True):
        assert got == pytest.approx(wanted, rel=1e-4)


def replace_kind(counts, **changes):
    return Counts(**{**counts._asdict(), **changes})


def test_single_tasks_of_fixed_counts_fill_the_batch(base):
    full = stage(base, VARIANTS["F"], 2)  # 4 drawings, 2 conversations, 2 texts
    longer = replace(
        base,
        parts=tuple(
            replace(p, settings=replace(full, loop=replace(full.loop, steps=100))) if p.name == "stage2" else p for p in base.parts
        ),
    )
    d, e = stage(longer, VARIANTS["D"], 2), stage(longer, VARIANTS["E"], 2)
    assert (d.mixture.understanding, d.mixture.generation, d.mixture.text, d.loop.steps) == (4, 0, 4, 50)
    assert (e.mixture.understanding, e.mixture.generation, e.mixture.text, e.loop.steps) == (0, 8, 0, 50)


def test_a_latent_encoder_must_say_what_it_aligns_to(made, base, tmp_path):
    settings = stage(base, Variant(title="x", settings={"understands_through": "shared"}))
    with pytest.raises(UserError, match=r"flow.repa_target must be contrastive or random, not encoder"):
        build(made, settings, tmp_path)


def test_mistakes_in_a_variant_are_named(base, tmp_path):
    file = tmp_path / "X.yaml"
    file.write_text("title: x\nsettings: {flow: {repa_wieght: 0.0}}\n")
    with pytest.raises(UserError, match="repa_weight"):
        varied(base, read_variant(file), 0)
    file.write_text("title: x\ntasks: [drawing]\n")
    with pytest.raises(UserError, match="unknown task of a variant 'drawing'"):
        read_variant(file)
    file.write_text("title: x\nmach: samples\n")
    with pytest.raises(UserError, match="match"):
        read_variant(file)


def test_settings_that_came_later_do_not_show_at_their_default():
    """Finished parts of earlier versions stay valid: a setting at its default must not enter a part's identity."""
    from jfeval.models.training.part import flatten

    keys = json.dumps(sorted(flatten(stage_of_shapes())))
    for added in ("understands_through", "repa_target", "phases", "batch_size", "leave_out", "pack_to", "isolate"):
        assert f'{added}"' not in keys, added


def test_the_embedded_models_vae_and_tokenizer_can_be_taken_instead_of_trained(tmp_path):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from jfeval.models.training.making import train
    from jfeval.models.training.tokenizer import load_tokenizer

    recipe = tmp_path / "recipe.yaml"
    given = [{"name": name, "kind": "given", "settings": {"holds": name, "embedded": True}} for name in ("vae", "tokenizer")]
    recipe.write_text(yaml.safe_dump({"parts": given}))
    train(str(recipe), tmp_path / "made")
    tokenizer = load_tokenizer(tmp_path / "made" / "tokenizer" / "tokenizer")
    vae = AutoencoderKL.from_pretrained(tmp_path / "made" / "vae" / "vae", local_files_only=True)
    assert tokenizer.encode("a red circle")
    assert vae.encode(torch.zeros(1, 3, 64, 64), return_dict=False)[0].mean.shape == (1, 4, 16, 16)
    with pytest.raises(UserError, match="is trained further"):
        train(str(recipe), tmp_path / "other", overrides=["vae.path=x"])


def test_the_sweeps_base_is_shown_the_pictures_that_its_settings_state():
    recipe = load_recipe("ablations/shapes")
    last = recipe.parts[-1].settings
    spent = {b.name: b for b in budgets(varied(recipe, VARIANTS["F"], 0))}
    assert spent["stage2"].samples.generation == last.mixture.generation * last.loop.accumulate * last.loop.steps


@pytest.mark.parametrize("name", ["B", "C", "F"])
def test_a_variants_budget_states_what_it_trains(made, base, name, tmp_path):
    objective = build(made, stage(base, VARIANTS[name]), tmp_path)
    words = objective.model.config.language.vocab_size  # fewer than were asked for
    parts = tuple(replace(p, settings=replace(p.settings, size=words)) if p.name == "tokenizer" else p for p in base.parts)
    first, second = budgets(varied(replace(base, parts=parts), VARIANTS[name], 0))
    trained = sum(p.numel() for _, group in objective.groups() for p in group)
    assert sum(first.trainable.values()) == trained
    assert first.trained + first.frozen == sum(p.numel() for p in objective.model.parameters())
    assert second.trainable.get("understanding encoder", 0) == (0 if name == "B" else sum_of(objective, name))
    read, drawn, _ = sample_operations(objective)
    assert first.operations == pytest.approx(first.samples.understanding * read + first.samples.generation * drawn)


def sum_of(objective, name):
    """Count the understanding encoder's parameters, the tower's without the pooling head that plays no part."""
    encoder = objective.model.vision_und_enc_model
    return sum(p.numel() for n, p in encoder.named_parameters() if name == "C" or ".head." not in n)


def test_reading_through_latents_costs_more_than_the_contrastive_encoder():
    spent = {name: budgets(varied(load_recipe("ablations/shapes"), VARIANTS[name], 0))[-1].operations for name in "BCF"}
    assert spent["F"] < spent["B"] < spent["C"]


def test_the_papers_variants_are_counted_with_sdxls_vae():
    base = load_recipe("ablations/paper")
    shared, own, final = (budgets(varied(base, VARIANTS[name], 0))[0] for name in "BCF")
    assert own.trainable["understanding encoder"] == 34_163_592 + 72 + 21_614_336  # SDXL's encoder; blocks as the generation encoder's
    assert "understanding encoder" not in {**shared.trainable, **final.trainable}
    assert final.operations < shared.operations < own.operations


def test_a_finished_model_is_evaluated_where_it_was_trained(made, base, monkeypatch):
    from jfeval.ablation_training import _pipeline
    from jfeval.models.training.ranks import Ranks

    monkeypatch.setattr(Ranks, "device", lambda _, setting: {"auto": "meta"}[setting])  # stands for a GPU
    plan = next(p for p in base.parts if p.name == "stage1")
    pipeline = _pipeline(plan, {p.name: made / p.name for p in base.parts})
    assert {pipeline.model.device.type, pipeline.vae.device.type} == {"meta"}


def test_a_recipe_knows_its_stages(base):
    assert base.stages == ("stage1", "stage2")


def stage_of_shapes():
    return next(p for p in load_recipe("shapes").parts if p.name == "stage2").settings
