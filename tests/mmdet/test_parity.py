"""mmdetection's own detector beside the port, on the same random weights; runs where mmdetection is installed (`tox -e mmdet`)."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from jfeval.benchmarks.mask2former_goldens import draw_weights
from jfeval.benchmarks.scorers.mask2former import load_detector

pytest.importorskip("mmdet", reason="mmdetection is not installed; `tox -e mmdet` runs this")

CLOSE = 1e-4


def photographs():
    """Photographs that scikit-learn and matplotlib ship."""
    import matplotlib
    import sklearn.datasets

    files = [Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")]
    files.append(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    return {file.stem: Image.open(file).convert("RGB") for file in files}


def rendered(width, height):
    """Draw discs and boxes of many colours on a gradient."""
    rng = np.random.default_rng(zlib.crc32(f"{width}x{height}".encode()))
    across = np.linspace(0, 255, width)[None, :, None] * np.array([1.0, 0.5, 0.2])
    image = Image.fromarray(np.broadcast_to(across, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for number in range(12):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.3) * min(width, height)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if number % 2 else draw.rectangle)((x - size, y - size, x + size, y + size), fill=colour)
    return image


PICTURES = {**{f"{w}x{h}": rendered(w, h) for w, h in ((384, 384), (256, 256), (512, 768), (1024, 640), (211, 97), (1600, 1600))}}


def _pictures():
    try:
        return {**photographs(), **PICTURES}
    except ImportError:
        return PICTURES


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    """The same weights in mmdetection and in the port, from one file."""
    from mmdet.apis import init_detector

    from jfeval.benchmarks.scorers.mmdet_backend import find_config, load_mmdet

    shapes = {name: tuple(tensor.shape) for name, tensor in init_detector(str(find_config()), None, device="cpu").state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"meta": {}, "state_dict": draw_weights(shapes, "parity")}, path)
    return load_mmdet(path), load_detector(path)


@pytest.mark.parametrize("name", _pictures())
def test_objects_are_the_same(detectors, name):
    image = _pictures()[name]
    (theirs,), (ours,) = (detector.detect([image]) for detector in detectors)
    assert np.abs(theirs.scores - ours.scores).max() <= CLOSE
    free = list(range(len(ours.scores)))
    missing = []
    for i in range(len(theirs.scores)):
        same = [j for j in free if _same(theirs, i, ours, j)]
        if same:
            free.remove(same[0])
        else:
            missing.append((float(theirs.scores[i]), int(theirs.labels[i]), theirs.boxes[i].tolist()))
    assert missing == []


def _same(a, i, b, j):
    return abs(float(a.scores[i]) - float(b.scores[j])) <= CLOSE and a.labels[i] == b.labels[j] and (a.boxes[i] == b.boxes[j]).all()


def test_names_of_generation_2_give_the_same_network(detectors, tmp_path):
    from jfeval.benchmarks.scorers.mmdet_backend import load_mmdet

    def old(name):
        if ".transformer_decoder.layers." in name:
            return name.replace("cross_attn", "attentions.0").replace("self_attn", "attentions.1").replace(".ffn.", ".ffns.0.")
        return name.replace("self_attn", "attentions.0").replace(".ffn.", ".ffns.0.") if ".pixel_decoder." in name else name

    state = {old(name): tensor for name, tensor in detectors[0].model.state_dict().items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "old.pth")
    again = load_mmdet(tmp_path / "old.pth")
    own = detectors[0].model.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in again.model.state_dict().items())
