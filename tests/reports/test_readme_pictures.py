"""Runs the script that makes the README's pictures, on a small run instead of the embedded model's."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

_SPEC = importlib.util.spec_from_file_location("jfeval_test_browser_of_pictures", Path(__file__).with_name("browser.py"))
chromium = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(chromium)

SCRIPT = Path(__file__).parents[2] / "docs" / "scripts" / "readme_pictures.py"


@pytest.mark.skipif(chromium.find() is None, reason="no Chromium: none on PATH, and JFEVAL_CHROMIUM is not set")
def test_the_pictures_show_the_page(make_store, tmp_path):
    store = make_store(prompts=2)
    out = tmp_path / "docs"
    done = subprocess.run([sys.executable, str(SCRIPT), str(store.path), "--out", str(out)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.splitlines()] == ["report.png", "gallery.png"]
    sizes = {}
    for path in out.iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20, "an empty page"
    assert sizes == {"report.png": (1280, 1500), "gallery.png": (1280, 1200)}


def test_without_a_browser_the_script_says_what_to_do(make_store, tmp_path):
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 1
    assert "JFEVAL_CHROMIUM" in done.stderr
    assert list(tmp_path.iterdir()) == []
