import runpy
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "analyse_runs.py"


def test_the_notebook_in_the_docs_runs(make_store, monkeypatch, capsys):
    stores = [make_store(prompts=2), make_store(prompts=2, model="other")]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(stores[0].path.parent / "*")])
    names = runpy.run_path(str(SCRIPT))
    shown = capsys.readouterr().out
    best = max(m.value for store in stores for m in store.metrics() if m.headline)
    assert names["headline"]["value"].iloc[0] == best
    assert "| janusflow-shapes" in shown
    assert "counting" in shown
    assert names["by_prompt"]["size"].sum() == len(names["samples"])
