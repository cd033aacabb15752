import collections
import subprocess

import pytest
import torch

from jfeval.benchmarks.scorers.pickles import read_checkpoint
from jfeval.errors import UserError


class Runs:
    """Calls something when it is unpickled."""

    def __init__(self, call, *arguments):
        self.reduced = (call, arguments)

    def __reduce__(self):
        return self.reduced


class HistoryBuffer:
    """Stands for an object of a training framework that is not installed where the file is read."""

    def __init__(self):
        self.values = [1, 2, 3]


def save(path, meta, *, legacy=False):
    state = collections.OrderedDict(weight=torch.arange(6.0).view(2, 3))
    torch.save({"meta": meta, "state_dict": state}, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_and_plain_metadata_are_read(tmp_path, legacy):
    meta = {"mmdet_version": "2.24.1", "CLASSES": ("person", "bicycle"), "epoch": 50, "hook": HistoryBuffer(), "seen": {1, 2}}
    read = read_checkpoint(save(tmp_path / "a.pth", meta, legacy=legacy))
    assert read.state["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (read.meta["mmdet_version"], read.meta["CLASSES"], read.meta["epoch"]) == ("2.24.1", ("person", "bicycle"), 50)
    assert not hasattr(read.meta["hook"], "values")
    assert len(read.sha256) == 64


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("call", ["call", "eval", "getattr"])
def test_nothing_in_the_file_is_run(tmp_path, legacy, call):
    mark = tmp_path / "was-run"
    bombs = {
        "call": Runs(subprocess.call, ["touch", str(mark)]),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w').close()"),
        "getattr": Runs(getattr, "text", "upper"),
    }
    read = read_checkpoint(save(tmp_path / "a.pth", {"bomb": bombs[call]}, legacy=legacy))
    assert not mark.exists()
    assert type(read.meta["bomb"]).__name__ == "_Hollow"
    assert list(read.state) == ["weight"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_call_into_the_system_is_refused_unrun(tmp_path, legacy):
    import os

    mark = tmp_path / "was-run"
    path = save(tmp_path / "a.pth", {"bomb": Runs(os.system, f"touch {mark}")}, legacy=legacy)
    with pytest.raises(UserError, match="without running it"):
        read_checkpoint(path)
    assert not mark.exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="is missing"):
        read_checkpoint(tmp_path / "none.pth")
    text = tmp_path / "text.pth"
    text.write_text("<html>not found</html>")
    with pytest.raises(UserError, match="no checkpoint"):
        read_checkpoint(text)
    whole = save(tmp_path / "a.pth", {})
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:300])
    with pytest.raises(UserError, match="no checkpoint"):
        read_checkpoint(cut)
    torch.save({"state_dict": {"weight": "heavy"}}, tmp_path / "b.pth")
    with pytest.raises(UserError, match="does not hold tensors by name"):
        read_checkpoint(tmp_path / "b.pth")
