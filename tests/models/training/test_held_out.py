"""The pairs that the real world keeps out of training, through the real writer, the data part and every part of the recipe."""

import json
import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from jfeval.benchmarks.shapes.dataset import WorldSize, make
from jfeval.benchmarks.shapes.world import HELD_OUT_PAIRS
from jfeval.errors import UserError
from jfeval.models.training import contrastive, lm, stages, tokenizer, vae
from jfeval.models.training.data import Scenes, StepRng
from jfeval.models.training.decoding import read_meta
from jfeval.models.training.held_out import HeldOut
from jfeval.models.training.loop import FitResult
from jfeval.models.training.making import train
from jfeval.models.training.recipe import load_recipe

STEPS = (0, 1, 2, 7)
TRAINED = tuple(part.name for part in load_recipe("shapes").parts if part.kind not in ("data", "export"))
STAGE = (
    "compile_blocks=false",
    "mixture.prompt_tokens=60",
    "mixture.conversation_tokens=200",
    "mixture.text_tokens=80",
    "sample_prompts=[]",
)
SMALL = (
    *("vae.widths=[8,8,8]", "vae.batch_size=4", "tokenizer.least_count=1"),
    *(f"contrastive.{tower}={{width: 16, layers: 1, heads: 2, mlp: 16}}" for tower in ("vision", "text")),
    *("contrastive.batch_size=8", "contrastive.gallery=4"),
    *("lm.width=32", "lm.mlp=32", "lm.layers=2", "lm.batch_size=2", "lm.test_scenes=4", "lm.compile_blocks=false"),
    *(f"stage{n}.{setting}" for n in (1, 2, 3) for setting in STAGE),
    "stage1.flow_width=16",
)
"""The recipe's parts, small enough for a test; what they read is the recipe's own."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real") / "world"
    make(folder, seed=3, size=WorldSize(train=24, test=8, heldout=4, text=30))
    return folder


def words(tokens, ids):
    return tokens.decode([token for token in ids.tolist() if token >= 0], skip_special_tokens=False)


def texts_of(batch, tokens):
    """Read every sequence of a batch back from its tokens; special tokens stay, so that nothing is joined that was not."""
    parts = [getattr(batch, name, None) for name in ("understanding", "text")]
    parts += [batch.flow.prompts] if getattr(batch, "flow", None) is not None else []
    rows = [row for part in parts if part is not None for row in part.ids]
    return [words(tokens, row) for row in (*rows, *getattr(batch, "tokens", ()))]


@pytest.fixture(scope="module")
def seen(world, tmp_path_factory):
    """Make every part of the recipe but its export, with every training replaced by drawing some of its batches."""
    out, found = tmp_path_factory.mktemp("shapes"), SimpleNamespace(ids={}, texts={}, opened=[])
    copy = shutil.copytree(world, tmp_path_factory.mktemp("copy") / "world")
    train("shapes", out, only=["data"], overrides=[*SMALL, f"data.source={copy}"])
    shutil.rmtree(copy / "scenes")  # what a part reads after this, it reads of the data part
    shutil.rmtree(copy / "text")
    init, vocabulary, drawn = Scenes.__init__, tokenizer.vocabulary_texts, {}

    def opening(self, folder, split):
        found.opened.append((folder, split))
        init(self, folder, split)

    def drawing(name, objective, settings, *_, **__):
        batches = [objective.batch(step, StepRng(settings.seed, step)) for step in STEPS]
        found.ids[name], drawn[name] = [scene for batch in batches for scene in objective.ids(batch)], batches
        return FitResult(steps=len(STEPS), seconds=0.0, losses={})

    def counting(*args):
        found.texts["tokenizer"] = list(vocabulary(*args))
        return found.texts["tokenizer"]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Scenes, "__init__", opening)
        monkeypatch.setattr(tokenizer, "vocabulary_texts", counting)
        for module in (vae, contrastive, lm, stages):
            monkeypatch.setattr(module, "fit", drawing)
        found.out = train("shapes", out, only=list(TRAINED), overrides=[*SMALL, f"data.source={copy}"])
    tokens = tokenizer.load_tokenizer(out / "tokenizer" / "tokenizer")
    found.texts |= {part: [text for batch in batches for text in texts_of(batch, tokens)] for part, batches in drawn.items()}
    return found


def test_the_reader_knows_the_pairs_that_the_writer_keeps_out(world):
    assert HeldOut.from_meta(read_meta(world)).pairs == HELD_OUT_PAIRS


def test_what_every_part_draws_is_of_training_scenes_and_names_no_held_out_pair(world, seen):
    pairs = HeldOut(sorted(HELD_OUT_PAIRS))
    rows = [row for file in sorted((world / "scenes").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    kinds = {row["scene_id"]: {(thing["color"], thing["shape"]) for thing in row["objects"]} for row in rows}
    assert any(found & HELD_OUT_PAIRS for found in kinds.values())  # the world has what training must not see
    assert any(pairs.in_text(caption) for row in rows for caption in row["captions"])
    assert set(seen.ids) == {"vae", "contrastive", "lm", "stage1", "stage2", "stage3"}
    for part, ids in seen.ids.items():
        scenes = {name for name in ids if not name.startswith("text ")}
        assert len(scenes) > 8, part
        assert all(name.startswith("train-") and not kinds[name] & HELD_OUT_PAIRS for name in scenes), part
    assert [part for part, texts in seen.texts.items() if len(texts) < 8] == ["vae"]
    assert set(seen.texts) == {*seen.ids, "tokenizer"}
    for part, texts in seen.texts.items():
        assert [text for text in texts if pairs.in_text(text)] == [], part
    assert any(text.startswith(tokenizer.BOS) and " a " in text for text in seen.texts["stage2"])  # tokens were read back as words


def test_parts_open_the_data_part_alone_and_never_its_held_out_scenes(seen):
    assert {folder for folder, _ in seen.opened} == {seen.out / "data"}
    assert {split for _, split in seen.opened} == {"train", "test"}


def test_every_training_part_of_the_recipe_reads_scenes_through_the_data_part():
    parts = {part.name: part for part in load_recipe("shapes").parts}
    assert [name for name, part in parts.items() if part.kind in ("data", "sources", "given")] == ["data"]
    assert {"vae", "tokenizer", "contrastive", "lm", "stage1", "stage2", "stage3"} <= set(TRAINED)
    for name in TRAINED:
        assert parts[name].inputs["data"] == "data"
    assert "data" not in parts["export"].inputs


def test_a_real_world_whose_meta_lost_its_pairs_is_refused(world, tmp_path):
    copy = shutil.copytree(world, tmp_path / "world")
    meta = json.loads((copy / "meta.json").read_text())
    del meta["world"]["held_out_pairs"]
    (copy / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=r"states no world\.held_out_pairs"):
        train("shapes", tmp_path / "out", only=["data"], overrides=[f"data.source={copy}"])
