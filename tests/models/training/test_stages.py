"""JanusFlow's stages, small, from a world on disk to a folder that draws and answers."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.errors import UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline, Question
from jfeval.models.janusflow.sampling import SamplerSettings
from jfeval.models.training.data import Question as Asked
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.making import train
from jfeval.models.training.mixture import Mixture, MixtureSettings, dialogue
from jfeval.models.training.objectives import IGNORED, FlowSettings
from jfeval.models.training.part import Part
from jfeval.models.training.stages import (
    JanusFlowObjective,
    StageSettings,
    alignment_head,
    alignment_target,
    attend_eagerly,
    stage_processor,
    stream_objective,
    train_stage,
)


def weights(made, part):
    return JanusFlow.from_pretrained(made / part).state_dict()


def test_stage_one_leaves_the_frozen_parts_alone(made):
    from transformers import LlamaForCausalLM, SiglipModel

    after = weights(made, "stage1")
    llama = LlamaForCausalLM.from_pretrained(made / "lm" / "lm", local_files_only=True).state_dict()
    tower = SiglipModel.from_pretrained(made / "contrastive" / "siglip", local_files_only=True).vision_model.state_dict()
    assert all(torch.equal(after[f"language_model.{name}"], value) for name, value in llama.items())
    assert all(torch.equal(after[f"vision_und_enc_model.vision_tower.{name}"], value) for name, value in tower.items())


def test_stage_two_trains_everything_that_plays_a_part(made):
    before, after = weights(made, "stage1"), weights(made, "stage2")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in same if ".vision_tower.head." not in name} == set()


def test_measurements_and_samples_are_kept(made):
    results = json.loads((made / "stage2" / "done.json").read_text())["results"]
    assert {"loss", "flow", "repa", "answers", "text"} <= results.keys()
    assert -1 <= results["repa"] <= 1
    drawn = [np.asarray(Image.open(made / "stage2" / name)) for name in ("samples-00000002.png", "samples.png")]
    assert [picture.shape for picture in drawn] == [(16 * 3, 4 * 16 * 3, 3)] * 2
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() > 0  # of the model as it was then
    assert not (made / "stage2" / "samples-00000003.png").exists()
    assert (made / "stage2" / "alignment_head.safetensors").is_file()


def test_the_export_draws_and_answers(made):
    pipeline = JanusFlowPipeline.from_pretrained(made / "export" / "model")
    sampler = SamplerSettings(num_steps=2, guidance_scale=2.0)
    images = pipeline.draw(["a red square", "a photo of a blue square"], [1, 2], sampler)
    assert [image.size for image in images] == [(16, 16), (16, 16)]
    again = pipeline.draw(["a photo of a blue square"], [2], sampler)[0]
    assert np.abs(np.asarray(images[1], int) - np.asarray(again, int)).max() <= 1
    answer = pipeline.answer([Question(text="What color is the square?", images=(images[0],), max_new_tokens=3)])
    assert isinstance(answer[0], str)


def test_the_export_says_what_every_stage_learned_from(made):
    card = (made / "export" / "model" / "README.md").read_text()
    assert "| stage1 | 3 | 6 (33.33%) | 12 (66.67%) | 0 (0.00%) | none |" in card
    assert "| stage2 | 3 | 6 (25.00%) | 12 (50.00%) | 6 (25.00%) | none |" in card


def test_an_export_without_its_vae_or_tokenizer_is_refused(made, tmp_path):
    import shutil

    copy = shutil.copytree(made / "export" / "model", tmp_path / "model")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        JanusFlowPipeline.from_pretrained(copy)
    shutil.rmtree(copy / "vae")
    with pytest.raises(UserError, match="no VAE"):
        JanusFlowPipeline.from_pretrained(copy)


def test_grids_that_do_not_match_are_refused(tmp_path, tiny):
    with pytest.raises(UserError, match=r"have shape \(4, 8, 8\), the model draws \(4, 4, 4\)"):
        train(tiny.write_recipe(tmp_path, patch=8), tmp_path / "out")


def test_a_batch_depends_on_the_step_alone(made):
    model = JanusFlow.from_pretrained(made / "stage1")
    processor = stage_processor(made / "tokenizer", model)
    scenes = Scenes.open_train(made / "data")
    settings = MixtureSettings(generation=3, understanding=2, text=0, prompt_tokens=80, conversation_tokens=120)

    def mixture():
        latents = np.load(made / "latents" / "latents.npy")
        return Mixture(scenes=scenes, latents=latents, texts=[], processor=processor, settings=settings, flow=FlowSettings(), seed=5)

    first, second = mixture(), mixture()
    second.batch(0, StepRng(5, 0))
    a, b = first.batch(7, StepRng(5, 7)), second.batch(7, StepRng(5, 7))
    assert a.ids == b.ids
    assert a.text is None
    assert torch.equal(a.flow.noise, b.flow.noise)
    assert torch.equal(a.flow.prompts.ids, b.flow.prompts.ids)
    assert torch.equal(a.understanding.targets, b.understanding.targets)
    assert first.batch(8, StepRng(5, 8)).ids != a.ids
    with pytest.raises(UserError, match=r"raise it"):
        Mixture(
            scenes=scenes,
            latents=np.load(made / "latents" / "latents.npy"),
            texts=[],
            processor=processor,
            settings=MixtureSettings(generation=3, understanding=0, text=0, prompt_tokens=3),
            flow=FlowSettings(),
            seed=5,
        ).batch(0, StepRng(0, 0))


def test_a_dialogue_asks_about_one_image_and_answers_are_the_targets(made):
    model = JanusFlow.from_pretrained(made / "stage1")
    processor = stage_processor(made / "tokenizer", model)
    turns = [Asked(question="What color is the square?", answer=a, kind="color") for a in ("red", "blue")]
    ids, places, targets = dialogue(turns, processor, 400)
    assert sum(places) == model.config.vision.tokens + 1
    assert [t for t in targets if t != IGNORED] == [i for i, t in zip(ids, targets, strict=True) if t != IGNORED]
    answered = processor.tokenizer.decode([t for t in targets if t != IGNORED])
    assert answered.replace(" ", "") == "red<｜end▁of▁sentence｜>blue<｜end▁of▁sentence｜>"
    asked_alone, _ = processor.conversation("User: <image_placeholder>\nWhat color is the square?\n\nAssistant:")
    assert ids[: len(asked_alone)] == asked_alone  # what a question looks like in use
    assert ids.count(ids[0]) == 1  # one begin-of-sentence token


def test_a_share_of_conversations_describes_the_image(made):
    model = JanusFlow.from_pretrained(made / "stage1")
    processor = stage_processor(made / "tokenizer", model)
    scenes, latents = Scenes.open_train(made / "data"), np.load(made / "latents" / "latents.npy")

    def answers(share):
        settings = MixtureSettings(generation=0, understanding=8, text=0, conversation_tokens=200, describe=share)
        mixture = Mixture(scenes=scenes, latents=latents, texts=[], processor=processor, settings=settings, flow=FlowSettings(), seed=5)
        batch = mixture.batch(0, StepRng(5, 0))
        said = [processor.tokenizer.decode([t for t in row.tolist() if t != IGNORED]) for row in batch.understanding.targets]
        rows = [scenes.ids.index(name) for name in batch.ids]
        captions = [[processor.tokenizer.decode(processor.encode(f" {c}")[1:]) for c in scenes.captions(row)] for row in rows]
        return [any(text.startswith(c) for c in known) for text, known in zip(said, captions, strict=True)]

    assert all(answers(1.0))
    assert not any(answers(0.0))
    assert 0 < sum(answers(0.5)) < 8


@pytest.mark.parametrize(("setting", "chosen"), [("short_captions", min), ("long_captions", max)])
def test_a_share_of_drawings_takes_the_shortest_or_the_longest_caption(made, setting, chosen):
    model = JanusFlow.from_pretrained(made / "stage1")
    processor = stage_processor(made / "tokenizer", model)
    scenes, latents = Scenes.open_train(made / "data"), np.load(made / "latents" / "latents.npy")
    wanted = [len(chosen(scenes.captions(row), key=len)) for row in range(len(scenes))]

    def taken(share, limit=80):
        settings = MixtureSettings(generation=12, understanding=0, text=0, prompt_tokens=limit, **{setting: share})
        mixture = Mixture(
            scenes=scenes, latents=latents, texts=[], processor=processor, settings=settings, flow=FlowSettings(prompt_dropout=0.0), seed=5
        )
        batch = mixture.batch(0, StepRng(5, 0))
        prompts = [ids[valid].tolist() for ids, valid in zip(batch.flow.prompts.ids, batch.flow.prompts.valid, strict=True)]
        rows = [scenes.ids.index(name) for name in batch.ids]
        known = [{len(c): processor.generation_prompt(c) for c in scenes.captions(row)} for row in rows]
        return [prompt == by_length[wanted[row]] for prompt, by_length, row in zip(prompts, known, rows, strict=True)]

    assert all(taken(1.0))
    assert not all(taken(0.0))
    assert 0 < sum(taken(0.5)) < 12


def test_a_caption_that_does_not_fit_is_not_taken_for_the_longest(made):
    model = JanusFlow.from_pretrained(made / "stage1")
    processor = stage_processor(made / "tokenizer", model)
    scenes, latents = Scenes.open_train(made / "data"), np.load(made / "latents" / "latents.npy")
    limit = max(min(len(processor.generation_prompt(c)) for c in scenes.captions(row)) for row in range(len(scenes)))
    settings = MixtureSettings(generation=12, understanding=0, text=0, prompt_tokens=limit, long_captions=1.0)
    flow = FlowSettings(prompt_dropout=0.0)
    mixture = Mixture(scenes=scenes, latents=latents, texts=[], processor=processor, settings=settings, flow=flow, seed=5)
    batch = mixture.batch(0, StepRng(5, 0))
    for name, valid in zip(batch.ids, batch.flow.prompts.valid, strict=True):
        fitting = [c for c in scenes.captions(scenes.ids.index(name)) if len(processor.generation_prompt(c)) <= limit]
        assert int(valid.sum()) == len(processor.generation_prompt(max(fitting, key=len)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"short_captions": -0.1}, r"must lie in \[0, 1\]"),
        ({"short_captions": 0.6, "long_captions": 0.6}, r"exceed 1: 0.6 \+ 0.6"),
        ({"describe": 1.5}, r"must lie in \[0, 1\]"),
        ({"generation": -1}, "must not be negative"),
        ({"generation": 0, "understanding": 0, "text": 0}, "the mixture is empty"),
    ],
)
def test_impossible_mixtures_are_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        MixtureSettings(**wrong)


def other_head(made, model):
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), flow=FlowSettings(repa_width=24))
    alignment_head(model, settings, Part(name="s", folder=made, inputs={"start": made / "stage1"}))


def other_target(made, model):
    alignment_target("contrastive", made / "contrastive" / "siglip", replace(model.config.vision, width=32), seed=0)


def other_grid(made, model):
    vae = SimpleNamespace(config={"block_out_channels": (8, 8, 8), "latent_channels": 4})
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0))
    stream_objective(model, None, None, vae, None, settings, Part(name="s", folder=made))


def other_model(made, model, **changes):
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), **changes)
    train_stage(settings, Part(name="s", folder=made, inputs={"start": made / "stage1"}))


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (other_head, r"layers.0.weight has shape \[16, 16\], and \[24, 16\] is needed; keep flow.repa_width"),
        (other_target, "is needed; flow.repa_target = contrastive"),
        (other_grid, r"the VAE's latents have shape \(4, 4, 4\), the model draws \(4, 8, 8\)"),
        (partial(other_model, flow_width=12), "s: flow_width = 12, but the stage it starts from has 8"),
        (
            partial(other_model, understands_through="shared"),
            "understands_through = shared, but the stage it starts from has contrastive",
        ),
    ],
)
def test_a_stage_of_another_form_is_refused(made, begin, message):
    with pytest.raises(UserError, match=message):
        begin(made, JanusFlow.from_pretrained(made / "stage1"))


def test_only_known_parts_can_be_frozen():
    with pytest.raises(UserError, match="freeze names vae"):
        StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0), freeze=("vae",))


def test_muon_updates_the_hidden_matrices_and_nothing_else(made):
    model = JanusFlow.from_pretrained(made / "stage1")
    objective = JanusFlowObjective(model, None, None, StageSettings(loop=LoopSettings(steps=1, learning_rate=1.0)))
    names = {id(p): n for n, p in model.named_parameters()}
    matrices = {names[id(p)] for p in objective.matrices()}
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in matrices
    assert "vision_gen_dec_model.mid_block.res_blocks.1.channelwise_linear_2.weight" in matrices
    assert not any("embed" in name or "lm_head" in name or "vision_und" in name for name in matrices)


def test_plain_attention_gives_the_same_features(made):
    model = JanusFlow.from_pretrained(made / "stage1").eval()
    tower = model.vision_und_enc_model
    pixels = torch.rand(2, 3, model.config.vision.image_size, model.config.vision.image_size) * 2 - 1
    fused = tower(pixels)
    attend_eagerly(model)
    assert tower.vision_tower.encoder.layers[0].self_attn.config._attn_implementation == "eager"
    torch.testing.assert_close(tower(pixels), fused, atol=1e-5, rtol=1e-4)
