"""On a Ray cluster in this machine; skipped where Ray is not installed (extra ``cluster``)."""

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from jfeval.engine import Engine
from jfeval.errors import UserError
from jfeval.store import Store


def results(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("results/*/*"))}


def test_without_ray_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'jfeval\[cluster\]'"), Engine(executor="ray").open(dict):
        pass


@pytest.fixture(scope="module")
def cluster():
    """A head without workers and two nodes of two processors."""
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    found = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [found.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=found.address, log_to_driver=False)
    yield found, nodes
    ray.shutdown()
    found.shutdown()


def test_a_worker_that_cannot_load_says_why(stubs, tmp_path, cluster):
    with pytest.raises(UserError, match="there are no such weights"):
        stubs.run_and_score(tmp_path / "run", load=stubs.refuse, engine=Engine(executor="ray", workers=2))


def test_a_worker_that_is_killed_and_one_that_hangs_are_replaced(stubs, tmp_path, cluster):
    load = partial(stubs.Unruly, tmp_path, deadly="picture 9 of 0", endless="picture 17 of 0")
    store = stubs.run_and_score(tmp_path / "run", load=load, engine=Engine(executor="ray", workers=2, item_timeout=20))
    assert sorted(path.name for path in tmp_path.glob("once*")) == ["once-deadly", "once-endless"]
    assert store.record().counts.complete
    assert results(tmp_path / "run") == results(stubs.run_and_score(tmp_path / "other").path)


def test_a_run_begun_here_goes_on_on_a_cluster_that_loses_a_node(stubs, tmp_path, cluster):
    found, nodes = cluster
    stubs.run_and_score(tmp_path / "run", limit=6)
    known = set(Store(tmp_path / "run").outputs())
    (tmp_path / "log").mkdir()
    load = partial(stubs.Slow, tmp_path / "log")

    def lose():
        while not list((tmp_path / "log").glob("pid*")):
            time.sleep(0.1)
        found.remove_node(nodes.pop(), allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    store = stubs.run_and_score(tmp_path / "run", load=load, engine=Engine(executor="ray", workers=4, item_timeout=60))
    thread.join()
    assert known < set(store.outputs())
    assert store.record().counts.complete
    assert results(tmp_path / "run") == results(stubs.run_and_score(tmp_path / "other").path)
