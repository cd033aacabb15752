from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfeval.errors import UserError
from jfeval.settings import RunSettings, field_docs, resolve, to_yaml


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 1e-3
    """Step size."""
    form: Literal["tiny", "huge"] = "tiny"


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int = 10
    """How many
    of them."""
    kind: Literal["auto", "b"] = "b"
    folder: Path | None = None
    extra: dict[str, int] = field(default_factory=dict)
    """Anything."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


def test_later_layers_win(tmp_path):
    (tmp_path / "s.yaml").write_text("steps: 2\ninner:\n  lr: 0.5\nextra: {any: 1}\n")
    got = resolve(Outer, file=tmp_path / "s.yaml", values={"steps": 3, "folder": Path("x")}, overrides=["inner.lr=0.25"])
    assert got == Outer(steps=3, inner=Inner(lr=0.25), extra={"any": 1}, folder=Path("x"))
    assert "folder: x\n" in to_yaml(got)
    (tmp_path / "again.yaml").write_text(to_yaml(got))
    assert resolve(Outer, file=tmp_path / "again.yaml") == got


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("step=3", "unknown setting 'step'; did you mean 'steps'?"),
        ("inner.rl=3", "unknown setting 'inner.rl'; did you mean 'inner.lr'?"),
        ("steps=three", "steps=three: Value 'three'"),
        ("kind=c", "unknown kind 'c'. Known: auto, b"),
        ("kind=atuo", "unknown kind 'atuo'; did you mean 'auto'? Known: auto, b"),
        ("kind=3", "unknown kind '3'. Known: auto, b"),
        ("kind=[auto]", "kind=[auto]"),
        ("kind=null", "kind=null"),
        ("inner.form=hug", "unknown inner.form 'hug'; did you mean 'huge'? Known: huge, tiny"),
        ("steps=0", "steps must be at least 1, got 0"),
        ("inner=3", "inner=3"),
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
        ("steps=[", "cannot read the value"),
    ],
)
def test_mistakes_name_the_key_and_the_nearest(override, message):
    with pytest.raises(UserError) as caught:
        resolve(Outer, overrides=[override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "found a list"),
        ("step: 3", "did you mean 'steps'"),
        ("kind: atuo", "did you mean 'auto'"),
        (None, "exist"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"bad.yaml[\\s\\S]*{message}"):
        resolve(Outer, file=path)


@given(st.text(max_size=30))
def test_any_text_is_taken_or_refused_as_bad_input(text):
    try:
        got = resolve(Outer, overrides=[text])
    except UserError:
        return
    assert isinstance(got, Outer)


def test_fields_are_documented_from_their_source():
    docs = {item.name: item for item in field_docs(Outer)}
    assert (docs["steps"].type, docs["steps"].default, docs["steps"].doc) == ("int", "10", "How many of them.")
    assert docs["folder"].type == "Path | None"
    assert docs["kind"].doc == ""


def test_every_run_setting_is_documented():
    assert all(item.doc for item in field_docs(RunSettings))


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, "janusflow-shapes"),
        ({"model": "hf", "model_settings": {"path": "llava-hf/llava-1.5-7b-hf"}}, "llava-1.5-7b-hf (hf)"),
        ({"model": "folder", "model_settings": {"path": Path("/out/show-o/")}}, "show-o (folder)"),
        ({"model": "answers", "model_settings": {"path": Path("out/mine-1.5.jsonl")}}, "mine-1.5 (answers)"),
        ({"model": "janusflow", "model_settings": {"path": ""}}, "janusflow"),
        ({"model": "api", "model_settings": {"model": "gpt-4o", "base_url": ""}}, "gpt-4o (api)"),
        ({"model": "api", "model_settings": {"model": "gpt-4o"}, "title": "GPT-4o, low detail"}, "GPT-4o, low detail"),
    ],
)
def test_tables_call_a_model_by_its_title_or_by_what_it_loads(settings, shown):
    assert RunSettings(**settings).shown == shown


@pytest.mark.parametrize("title", ["x" * 81, "two\nlines", " spaced", "\x1b[31mred"])
def test_a_title_is_one_short_line(title):
    with pytest.raises(ValueError, match="title must be one line"):
        RunSettings(title=title)


def test_the_run_folder_tells_runs_apart():
    assert RunSettings(seed=3).folder == Path("runs/geneval-shapes-janusflow-shapes-seed3")
    assert RunSettings(out=Path("x"), limit=3).folder == Path("x")
    changes = [{}, {"seed": 1}, {"limit": 20}, {"model": "m"}, {"model_settings": {"w": 3.0}}, {"model_settings": {"w": 4.0}}]
    assert len({RunSettings(**change).folder for change in changes}) == len(changes)
