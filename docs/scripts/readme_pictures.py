"""Makes the README's pictures from results of the embedded model: python docs/scripts/readme_pictures.py [RUN ...] [--out docs]

Without a RUN it makes one first: the embedded model on GenEval (shapes), seed 0, all prompts, in runs/readme; a run that is there is gone
on with. Chromium is found on PATH, or named by JFEVAL_CHROMIUM.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import jfeval

PICTURES = {
    "report.png": ("", (1280, 1500)),
    "gallery.png": ("#task=color_attr&boxes=1", (1280, 1200)),
}
"""File to the view of the page that it shows, and its size in pixels."""
DRAWN = "document.querySelectorAll('.sample').length > 0"
LOADED = "[...document.images].every((i) => i.complete || i.getBoundingClientRect().top > innerHeight)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    chromium = driver()
    program = chromium.find()
    if program is None:
        sys.exit("no Chromium: install one, or name it by JFEVAL_CHROMIUM")
    runs = options.runs or [Path("runs/readme")]
    if not options.runs:
        command = ("run", "--benchmark", "geneval", "--edition", "shapes", "--seed", "0", "--no-report", "--out", str(runs[0]))
        subprocess.run([sys.executable, "-m", "jfeval", *command], check=True)  # noqa: S603 - our own command
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        page = jfeval.load_runs(*runs).report(Path(scratch) / "report.html")
        browser = chromium.Browser(program, Path(scratch) / "profile")
        for name, (view, size) in PICTURES.items():
            browser.open(page.as_uri() + view, size)
            browser.wait(DRAWN)
            browser.wait(LOADED)
            browser.picture(options.out / name)
            print(options.out / name)
        browser.close()


def driver():
    """Load the small driver of Chromium that the tests use."""
    file = Path(__file__).parents[2] / "tests" / "reports" / "browser.py"
    spec = importlib.util.spec_from_file_location("jfeval_browser", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
