"""POPE and GQA against the published scorers' recordings and the official question files, where those are at hand."""

import json
import shutil
from pathlib import Path

import pytest

from jfeval.benchmarks import gqa_goldens, pope_goldens
from jfeval.benchmarks.pope_rows import SPLITS, checked, read_questions
from jfeval.verify import verify

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDENS, DATA = SHARED / "goldens" / "understanding", SHARED / "data" / "pope"
needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded goldens are not beside this checkout (../shared/goldens)")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="POPE's question files are not beside this checkout (../shared/data/pope)")
SUITES = (*pope_goldens.SUITES, *gqa_goldens.SUITES)


def leaves(tree, path=()):
    """Yield the path of every number, word and truth value of a JSON tree."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, key))
    elif tree is not None:
        yield path


def alter(tree, path):
    *way, last = path
    for key in way:
        tree = tree[key]
    value = tree[last]
    tree[last] = value + "x" if isinstance(value, str) else not value if isinstance(value, bool) else value + 1e-4


@needs_goldens
@pytest.mark.parametrize("name", ["pope", "gqa"])
def test_any_altered_number_of_the_aggregate_fails(name, tmp_path):
    (suite,) = [suite for suite in SUITES if suite.name.endswith(name)]
    shutil.copy(GOLDENS / f"{name}.jsonl", tmp_path)
    recorded = (GOLDENS / f"{name}.aggregate.json").read_text()
    paths = list(leaves(json.loads(recorded)))
    assert len(paths) > 60
    for path in paths[:: max(1, len(paths) // 25)]:
        changed = json.loads(recorded)
        alter(changed, path)
        (tmp_path / f"{name}.aggregate.json").write_text(json.dumps(changed))
        assert suite.check(tmp_path).status == "FAIL", path


@needs_goldens
@pytest.mark.parametrize("name", ["pope", "gqa"])
def test_any_altered_verdict_fails_and_so_does_a_lost_file(name, tmp_path):
    (suite,) = [suite for suite in SUITES if suite.name.endswith(name)]
    shutil.copy(GOLDENS / f"{name}.aggregate.json", tmp_path)
    records = [json.loads(line) for line in (GOLDENS / f"{name}.jsonl").read_text().splitlines()]
    for field in records[0]["expected"]:
        changed = json.loads(json.dumps(records))
        alter(changed[0]["expected"], (field,))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in changed))
        assert suite.check(tmp_path).mismatches >= 1, field
    (tmp_path / f"{name}.aggregate.json").unlink()
    (found,) = verify(tmp_path, [suite])
    assert not found.ok
    assert "is missing" in found.line()


@needs_data
def test_the_official_pope_files_load_and_join():
    rows = checked(read_questions(DATA), any_size=False)
    assert len(rows) == 5127
    assert sum(len(row.splits) for row in rows) == 9000
    assert sum(set(row.splits) == set(SPLITS) for row in rows) == 1535
    assert sum(row.label == "yes" for row in rows) == 1500
    assert len({row.image for row in rows}) == 500
    assert len({row.id for row in rows}) == 5127
