import hashlib
import json
import zipfile

import pytest
from click.testing import CliRunner

from jfeval import bundle
from jfeval.bundle import pack, unpack
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.schema import Score
from jfeval.store import Store


def invoke(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments], catch_exceptions=False)


@pytest.fixture
def run(registered, tmp_path):
    """A finished run of the painter."""
    folder = tmp_path / "run"
    result = invoke("run", "--benchmark", "bright", "--model", "painter", "--out", folder, "--limit", 6, "--no-report")
    assert result.exit_code == 0, result.output
    return folder


def rewritten(bundle, change):
    """Copy a bundle with other members; the manifest follows the change, as a forger's would."""
    with zipfile.ZipFile(bundle) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist() if entry.filename != "manifest.json"}
    change(members)
    forged = bundle.with_name("forged.zip")
    with zipfile.ZipFile(forged, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if "manifest.json" not in members:
            files = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
            archive.writestr("manifest.json", json.dumps({"format": "jfeval-bundle-1", "files": files}))
    return forged


def test_a_bundle_is_the_run_and_scores_the_same(run, tmp_path):
    packed = invoke("bundle", run, "--out", tmp_path / "mine.zip")
    assert packed.exit_code == 0, packed.output
    assert packed.stdout.splitlines()[-1] == str(tmp_path / "mine.zip")
    unpacked = invoke("unbundle", tmp_path / "mine.zip", "--out", tmp_path / "theirs")
    assert unpacked.exit_code == 0, unpacked.output
    mine, theirs = Store.open(run), Store.open(tmp_path / "theirs")
    headline = next(metric for metric in mine.metrics() if metric.headline)
    assert f"stated: {headline.name} {headline.value:.3f} ({mine.record().protocol})" in unpacked.stdout
    assert theirs.protocols() == []
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        verdicts = archive.read(f"results/{mine.record().protocol}/scores.jsonl").decode().splitlines()
    assert [Score(**json.loads(line)) for line in verdicts] == mine.scores()
    assert theirs.outputs() == mine.outputs()
    assert theirs.judgements() == mine.judgements()
    assert invoke("score", tmp_path / "theirs", "--no-report").exit_code == 0
    assert theirs.metrics() == mine.metrics()
    image = next(iter(mine.outputs().values())).images[0]
    assert theirs.read_image(image) == mine.read_image(image)


def test_the_same_run_gives_the_same_bytes_and_no_path(run, tmp_path):
    pack(Store(run), tmp_path / "a.zip")
    pack(Store(run), tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert not [name for name in archive.namelist() if str(tmp_path).encode() in archive.read(name)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members: members.update({"../outside": b"x"}), "holds what no bundle holds, such as '../outside'"),
        (lambda members: members.update({"shards/x.sqlite": b"x"}), r"holds what no bundle holds, such as 'shards/x\.sqlite'"),
        (lambda members: members.update({f"images/ab/ab{'0' * 62}.png": b"x"}), "sha256 differs"),
        (lambda members: members.update({"outputs.jsonl": b'{"sample_id": 1, "strange": 2}\n'}), r"outputs\.jsonl is damaged"),
        (lambda members: members.update({"results/strict/scores.jsonl": b'{"sample_id": "0-1"}\n'}), r"scores\.jsonl is damaged"),
        (
            lambda members: members.update({"results/strict/scores.jsonl": b'{"sample_id": "x", "task": "", "cluster": ""}\n'}),
            r"scores\.jsonl is damaged \(it judges 'x', which is no sample",
        ),
        (lambda members: members.pop("samples.jsonl"), r"differ, first in 'samples\.jsonl'"),
        (lambda members: members.update({"manifest.json": b'{"format": "other", "files": {}}'}), "of another version"),
        (lambda members: members.update({"manifest.json": b"[" * 10_000}), "is damaged"),
    ],
)
def test_a_forged_bundle_is_refused_and_leaves_nothing(run, tmp_path, change, message):
    pack(Store(run), tmp_path / "mine.zip")
    forged = rewritten(tmp_path / "mine.zip", change)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        unpack(forged, tmp_path / "theirs")
    assert sorted(tmp_path.iterdir()) == before


def test_no_bundle_is_written_that_could_not_be_unpacked(run, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "MAX_TEXT", 200)
    with pytest.raises(UserError, match=r"has \d+ bytes; a bundle's may have 200"):
        pack(Store(run), tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()


def test_a_changed_member_is_noticed(run, tmp_path):
    pack(Store(run), tmp_path / "mine.zip")
    data = bytearray((tmp_path / "mine.zip").read_bytes())
    place = data.find(b"\x89PNG") + 40
    data[place] ^= 1
    (tmp_path / "mine.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be read as a bundle|sha256 differs"):
        unpack(tmp_path / "mine.zip", tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_what_is_no_bundle_or_no_place_is_said(run, tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(UserError, match="cannot be read as a bundle"):
        unpack(tmp_path / "text.zip", tmp_path / "theirs")
    pack(Store(run), tmp_path / "mine.zip")
    with pytest.raises(UserError, match="is there already"):
        unpack(tmp_path / "mine.zip", run)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        pack(Store(run), tmp_path / "file" / "mine.zip")
