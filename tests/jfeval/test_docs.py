import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"


@pytest.mark.skipif(
    not (find_spec("pip") and find_spec("setuptools")), reason="pip or setuptools, which build the plug-in, are not installed"
)
def test_the_model_in_the_docs_is_built_installed_listed_and_run(tmp_path):
    """Builds a distribution of the page's own files, installs it apart and calls the commands that the page gives."""
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    site, plugin = tmp_path / "site", tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "noise_model.py").write_text(blocks["python"])
    (plugin / "pyproject.toml").write_text(blocks["toml"])
    apart = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(site))
    built = subprocess.run([sys.executable, "-m", "pip", "install", *apart, str(plugin)], capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr

    def jfeval(*arguments):
        code = f"import sys; sys.path.insert(0, {str(site)!r}); from jfeval.cli import main; main({list(arguments)!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "model      noise" in jfeval("list")
    assert "model noise (noise-model)" in jfeval("describe", "noise")
    out = jfeval(
        "run", "--model", "noise", "--seed", "3", "--set", "brightest=100", "--limit", "6", "--no-report", "--out", str(tmp_path / "run")
    )
    assert "recipe brightest=100" in out
    assert "overall 0.000 [" in out
    assert "limited: 6 of " in out
