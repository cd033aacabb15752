import hashlib

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from jfeval.errors import UserError
from jfeval.models.hub import content_hash, local_folder
from jfeval.models.janusflow.model import JanusFlow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository, in a folder; downloads are written down."""
    asked = []

    def snapshot_download(name, *, revision, allow_patterns, local_files_only):
        asked.append((name, revision, tuple(allow_patterns), local_files_only))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return asked


def test_a_folder_is_itself(tmp_path):
    assert local_folder(tmp_path) == tmp_path
    with pytest.raises(UserError, match="has no revision"):
        local_folder(tmp_path, COMMIT)


@pytest.mark.parametrize("revision", ["", "main", "v1.0", COMMIT[:39], COMMIT.upper(), COMMIT + "0"])
def test_a_hub_id_needs_a_whole_commit(hub, revision):
    with pytest.raises(UserError, match=r"give the 40 hexadecimal digits listed at https://huggingface\.co/owner/name/commits"):
        local_folder("owner/name", revision)
    assert hub == []


@pytest.mark.parametrize("name", ["missing-folder", "/missing/folder", "a/b/c", "../owner/name", "owner/", "./name"])
def test_what_is_neither_folder_nor_hub_id_is_refused(hub, name):
    with pytest.raises(UserError, match="is no folder"):
        local_folder(name, COMMIT)
    assert hub == []


def test_a_pinned_hub_id_is_downloaded_and_loaded(hub, model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = JanusFlow.from_pretrained("owner/name", revision=COMMIT)
    assert loaded.config == model.config
    assert [(name, revision, offline) for name, revision, _, offline in hub] == [("owner/name", COMMIT, False)]
    assert "*.bin" not in hub[0][2]


def test_pytorch_files_are_taken_where_there_is_nothing_else(hub):
    local_folder("owner/name", COMMIT)
    assert ["*.bin" in patterns for _, _, patterns, _ in hub] == [False, True]


@pytest.mark.parametrize("value", ["1", "TRUE", "on"])
def test_offline_uses_what_is_there(hub, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    local_folder("owner/name", COMMIT)
    assert all(offline for *_, offline in hub)


def test_offline_without_an_earlier_download_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"cannot get owner/name at {COMMIT} from the Hugging Face hub; HF_HUB_OFFLINE is set"):
        local_folder("owner/name", COMMIT)


def test_a_failed_download_is_explained(monkeypatch):
    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError("no such thing")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=r"check name, revision, access and network\. no such thing"):
        local_folder("owner/name", COMMIT)


def test_every_weight_configuration_and_tokenizer_file_counts(tmp_path):
    (tmp_path / "part").mkdir()
    names = ["chat_template.jinja", "config.json", "merges.txt", "model.safetensors", "part/pytorch_model.bin", "tokenizer.model"]
    for name in names:
        (tmp_path / name).write_text("before")
    seen = {content_hash(tmp_path)}
    for name in names:
        (tmp_path / name).write_text("after")
        seen.add(content_hash(tmp_path))
    assert len(seen) == 1 + len(names)
    (tmp_path / "README.md").write_text("no part of the model")
    assert content_hash(tmp_path) in seen


def test_the_hash_is_that_of_names_and_contents(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name.upper())
    parts = [name.encode() + b"\0" + hashlib.sha256(name.upper().encode()).digest() for name in ("config.json", "model.safetensors")]
    assert content_hash(tmp_path) == hashlib.sha256(b"".join(parts)).hexdigest()
