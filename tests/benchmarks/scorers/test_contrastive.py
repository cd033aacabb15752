"""The similarity of pictures and prompts in a contrastive encoder, with a tiny one of random weights."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from jfeval.benchmarks.coco import COCO
from jfeval.benchmarks.photo_sets import Settings
from jfeval.benchmarks.scene_sets import PROTOCOL, read_scene
from jfeval.benchmarks.scorers import contrastive
from jfeval.benchmarks.scorers.contrastive import EMBEDDED, SIMILARITY, ContrastiveEncoder, load_encoder
from jfeval.benchmarks.shapes.render import render
from jfeval.cli_train import export
from jfeval.errors import UserError
from jfeval.models.training.contrastive import ContrastiveSettings, TowerSettings, build_siglip, encode_captions
from jfeval.models.training.tokenizer import TokenizerSettings, build_tokenizer, load_tokenizer, save_tokenizer

TOWER = TowerSettings(width=16, layers=1, heads=2, mlp=16)
SETTINGS = ContrastiveSettings(vision=TOWER, text=TOWER, image_size=64, patch_size=16, text_length=12)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a recipe leaves: the part contrastive beside its tokenizer."""
    out = tmp_path_factory.mktemp("train")
    words = build_tokenizer(["a photo of a red circle and a blue square"] * 9, TokenizerSettings(size=300))
    save_tokenizer(words, out / "tokenizer" / "tokenizer", 64)
    build_siglip(SETTINGS, load_tokenizer(out / "tokenizer" / "tokenizer")).save_pretrained(out / "contrastive" / "siglip")
    return out


@pytest.fixture(scope="module")
def folder(trained):
    """The encoder as one folder, written by the command."""
    out = trained / "encoder"
    done = CliRunner().invoke(export, [str(trained / "contrastive"), "--out", str(out)], catch_exceptions=False)
    assert (done.exit_code, done.stdout.strip()) == (0, str(out))
    return out


def picture(seed, side=64):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_a_score_is_a_hundred_times_the_cosine_that_training_saw(trained, folder):
    from transformers import SiglipModel

    encoder = ContrastiveEncoder(folder)
    prompts = ["a photo of a red circle", "a blue square and a red circle and a blue square and a red circle"]
    tokens = encode_captions(load_tokenizer(trained / "tokenizer" / "tokenizer"), prompts, 12)
    assert torch.equal(encoder.tokens(prompts), tokens)
    images = [picture(0), picture(1)]
    pixels = torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in images]).transpose(0, 3, 1, 2) / 127.5 - 1)
    model = SiglipModel.from_pretrained(trained / "contrastive" / "siglip").eval()
    with torch.inference_mode():
        out = model(input_ids=tokens, pixel_values=pixels)
    cosines = (out.image_embeds * out.text_embeds).sum(-1)
    np.testing.assert_allclose(encoder.scores(images, prompts), 100 * cosines.numpy(), rtol=1e-4)
    with pytest.raises(UserError, match="reads images of 64x64 pixels, not 32x32"):
        encoder.scores([picture(0, 32)], prompts[:1])


def test_the_number_is_named_for_what_it_is_and_says_what_the_weights_have_seen(folder, see):
    benchmark = COCO(Settings(contrastive=folder))
    samples = benchmark.samples("shapes", seed=0)[:6]
    judge = benchmark.judge("shapes")
    pictures = [render(read_scene(sample)) for sample in samples]
    scores, metrics = benchmark.score_set(see(samples, pictures, judge), protocol=PROTOCOL)
    (metric,) = (one for one in metrics if one.name == SIMILARITY)
    own = [ContrastiveEncoder(folder).scores([p], [s.request.prompt])[0] for p, s in zip(pictures, samples, strict=True)]
    assert [score.values[SIMILARITY] for score in scores] == pytest.approx(own)
    assert metric.value == pytest.approx(np.mean(own))
    assert metric.se == pytest.approx(np.std(own, ddof=1) / np.sqrt(6))
    assert metric.ci_low < metric.value < metric.ci_high
    assert (metric.better, metric.headline) == ("higher", False)
    assert "trained on captions of this world. Not CLIP" in metric.detail
    assert not [one.name for one in metrics if "clip" in one.name]
    assert SIMILARITY in benchmark.trained_on_captions["shapes"]
    assert judge.identity()["contrastive"]["weights_sha256"]


def test_without_an_encoder_there_is_no_such_number(monkeypatch, tmp_path, see):
    monkeypatch.setattr(contrastive, "EMBEDDED", tmp_path / "none")
    assert load_encoder(None) is None
    benchmark = COCO()
    samples = benchmark.samples("shapes", seed=0)[:3]
    judge = benchmark.judge("shapes")
    assert "contrastive" not in judge.identity()
    scores, metrics = benchmark.score_set(see(samples, [render(read_scene(s)) for s in samples], judge), protocol=PROTOCOL)
    assert SIMILARITY not in {one.name for one in metrics} | scores[0].values.keys()


def test_what_is_missing_or_not_whole_is_named(trained, folder, tmp_path):
    with pytest.raises(UserError, match=r"config\.json, model\.safetensors, tokenizer\.json missing; `jfeval export OUT/contrastive"):
        load_encoder(tmp_path)
    (tmp_path / "half").mkdir()
    for file in folder.iterdir():
        (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("text_model.head.weight")
    save_file(tensors, tmp_path / "half" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"is not whole: 1 tensors missing or misfit, first text_model\.head\.weight"):
        load_encoder(tmp_path / "half")
    with pytest.raises(UserError, match="is not empty"):
        CliRunner().invoke(export, [str(trained / "contrastive"), "--out", str(folder)], catch_exceptions=False)
    (tmp_path / "part" / "siglip").mkdir(parents=True)
    with pytest.raises(UserError, match=r"was trained with the tokenizer in .* and that is not there"):
        CliRunner().invoke(export, [str(tmp_path / "part"), "--out", str(tmp_path / "new")], catch_exceptions=False)


@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="no contrastive encoder is embedded")
def test_the_embedded_encoder_tells_a_scene_s_prompt_from_another_s():
    """Recorded over 64 scenes: 60 with the own prompt, -18 with another's, higher in every case."""
    samples = COCO().samples("shapes", seed=0)[::32]
    pictures, prompts = [render(read_scene(sample)) for sample in samples], [sample.request.prompt for sample in samples]
    encoder = load_encoder(None)
    own, other = (np.array(encoder.scores(pictures, words)) for words in (prompts, [*prompts[7:], *prompts[:7]]))
    assert (own > other).all()
    assert own.mean() - other.mean() > 50
