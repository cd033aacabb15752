import pytest
from click.testing import CliRunner

from jfeval.benchmarks.data_sets import data_set
from jfeval.benchmarks.geneval_parts import PARTS
from jfeval.benchmarks.needs import official_needs
from jfeval.cli import main
from jfeval.registry import list_benchmarks, load_benchmark


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "official"


def doctor():
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0, done.output
    head, _, tail = done.output.partition("\ncan run now\n")
    return head, *tail.partition("\ncannot run yet\n")[::2]


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_every_official_edition_has_its_needs():
    for name in list_benchmarks():
        assert bool(official_needs(name)) == ("official" in load_benchmark(name).editions), name


def test_nothing_here_names_sizes_and_commands(place):
    head, ready, waiting = doctor()
    assert "jfeval run --benchmark geneval --edition shapes" in ready
    assert "official" not in ready
    assert "missing: about 275 MB, `jfeval data fetch geneval-detector`" in head
    assert "missing: about 1.7 GB, `jfeval data fetch clip-vit-large-patch14`" in head
    assert "missing: 95.6 MB, `jfeval data fetch inception`" in head
    (line,) = [line for line in waiting.splitlines() if line.strip().startswith("geneval,")]
    assert line.count("jfeval data fetch") == 3
    assert "damo/mplug" in next(line for line in waiting.splitlines() if line.strip().startswith("dpg,"))


def test_what_is_fetched_is_found_and_can_run(place):
    put(place / "geneval", *data_set("geneval").files)
    for part in PARTS:
        put(place / part.data_set, part.file)
    put(place / "pope", "data.lock.json")
    head, ready, waiting = doctor()
    assert "jfeval run --benchmark geneval --edition official --model MODEL" in ready
    assert "jfeval run --benchmark pope --edition official --model MODEL" in ready
    assert "geneval, official edition" not in waiting
    assert "geneval-detector" in head
    assert "here: data/official/clip-vit-large-patch14" in head
    put(place / "dpg", *data_set("dpg").files)
    (place / "geneval" / "object_names.txt").unlink()
    head, ready, waiting = doctor()
    assert "geneval, official edition: `jfeval data fetch geneval` (0.1 MB)\n" in waiting
    assert "dpg, official edition: `modelscope download" in waiting
