"""The loop in docs/training.md is run as it stands."""

import re
import shutil
from pathlib import Path

import torch

PAGE = Path(__file__).parents[3] / "docs" / "training.md"


def test_the_documented_loop_runs_and_is_short(made, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 20
    shutil.copytree(made / "export" / "model", tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    names = {"train_somehow": lambda model: torch.optim.SGD(model.parameters(), lr=0.0)}
    exec(compile(code, str(PAGE), "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert {p.name for p in (tmp_path / "runs" / "mine").iterdir()} == {"gqa-step00000001", "gqa-step00000002"}
