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


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_every_recorded_case_is_reproduced(suite):
    (checked,) = verify(GOLDENS, [suite])
    assert checked.ok, checked.line()
    assert checked.result.cases > 0


def test_what_is_recorded_for_information_is_shown_and_does_not_fail():
    lines = [checked.line() for checked in verify(GOLDENS, [OPTIONS, CIRCULAR])]
    assert all("informative only" in line for line in lines), lines


def leaves(value, path=()):
    """List the paths of every number, text and null below a value."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in leaves(item, (*path, place))]
    return [path]


def altered(value):
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else "Q" if value is None else f"{value}~"


def damage(file, row, path):
    """Change one recorded value of a file; a row of None means a file that is one object."""
    lines = file.read_text(encoding="utf-8")
    data = [json.loads(line) for line in lines.splitlines()] if row is not None else json.loads(lines)
    place = data[row] if row is not None else data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = altered(place[path[-1]])
    file.write_text("".join(json.dumps(one) + "\n" for one in data) if row is not None else json.dumps(data), encoding="utf-8")


INFORMATIVE = ("final_static", "lmms_eval_static_circular")
ROWS = (("mmbench_options.jsonl", OPTIONS), ("mmbench_circular.jsonl", CIRCULAR), ("seed.jsonl", SEED), ("prompts.jsonl", PROMPTS))
TABLES = (("mmbench_circular.aggregate.json", CIRCULAR), ("seed.aggregate.json", SEED))


@pytest.mark.parametrize(("name", "suite"), ROWS, ids=lambda value: str(getattr(value, "name", value)))
def test_any_altered_expectation_of_a_row_fails(name, suite, tmp_path):
    rows = [json.loads(line) for line in (GOLDENS / name).read_text(encoding="utf-8").splitlines()]
    row = len(rows) // 2
    under = "prompts" if suite is PROMPTS else "expected"
    paths = [path for path in leaves(rows[row]) if path[0] == under and not set(INFORMATIVE) & set(path)]
    assert paths
    for path in paths:
        shutil.copytree(GOLDENS, tmp_path / "g", dirs_exist_ok=True, copy_function=shutil.copyfile)
        damage(tmp_path / "g" / name, row, path)
        (checked,) = verify(tmp_path / "g", [suite])
        assert not checked.ok, path


@pytest.mark.parametrize(("name", "suite"), TABLES, ids=lambda value: str(getattr(value, "name", value)))
def test_any_altered_number_of_a_table_fails(name, suite, tmp_path):
    table = json.loads((GOLDENS / name).read_text(encoding="utf-8"))
    paths = [path for path in leaves(table) if not set(INFORMATIVE) & set(path)]
    assert len(paths) > 50
    for path in paths[::7]:
        shutil.copytree(GOLDENS, tmp_path / "g", dirs_exist_ok=True, copy_function=shutil.copyfile)
        damage(tmp_path / "g" / name, None, path)
        (checked,) = verify(tmp_path / "g", [suite])
        assert not checked.ok, path
