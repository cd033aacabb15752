import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"


def test_the_model_in_the_docs_is_installed_listed_and_run(tmp_path):
    """Lays the page's own code out as an installed distribution and calls the commands that the page gives."""
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    site = tmp_path / "site"
    info = site / "noise_model-1.dist-info"
    info.mkdir(parents=True)
    (site / "noise_model.py").write_text(blocks["python"])
    name, target = re.search(r'^(\w+) = "([\w.:]+)"', blocks["toml"], re.MULTILINE).groups()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noise-model\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[jfeval.models]\n{name} = {target}\n")

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
