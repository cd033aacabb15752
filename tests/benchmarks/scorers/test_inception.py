import sys

import numpy as np
import pytest
import torch
from PIL import Image

from jfeval.benchmarks.scorers.inception import Inception
from jfeval.errors import UserError


class Rude:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_bad_weights_are_named(tmp_path, capsys):
    path = tmp_path / "w.pth"
    with pytest.raises(UserError, match=r"there is no file .*weights-inception-2015-12-05-6726825d"):
        Inception(path, "clean")
    torch.save({"x": Rude()}, path)
    with pytest.raises(UserError, match="does not hold tensors alone"):
        Inception(path, "clean")
    assert "must not run" not in capsys.readouterr().out
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(UserError, match="holds other weights"):
        Inception(path, "clean")
    with pytest.raises(UserError, match="unknown FID recipe"):
        Inception(path, "clear")


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"fc.weight": torch.zeros(1008, 2048)}, path)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match=r"pip install 'jfeval\[fid\]'"):
        Inception(path, "clean")


def test_features_are_the_package_s(tmp_path, monkeypatch):
    """With random weights, what the recipe torch-fidelity gives is what torch-fidelity's own network returns."""
    package = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed")
    torch.manual_seed(0)
    kind = package.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(package, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(kind, "load_state_dict", lambda self, state: None)
        theirs = kind("random", ["2048", "logits_unbiased"])
    path = tmp_path / "w.pth"
    torch.save(theirs.state_dict(), path)
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)) for i in range(2)]
    features, logits = (
        np.asarray(t) for t in theirs(torch.stack([torch.from_numpy(np.asarray(i).transpose(2, 0, 1).copy()) for i in images]))
    )
    ours = Inception(path, "torch-fidelity")
    found, found_logits = ours.features(images)
    np.testing.assert_allclose(found, features, rtol=1e-4, atol=1e-5 * np.abs(features).max())
    np.testing.assert_allclose(found_logits, logits, rtol=1e-4, atol=1e-5 * np.abs(logits).max())
    assert ours.identity()["published"] is False
