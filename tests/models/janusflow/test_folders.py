"""`jfeval checkpoint` and `jfeval chat`, through the command line."""

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, SiglipVisionConfig, SiglipVisionModel

from jfeval.cli import main
from jfeval.console import clean
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.pipeline import JanusFlowPipeline, Question
from jfeval.models.janusflow.understanding import Turn
from jfeval.models.training.tokenizer import BOS, EOS, TokenizerSettings, build_tokenizer


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def published(model, tokenizer, tmp_path):
    """A checkpoint as others publish theirs: bfloat16 in .bin files, with tokenizer and processor files."""
    folder = tmp_path / "published"
    model.save_pretrained(folder, dtype=torch.bfloat16)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"sft_format": "deepseek", "image_tag": "<image_placeholder>"}))
    return folder


def test_inspect_tells_sizes_types_and_that_all_fits(published, model):
    result = invoke("checkpoint", "inspect", published)
    assert result.exit_code == 0, result.output
    total = sum(p.numel() for p in model.parameters())
    pool = sum(p.numel() for p in model.vision_und_enc_model.vision_tower.head.parameters())
    assert f"{total:,}  of which {pool:,} in the unused attention-pool head" in result.stdout
    assert "hidden_size=32" in result.stdout
    assert f"{sum(p.numel() for p in model.language_model.parameters()):>15,}" in result.stdout
    assert "bfloat16), 0.00 GB in pytorch_model.bin" in result.stdout
    assert result.stdout.endswith("no problems: every tensor has its place and its shape\n")


def test_inspect_lists_what_does_not_fit(published):
    tensors = torch.load(published / "pytorch_model.bin", weights_only=True)
    tensors["vision_gen_enc_aligner.bias"] = torch.zeros(3)
    tensors["\x1b[31mred"] = tensors.pop("beg_of_und_embed")
    torch.save(tensors, published / "pytorch_model.bin")
    (published / "tokenizer.json").unlink()
    result = invoke("checkpoint", "inspect", published)
    assert result.exit_code == 1
    assert "missing    beg_of_und_embed [1, 32]" in result.stdout
    assert "unexpected �[31mred [1, 32]" in result.stdout
    assert "mis-shaped vision_gen_enc_aligner.bias: expected [32], found [3]" in result.stdout
    assert "no tokenizer.json" in result.stdout
    assert result.stdout.endswith("4 problems\n")


def test_import_and_export_give_every_tensor_back(published, vae, tmp_path):
    result = invoke("checkpoint", "import", published, "--vae", vae, "--out", tmp_path / "mine")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'mine'}\n"), result.output
    pipeline = JanusFlowPipeline.from_pretrained(tmp_path / "mine")
    assert pipeline.processor.template == "deepseek"
    assert pipeline(["a"], num_inference_steps=1).images[0].size == (16, 16)
    result = invoke("checkpoint", "export", tmp_path / "mine", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    before, after = torch.load(published / "pytorch_model.bin", weights_only=True), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)
    again = invoke("checkpoint", "export", tmp_path / "mine", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "already holds a checkpoint" in again.stderr


def test_export_converts_and_cuts(published, tmp_path):
    out = tmp_path / "out"
    assert invoke("checkpoint", "export", published, "--dtype", "float32", "--shard-megabytes", "1", "--out", out).exit_code == 0
    assert {p.dtype for p in JanusFlow.from_pretrained(out).parameters()} == {torch.float32}


def test_a_model_is_joined_from_its_parts(tmp_path):
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, vocab_size=300, dtype="bfloat16")
    ).to(torch.bfloat16)
    llama.save_pretrained(tmp_path / "llm")
    words = build_tokenizer(["a b"], TokenizerSettings(size=280))
    plain = json.loads(words.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["content"] in (BOS, EOS)]
    for index in range(2, 7):  # the other special tokens become ordinary words
        token = next(text for text, number in plain["model"]["vocab"].items() if number == index)
        plain["model"]["vocab"][f"word{index}"] = plain["model"]["vocab"].pop(token)
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "plain.json"), bos_token=BOS, eos_token=EOS).save_pretrained(tmp_path / "llm")
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=4
    )
    SiglipVisionModel(vision).save_pretrained(tmp_path / "siglip")
    result = invoke("checkpoint", "import", "--language", tmp_path / "llm", "--vision", tmp_path / "siglip", "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert invoke("checkpoint", "inspect", tmp_path / "new").exit_code == 0
    loaded = JanusFlow.from_pretrained(tmp_path / "new")
    assert torch.equal(loaded.language_model.lm_head.weight, llama.lm_head.weight)


@pytest.mark.parametrize("arguments", [[], ["--language", "llm"], ["checkpoint", "--language", "a", "--vision", "b"]])
def test_import_wants_one_source(tmp_path, arguments):
    result = invoke("checkpoint", "import", *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "Give either SOURCE, or both --language and --vision." in result.stderr


def test_what_is_no_checkpoint_is_refused(tmp_path):
    for command in (["inspect", tmp_path], ["import", tmp_path, "--out", tmp_path / "o"], ["export", tmp_path, "--out", tmp_path / "o"]):
        result = invoke("checkpoint", *command)
        assert result.exit_code == 2
        assert "no config.json" in result.stderr
    assert "needs a revision" in invoke("checkpoint", "inspect", "owner/name").stderr
    assert not (tmp_path / "o").exists()


def test_a_checkpoint_with_nan_is_not_imported(published, tmp_path):
    tensors = torch.load(published / "pytorch_model.bin", weights_only=True)
    tensors["beg_of_und_embed"][0, 0] = float("nan")
    (published / "pytorch_model.bin").unlink()
    save_file(tensors, published / "model.safetensors")
    result = invoke("checkpoint", "import", published, "--out", tmp_path / "mine")
    assert result.exit_code == 2
    assert "hold NaN or infinity" in result.stderr
    assert not (tmp_path / "mine").exists()


def test_a_damaged_vae_is_not_imported(published, vae, tmp_path):
    file = vae / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    result = invoke("checkpoint", "import", published, "--vae", vae, "--out", tmp_path / "mine")
    assert result.exit_code == 2
    assert "diffusion_pytorch_model.safetensors cannot be read as weights" in result.stderr
    assert not (tmp_path / "mine").exists()


def test_every_command_has_examples():
    for command in ("inspect", "import", "export"):
        assert f"jfeval checkpoint {command} " in invoke("checkpoint", command, "--help").stdout.split("Options:")[0].split("\n", 1)[1]


def test_chat_streams_the_answer_about_several_pictures(published, vae, tmp_path):
    invoke("checkpoint", "import", published, "--vae", vae, "--out", tmp_path / "mine")
    files, images = [], []
    for name, color in (("a.png", "red"), ("b.png", "blue")):
        images.append(Image.new("RGBA", (20, 10), color))
        images[-1].save(tmp_path / name)
        files.append(tmp_path / name)
    result = invoke("chat", *files, "which one?", "--model", "janusflow", "--set", f"path={tmp_path / 'mine'}", "--max-new-tokens", "6")
    assert result.exit_code == 0, result.output
    pipeline = JanusFlowPipeline.from_pretrained(tmp_path / "mine")
    (expected,) = pipeline.answer([Question(text="which one?", images=tuple(images), max_new_tokens=6)])
    assert result.stdout == clean(expected) + "\n"


def test_the_documented_example_runs(published, vae, tmp_path, monkeypatch):
    page = (Path(__file__).parents[3] / "docs" / "model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    invoke("checkpoint", "import", published, "--vae", vae, "--out", tmp_path / "models" / "janusflow")
    monkeypatch.chdir(tmp_path)
    names = {"photo": Image.new("RGB", (9, 9), "red"), "later": Image.new("RGB", (9, 9), "blue")}
    exec(code, {**names, "JanusFlowPipeline": JanusFlowPipeline, "Question": Question, "Turn": Turn})
