"""MMBench, SEED-Bench and prompts against the recordings of the published tools, where those are at hand."""

import json
import shutil
from pathlib import Path

import pytest

from jfeval.benchmarks import mmbench_goldens, seed_goldens
from jfeval.benchmarks.understanding import prompt_goldens
from jfeval.verify import verify

GOLDENS = Path(__file__).resolve().parents[2].parent / "shared" / "goldens" / "understanding"
SUITES = (*mmbench_goldens.SUITES, *seed_goldens.SUITES, *prompt_goldens.SUITES)
OPTIONS, CIRCULAR, SEED, PROMPTS = SUITES
pytestmark = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")


def test_what_is_recorded_for_information_is_shown_and_does_not_fail():
    lines = [checked.line() for checked in verify(GOLDENS, [OPTIONS, CIRCULAR])]
    assert all("informative only" in line and line.endswith(" ok") for line in lines), lines


def leaves(value, path=()):
    """List the paths of every number, text and null below a value."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in leaves(item, (*path, place))]
    return [path]


INFORMATIVE = ("final_static", "lmms_eval_static_circular")
ROWS = (("mmbench_options.jsonl", OPTIONS), ("mmbench_circular.jsonl", CIRCULAR), ("seed.jsonl", SEED), ("prompts.jsonl", PROMPTS))
TABLES = (("mmbench_circular.aggregate.json", CIRCULAR), ("seed.aggregate.json", SEED))


@pytest.mark.parametrize(("name", "suite"), ROWS, ids=lambda value: str(getattr(value, "name", value)))
def test_any_altered_expectation_of_a_row_fails(name, suite, tmp_path, alter):
    rows = [json.loads(line) for line in (GOLDENS / name).read_text(encoding="utf-8").splitlines()]
    row = len(rows) // 2
    under = "prompts" if suite is PROMPTS else "expected"
    paths = [path for path in leaves(rows[row]) if path[0] == under and not set(INFORMATIVE) & set(path)]
    assert paths
    for path in paths:
        shutil.copytree(GOLDENS, tmp_path / "g", dirs_exist_ok=True, copy_function=shutil.copyfile)
        alter(tmp_path / "g" / name, row, *path)
        (checked,) = verify(tmp_path / "g", [suite])
        assert not checked.ok, path


@pytest.mark.parametrize(("name", "suite"), TABLES, ids=lambda value: str(getattr(value, "name", value)))
def test_any_altered_number_of_a_table_fails(name, suite, tmp_path, alter):
    table = json.loads((GOLDENS / name).read_text(encoding="utf-8"))
    paths = [path for path in leaves(table) if not set(INFORMATIVE) & set(path)]
    assert len(paths) > 50
    for path in paths[::7]:
        shutil.copytree(GOLDENS, tmp_path / "g", dirs_exist_ok=True, copy_function=shutil.copyfile)
        alter(tmp_path / "g" / name, *path)
        (checked,) = verify(tmp_path / "g", [suite])
        assert not checked.ok, path
