"""A whole JanusFlow as the start of a recipe: the recipe in docs/training.md is run, at toy size."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jfeval.benchmarks.scorers.contrastive import EMBEDDED
from jfeval.errors import UserError
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.parts import vision_config
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.shapes import WEIGHTS
from jfeval.models.training.encoders import load_stage
from jfeval.models.training.given import GivenSettings, take_given
from jfeval.models.training.making import train
from jfeval.models.training.part import Part

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
SHORT = ["tune.mixture.batch_size=4", "tune.mixture.pack_to=200", "tune.mixture.prompt_tokens=80", "tune.loop.steps=1"]


def test_an_exported_stage_is_trained_further_by_the_documented_recipe(made, tmp_path, monkeypatch):
    (text,) = re.findall(r"```yaml\n(# finetune.yaml.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "finetune.yaml").write_text(text)
    shutil.copytree(made / "export" / "model", tmp_path / "my-model")
    shutil.copytree(made.parent / "world" / "scenes", tmp_path / "my-pictures")
    shutil.copytree(made / "tokenizer" / "tokenizer", tmp_path / "words")
    (tmp_path / "words" / "config.json").write_text('{"model_type": "llama"}')  # as beside a language model
    monkeypatch.chdir(tmp_path)
    exact = ["tune.loop.dtype=float32", "tune.loop.learning_rate=1e-3", "tune.loop.warmup=0", "export.dtype=float32"]
    out = train("finetune.yaml", tmp_path / "out", overrides=[*SHORT, *exact, "tokenizer.path=words"])
    base, tuned = (load_stage(folder).state_dict() for folder in (out / "base", out / "tune"))
    same = {name for name in base if torch.equal(base[name], tuned[name])}
    assert all(name in same for name in base if name.startswith("vision_und_enc_model."))
    assert not any(name in same for name in base if name.startswith("vision_gen_enc_model.") and name.endswith("weight"))
    card = (out / "export" / "model" / "README.md").read_text()
    assert [line.split(" | ")[0] for line in card.splitlines() if " (" in line] == ["| stage1", "| stage2", "| tune"]
    exported = JanusFlowPipeline.from_pretrained(out / "export" / "model").model.state_dict()
    assert all(torch.equal(exported[name], tuned[name]) for name in tuned)


def given(source, folder):
    folder.mkdir()
    return take_given(GivenSettings(holds="model", path=str(source)), Part(name="base", folder=folder))


def test_the_short_recipe_takes_the_embedded_parts(tmp_path):
    parts = ["vae", "tokenizer", "contrastive"]
    with pytest.raises(UserError, match=r"contrastive: give the folder of .*contrastive_weights\) with contrastive.path=FOLDER"):
        train("shapes-short", tmp_path, only=parts)
    out = train("shapes-short", tmp_path, only=parts, overrides=[f"contrastive.path={EMBEDDED}"])
    embedded = JanusFlowConfig.from_file(WEIGHTS)
    assert replace(vision_config(out / "contrastive" / "siglip"), model_name=embedded.vision.model_name) == embedded.vision
    assert (out / "tokenizer" / "tokenizer" / "tokenizer.json").read_bytes() == (EMBEDDED / "tokenizer.json").read_bytes()
    assert (out / "vae" / "vae").resolve() == (WEIGHTS / "vae").resolve()


def test_a_finished_stage_is_a_model_and_its_training_is_left_behind(made, tmp_path):
    given(made / "stage2", tmp_path / "base")
    assert {file.name for file in (tmp_path / "base").iterdir()} == {
        "alignment_head.safetensors",
        "config.json",
        "learned_from.json",
        "model.safetensors",
    }
    before, after = (load_stage(folder).state_dict() for folder in (made / "stage2", tmp_path / "base"))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_model_is_known_by_its_contents(made, tmp_path):
    one = given(made / "export" / "model", tmp_path / "one")["content"]
    copy = shutil.copytree(made / "export" / "model", tmp_path / "copy")
    assert given(copy, tmp_path / "two")["content"] == one
    shutil.copyfile(made / "stage2" / "model.safetensors", copy / "model.safetensors")
    assert given(copy, tmp_path / "three")["content"] != one


def test_a_folder_that_holds_no_such_model_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"this is no JanusFlow config\.json"):
        given(made / "lm" / "lm", tmp_path / "lm")
    copy = shutil.copytree(made / "export" / "model", tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["language_config"]["intermediate_size"] = 24
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"(?s)do not fit its config\.json.*mis-shaped.*expected \[24, 16\], found \[16, 16\]"):
        given(copy, tmp_path / "wrong")
    with pytest.raises(UserError, match=r"give that of model with base\.path=FOLDER"):
        given(tmp_path / "nowhere", tmp_path / "none")


def test_the_embedded_model_is_given_whole_or_by_its_vae_and_tokenizer():
    for holds in ("model", "vae", "tokenizer"):
        GivenSettings(holds=holds, embedded=True)
    with pytest.raises(UserError, match="the rest is trained further"):
        GivenSettings(holds="lm", embedded=True)
