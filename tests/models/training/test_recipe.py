import json
import shutil
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from jfeval.errors import UserError
from jfeval.models.training import recipe
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.making import make_parts, train
from jfeval.models.training.part import Part, flatten
from jfeval.models.training.recipe import load_recipe
from jfeval.settings import NO_EFFECT


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 2
    speed: int = field(default=1, metadata=NO_EFFECT)


@dataclass(frozen=True, kw_only=True)
class Settings:
    word: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=lambda: Inner(depth=7))

    def __post_init__(self):
        if self.word == "forbidden":
            raise UserError("word must not be 'forbidden'")


MADE = []


def make(settings: Settings, part: Part):
    """Write the settings and what the inputs hold; fail on request."""
    MADE.append(part.name)
    if settings.word == "fail":
        raise RuntimeError("killed")
    read = [(role, (folder / "result.txt").read_text()) for role, folder in part.inputs.items()]
    (part.folder / "result.txt").write_text(f"{settings.word}{settings.inner.depth}{read}")
    return {"length": 1.0}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    MADE.clear()
    monkeypatch.setattr(recipe, "KINDS", {"toy": "toy_kind:make"})
    monkeypatch.setitem(sys.modules, "toy_kind", SimpleNamespace(make=make))
    file = tmp_path / "recipe.yaml"
    (tmp_path / "second.yaml").write_text("word: b\n")
    file.write_text(
        "threads: 1\nparts:\n"
        "  - {name: first, kind: toy}\n"
        "  - {name: second, kind: toy, inputs: [first], settings: second.yaml}\n"
        "  - {name: third, kind: toy, inputs: {source: second}, settings: {word: c, inner: {depth: 3}}}\n"
    )
    return file


def test_parts_run_in_order_with_their_inputs(plan, tmp_path):
    out = train(plan, tmp_path / "out")
    assert MADE == ["first", "second", "third"]
    assert (out / "second" / "result.txt").read_text() == "b7[('first', 'a7[]')]"
    assert (out / "third" / "result.txt").read_text().startswith("c3[('source',")
    done = json.loads((out / "third" / "done.json").read_text())
    assert done["results"] == {"length": 1.0}
    assert "word: c" in (out / "third" / "settings.yaml").read_text()


def test_finished_parts_are_kept(plan, tmp_path):
    train(plan, tmp_path / "out")
    MADE.clear()
    train(plan, tmp_path / "out")
    assert MADE == []
    train(plan, tmp_path / "out", overrides=["first.inner.speed=9"])
    assert MADE == []


def test_a_failed_part_goes_on_where_the_recipe_stood(plan, tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        train(plan, tmp_path / "out", overrides=["third.word=fail"])
    MADE.clear()
    with pytest.raises(RuntimeError, match="killed"):
        train(plan, tmp_path / "out", overrides=["third.word=fail"])
    assert MADE == ["third"]


def test_a_changed_part_is_refused_naming_the_keys(plan, tmp_path):
    train(plan, tmp_path / "out")
    with pytest.raises(UserError, match=r"second\.inner\.depth: 7 -> 5"):
        train(plan, tmp_path / "out", overrides=["second.inner.depth=5"])
    MADE.clear()
    train(plan, tmp_path / "out", overrides=["second.inner.depth=5"], force=True)
    assert MADE == ["second", "third"]
    assert (tmp_path / "out" / "second.before-1" / "result.txt").read_text() == "b7[('first', 'a7[]')]"
    with pytest.raises(UserError, match=r"second\.inner\.depth: 5 -> 7"):
        train(plan, tmp_path / "out", only=["third"])


def test_advice_is_what_whoever_asked_can_do(plan, tmp_path):
    out = train(plan, tmp_path / "out")
    with pytest.raises(UserError, match=r"7 -> 5\); move that folder away, or write to another place"):
        make_parts(load_recipe(plan, ["second.inner.depth=5"]), lambda name: out / name)


def test_a_part_whose_inputs_changed_does_not_go_on(plan, tmp_path):
    out = train(plan, tmp_path / "out")
    checkpoint = out / "second" / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text('{"signature": "old"}')
    train(plan, out, overrides=["first.word=z"], force=True)
    assert (out / "second.before-1" / "checkpoints").is_dir()
    assert {p.name for p in out.iterdir()} == {f"{name}{end}" for name in ("first", "second", "third") for end in ("", ".before-1")}


def test_only_some_parts(plan, tmp_path):
    with pytest.raises(UserError, match="'second' needs first"):
        train(plan, tmp_path / "out", only=["second"])
    train(plan, tmp_path / "out", only=["first"])
    train(plan, tmp_path / "out", only=["second"])
    assert MADE == ["first", "second"]
    with pytest.raises(UserError, match="did you mean 'second'"):
        train(plan, tmp_path / "out", only=["secnd"])


def test_a_part_made_anew_invalidates_what_was_made_from_it(plan, tmp_path):
    train(plan, tmp_path / "out")
    with pytest.raises(UserError, match="that part was made anew"):
        train(plan, tmp_path / "out", only=["first", "third"], overrides=["first.word=z"], force=True)
    with pytest.raises(UserError, match=r"second\.inputs\.first"):
        train(plan, tmp_path / "out", overrides=["first.word=z"])


def test_threads_can_be_given(plan):
    assert load_recipe(plan).threads == 1
    assert load_recipe(plan, ["threads=3", "first.word=z"]).threads == 3
    for wrong in ("-1", "two", ""):
        with pytest.raises(UserError, match=f"threads must be a whole number, 0 for one per core; found '{wrong}'"):
            load_recipe(plan, [f"threads={wrong}"])
    plan.write_text(plan.read_text().replace("threads: 1", "threads: many"))
    with pytest.raises(UserError, match="threads must be a whole number"):
        load_recipe(plan)


def test_a_dry_run_makes_nothing(plan, tmp_path):
    train(plan, tmp_path / "out", dry_run=True)
    assert MADE == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["first.wrod=x"], "did you mean 'word'"),
        (["first.inner.dept=1"], "setting in first.inner 'dept'; did you mean 'depth'"),
        (["frist.word=x"], "did you mean 'first'"),
        (["first.inner.depth=deep"], "first"),
        (["first.word=forbidden"], "must not be"),
        (["word=x"], "must look like"),
    ],
)
def test_wrong_overrides(plan, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        train(plan, tmp_path / "out", overrides=overrides)
    assert MADE == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part: []", "did you mean 'parts'"),
        ("parts: []", "distinct names"),
        ("parts: [{name: a, kind: toy}, {name: a, kind: toy}]", "distinct names"),
        ("parts: [{name: ../a, kind: toy}]", "distinct names"),
        ("parts: [{name: a, kind: tyo}]", "did you mean 'toy'"),
        ("parts: [{name: a, kind: toy, inputs: [b]}]", "input of part 'a'"),
        ("parts: [{name: a, kind: toy, setting: {}}]", "did you mean 'settings'"),
        ("parts: [{name: a, kind: toy, settings: {wrod: b}}]", "did you mean 'word'"),
        ("parts: [{name: a, kind: toy, settings: none.yaml}]", "cannot be read"),
        ("- a", "must hold a mapping"),
        ("parts: [", "cannot be read"),
    ],
)
def test_wrong_recipes(plan, text, message):
    plan.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(plan)


def test_an_unknown_recipe_names_the_known():
    with pytest.raises(UserError, match="shapes"):
        load_recipe("shaeps")


def test_flatten_leaves_out_what_has_no_effect():
    assert flatten(Settings()) == {"word": "a", "sizes": [1, 2], "inner.depth": 7}
    loop = flatten(LoopSettings(steps=1, learning_rate=0.1))
    assert "steps" in loop
    assert not {"checkpoint_minutes", "log_seconds", "time_limit_minutes"} & loop.keys()


def test_an_unfinished_mark_is_not_trusted(plan, tmp_path):
    out = train(plan, tmp_path / "out", only=["first"])
    (out / "first" / "done.json").write_text('{"hash": "')
    MADE.clear()
    train(plan, out, only=["first"])
    assert MADE == ["first"]
    shutil.rmtree(out)
