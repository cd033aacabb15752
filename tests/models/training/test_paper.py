"""The paper's recipe: its numbers, its counts, and what it would cost, without weights or data."""

import pytest
from click.testing import CliRunner

from jfeval.cli_make import train as train_command
from jfeval.errors import UserError
from jfeval.models.training.budget import budgets
from jfeval.models.training.making import train
from jfeval.models.training.ranks import Ranks
from jfeval.models.training.ratios import Counts
from jfeval.models.training.recipe import load_recipe
from jfeval.models.training.stages import check_stages


@pytest.fixture(scope="module")
def paper():
    return {b.name: b for b in budgets(load_recipe("paper"))}


def test_trainable_parameters_are_the_published_sizes(paper):
    """Source of the figures: shapes of the published checkpoint; paper: about 70 M for the generation encoder and decoder together."""
    first = paper["stage1"]
    assert first.trained == 77_427_472  # 77.43 M
    assert first.trainable["generation encoder"] == 21_614_336
    assert first.trainable["generation decoder"] == 50_561_296
    assert "language model" not in first.trainable
    assert "understanding encoder" not in first.trainable
    assert first.trainable["alignment MLP"] == 2 * (2048 * 2048 + 2048) + 2048 * 1024 + 1024
    assert paper["stage2"].trained == first.trained + 1_652_656_128
    assert paper["stage3"].trained == paper["stage2"].trained + 303_688_704
    assert all(b.trained + b.frozen == 2_046_367_504 for b in paper.values())


def test_samples_by_kind_follow_the_papers_ratios(paper):
    assert paper["stage1"].samples == Counts(understanding=2_560_000, generation=2_560_000, text=0)
    second = paper["stage2"].samples
    assert sum(second) == 390_000 * 512
    assert second.generation == pytest.approx(512 * (10_000 * 0.5 + 380_000 * 0.8), abs=1)
    third = paper["stage3"].samples
    assert sum(third) == 26_000 * 256
    assert third.text == pytest.approx(26_000 * 256 * 0.09, abs=1)


def test_published_settings_of_every_stage():
    stages = {p.name: p.settings for p in load_recipe("paper").parts if p.kind == "stage"}
    rates = {
        name: (s.loop.learning_rate, s.loop.warmup, s.loop.steps, s.mixture.batch_size * s.loop.accumulate) for name, s in stages.items()
    }
    assert rates == {
        "stage1": (1e-4, 2000, 10_000, 512),
        "stage2": (1e-4, 2000, 390_000, 512),
        "stage3": (2e-5, 1000, 26_000, 256),
    }
    for s in stages.values():
        assert (s.loop.beta1, s.loop.beta2, s.loop.weight_decay, s.loop.clip, s.loop.ema) == (0.9, 0.95, 0.0, 1.0, 0.99)
        assert (s.flow.prompt_dropout, s.flow.time_location, s.flow.time_scale, s.flow.repa_block) == (0.1, 0.0, 1.0, 6)
        assert (s.loop.schedule, s.loop.optimizer, s.loop.ema_warmup, s.mixture.pack_to) == ("constant", "adamw", False, 4096)
    frozen = {name: sorted(s.freeze) for name, s in stages.items()}
    assert frozen == {"stage1": ["language", "vision"], "stage2": ["vision"], "stage3": []}


def test_every_stage_can_be_trained_by_eight_processes(tmp_path):
    recipe = load_recipe("paper")
    assert all(p.settings.loop.accumulate % 8 == 0 for p in recipe.parts if p.kind == "stage")
    check_stages(recipe, 8, lambda _: True)
    fewer = ["stage3.loop.accumulate=4"]
    with pytest.raises(UserError, match="stage3: 4 batches per update cannot be dealt out to 8 processes"):
        train("paper", tmp_path / "out", overrides=fewer, ranks=Ranks(size=8))  # before any part is made, which would ask for its path
    check_stages(load_recipe("paper", fewer), 8, lambda name: name != "stage3")


def test_memory_and_operations_are_of_the_right_size(paper):
    weights = 2_046_367_504 * 4
    assert paper["stage3"].memory > weights + 16 * paper["stage3"].trained
    assert paper["stage1"].memory < paper["stage2"].memory
    forward_only = 2 * 1.2e9 * sum(paper["stage2"].tokens)
    assert forward_only < paper["stage2"].operations < 5 * forward_only


def test_the_command_states_the_budget_and_needs_nothing(tmp_path):
    result = CliRunner().invoke(train_command, ["--recipe", "paper", "--dry-run", "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "stage1: 10,000 updates" in result.output
    assert "trained: 77.43 M parameters before the alignment MLP" in result.output
    assert not (tmp_path / "out").exists()
    shapes = CliRunner().invoke(train_command, ["--recipe", "shapes", "--dry-run", "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "generation decoder" in shapes.output


def test_parts_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"vae: give the folder of SDXL-VAE .* with vae\.path=FOLDER"):
        train("paper", tmp_path, only=["vae"])
    with pytest.raises(UserError, match=r"source 'understanding' has no path"):
        train("paper", tmp_path, only=["data"])
    with pytest.raises(UserError, match=r"nowhere is no folder"):
        train("paper", tmp_path, only=["vae"], overrides=["vae.path=nowhere"])
