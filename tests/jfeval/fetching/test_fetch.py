"""Fetching against local servers: an HTTP server that drops connections, and a small hub. Nothing leaves this machine."""

import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from jfeval.benchmarks.data_sets import data_set, data_sets
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.fetching import download as downloading
from jfeval.fetching.fetch import fetch, verify
from jfeval.fetching.hub import Hub
from jfeval.fetching.lock import LOCK_FILE, UNPINNED, DataFile, DataSet, parse_data_set, read_lock

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDS = b"".join(b"row %d\n" % i for i in range(4000))


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Served:
    """What the server gives, and what it was asked for."""

    def __init__(self):
        self.files, self.asked, self.cut, self.etag, self.commit = {}, [], {}, '"v1"', COMMIT

    def at(self, path):
        return f"{self.address}{path}"


def _handler(served):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, *, body):
            path = urlsplit(self.path).path
            wanted = self.headers.get("Range")
            served.asked.append((self.command, path, wanted))
            if path.startswith("/api/datasets/"):
                self._listing()
                return
            data = served.files.get(path)
            if data is None:
                self._send(404, b"", {})
                return
            headers = {"ETag": served.etag, "X-Repo-Commit": served.commit, "Accept-Ranges": "bytes"}
            status, start = 200, 0
            if wanted and self.headers.get("If-Range", served.etag) == served.etag:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(data):
                    self._send(416, b"", headers)
                    return
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            part = data[start:]
            limit = served.cut.pop(path, None) if body else None
            self._send(status, part if body else b"", {**headers, "Content-Length": len(part)}, limit)

        def _listing(self):
            files = {path.rpartition(f"/{COMMIT}/")[2]: data for path, data in served.files.items() if f"/{COMMIT}/" in path}
            siblings = [
                {"rfilename": name, "size": len(data), "lfs": {"sha256": sha(data), "size": len(data), "pointerSize": 1}}
                for name, data in files.items()
            ]
            body = json.dumps({"id": "owner/name", "sha": served.commit, "siblings": siblings}).encode()
            self._send(200, body, {"Content-Length": len(body), "Content-Type": "application/json"})

        def _send(self, status, body, headers, limit=None):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, str(value))
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if limit is None else body[:limit])
            if limit is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def serving():
    served = Served()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def served(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(downloading.time, "sleep", lambda _: None)
    with serving() as found:
        yield found


def made(served, **files):
    """Name a data set of files on the server, without hashes unless given."""
    listed = {}
    for name, data in files.items():
        served.files[f"/{name}"] = data
        listed[f"{name}.tsv"] = DataFile(url=served.at(f"/{name}"))
    return DataSet(name="made", about="made up", licence="none", page="nowhere", files=listed)


def test_a_first_fetch_records_what_came_and_says_so(served, tmp_path):
    said = []
    found = fetch(made(served, a=WORDS, b=b"x"), tmp_path, say=said.append)
    assert (tmp_path / "a.tsv").read_bytes() == WORDS
    assert {path: (file.sha256, file.bytes) for path, file in found.files.items()} == {
        "a.tsv": (sha(WORDS), len(WORDS)),
        "b.tsv": (sha(b"x"), 1),
    }
    assert read_lock(tmp_path) == found
    assert found.pinned
    text = "\n".join(said)
    assert "Licence: none" in text
    assert "2 of 2 files were unpinned" in text
    assert LOCK_FILE in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tsv", "b.tsv", LOCK_FILE]
    assert verify(found, tmp_path) == {"a.tsv": "ok", "b.tsv": "ok"}


def test_what_is_there_is_kept_and_needs_no_network(served, tmp_path, monkeypatch):
    wanted = made(served, a=WORDS)
    fetch(wanted, tmp_path)
    served.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = []
    fetch(wanted, tmp_path, say=said.append)
    assert served.asked == []
    assert "0 to fetch" in said[1]
    (tmp_path / "a.tsv").unlink()
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and .* lacks a\.tsv of made; unset it, or copy"):
        fetch(wanted, tmp_path)


def test_a_connection_that_ends_early_is_gone_on_with(served, tmp_path):
    wanted = made(served, a=WORDS)
    served.cut["/a"] = 10_000
    fetch(wanted, tmp_path)
    assert (tmp_path / "a.tsv").read_bytes() == WORDS
    assert [wanted for _, _, wanted in served.asked] == [None, "bytes=10000-"]


def test_a_part_of_an_older_version_is_not_gone_on_with(served, tmp_path):
    wanted = made(served, a=WORDS)
    (tmp_path / "a.tsv.part").write_bytes(b"of another version")
    (tmp_path / "a.tsv.part.etag").write_text('"v0"')
    fetch(wanted, tmp_path)
    assert (tmp_path / "a.tsv").read_bytes() == WORDS
    (tmp_path / "a.tsv").unlink()
    (tmp_path / "a.tsv.part").write_bytes(WORDS + b"and more than there is")
    (tmp_path / "a.tsv.part.etag").write_text(served.etag)
    fetch(wanted, tmp_path)
    assert (tmp_path / "a.tsv").read_bytes() == WORDS


def test_a_server_that_is_away_is_named_and_what_came_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(downloading.time, "sleep", lambda _: None)
    with serving() as served:
        wanted = made(served, a=WORDS)
    with pytest.raises(UserError, match=r"cannot get http://127.*place the file at .*a\.tsv by hand"):
        fetch(wanted, tmp_path)
    (tmp_path / "a.tsv").write_bytes(WORDS)  # by hand
    assert fetch(wanted, tmp_path).files["a.tsv"].sha256 == sha(WORDS)


def test_a_file_that_is_not_there_is_said_at_once(served, tmp_path):
    wanted = made(served, a=WORDS)
    served.files.clear()
    with pytest.raises(UserError, match="the server says 404"):
        fetch(wanted, tmp_path)
    assert len(served.asked) == 1


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, "sha256 .* instead of 0000"),
        ({"md5": "0" * 32}, "md5 .* instead of 0000"),
        ({"bytes": 5}, "more than the 5 bytes"),
        ({"bytes": 10**6}, "instead of 1000000"),
    ],
)
def test_other_bytes_than_recorded_are_refused_and_not_kept(served, tmp_path, known, message):
    wanted = made(served, a=WORDS)
    wanted = replace(wanted, files={"a.tsv": replace(wanted.files["a.tsv"], **known)})
    with pytest.raises(UserError, match=message):
        fetch(wanted, tmp_path)
    assert not (tmp_path / "a.tsv").exists()


def test_a_damaged_file_is_found_by_fetch_and_verify(served, tmp_path):
    wanted = made(served, a=WORDS, b=b"x")
    recorded = fetch(wanted, tmp_path)
    (tmp_path / "a.tsv").write_bytes(WORDS[:-1] + b"?")
    (tmp_path / "b.tsv").unlink()
    assert verify(recorded, tmp_path) == {"a.tsv": "differs", "b.tsv": "missing"}
    with pytest.raises(UserError, match=r"a\.tsv is not the recorded file.*Delete it"):
        fetch(wanted, tmp_path)


def test_a_folder_keeps_to_what_it_recorded(served, tmp_path):
    wanted = made(served, a=WORDS)
    fetch(wanted, tmp_path)
    with pytest.raises(UserError, match="it holds made of nowhere; fetch into another folder"):
        fetch(replace(wanted, name="other"), tmp_path)
    (tmp_path / "a.tsv").unlink()
    served.files["/a"] = b"a new version"
    with pytest.raises(UserError, match="other bytes than are recorded"):
        fetch(wanted, tmp_path)


# a hub


def of_the_hub(served, files):
    for path, data in files.items():
        served.files[f"/datasets/owner/name/resolve/{COMMIT}/{path}"] = data
    return DataSet(name="hubbed", about="made up", licence="none", page="nowhere", hub="owner/name", patterns=("data/test-*.parquet",))


def test_the_hubs_newest_revision_is_recorded_and_fetched_again_as_it_was(served, tmp_path, monkeypatch):
    files = {"data/test-0.parquet": b"PAR1 zero", "data/test-1.parquet": b"PAR1 one", "data/train-0.parquet": b"not asked for"}
    wanted, hub = of_the_hub(served, files), Hub(endpoint=served.address)
    found = fetch(wanted, tmp_path / "one", hub=hub)
    assert found.revision == COMMIT
    assert {path: file.sha256 for path, file in found.files.items()} == {p: sha(d) for p, d in files.items() if "test" in p}
    assert (tmp_path / "one" / "data" / "test-1.parquet").read_bytes() == b"PAR1 one"
    assert not (tmp_path / "one" / "data" / "train-0.parquet").exists()
    served.commit = "f" * 40  # the repository moves on; the lock does not
    again = fetch(read_lock(tmp_path / "one"), tmp_path / "two", hub=hub)
    assert again.revision == COMMIT
    assert verify(found, tmp_path / "two") == dict.fromkeys(found.files, "ok")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set, and .* lacks the list of files of hubbed"):
        fetch(wanted, tmp_path / "three", hub=hub)
    assert not (tmp_path / "three").exists()


def test_a_hub_that_cannot_be_had_is_named(served, tmp_path):
    with pytest.raises(UserError, match=r"holds no file that matches data/test-\*\.parquet"):
        fetch(of_the_hub(served, {"elsewhere.parquet": b""}), tmp_path, hub=Hub(endpoint=served.address))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot list owner/name on the hub"):
            fetch(of_the_hub(served, {}), tmp_path, hub=Hub(endpoint=nobody))


# what jfeval knows


def test_every_known_data_set_states_licence_and_page_and_can_be_checked():
    for name, one in data_sets().items():
        assert one.name == name
        assert one.licence
        assert one.page.startswith("https://")
        assert bool(one.hub) == bool(one.patterns) != bool(one.files), name
    assert data_set("pope-official").pinned
    assert data_set("gqa").revision == UNPINNED
    with pytest.raises(UserError, match="did you mean 'mmbench'"):
        data_set("mmbenh")


@pytest.mark.parametrize("name", ["pope", "gqa", "mmbench", "mmbench-cn", "seed", "seed-likelihood", "geneval", "dpg", "mjhq", "coco"])
def test_a_benchmark_without_its_data_names_the_command_that_gets_it(name, tmp_path, monkeypatch):
    from jfeval.registry import load_benchmark

    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"jfeval data fetch {name.removesuffix('-likelihood')}`"):
        load_benchmark(name).samples("official", seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"../x": {}}}, "no path inside a data folder"),
        ({"files": {"/x": {}}}, "no path inside a data folder"),
        ({"files": {LOCK_FILE: {}}}, "no path inside a data folder"),
        ({"files": {"x": {"url": "file:///etc/passwd"}}}, "field url: expected an http address"),
        ({"files": {"x": {"sha256": "abc"}}}, "field sha256"),
        ({"files": {"x": {"bytes": -1}}}, "field bytes"),
        ({"files": {"x": {"size": 1}}}, "unknown field size"),
        ({"files": []}, "files must be an object"),
        ({"licence": ""}, "field licence"),
        ({"revision": 7}, "field revision"),
    ],
)
def test_a_malformed_lock_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        parse_data_set({"name": "a", "about": "b", "licence": "c", "page": "d", **change}, where="lock")


# the command line


def test_fetch_verify_and_list_from_the_command_line(served, tmp_path, monkeypatch):
    from dataclasses import asdict

    monkeypatch.chdir(tmp_path)

    def jfeval(*arguments):
        return CliRunner().invoke(main, ["data", *map(str, arguments)])

    (tmp_path / "my.lock.json").write_text(json.dumps(asdict(made(served, a=WORDS))))
    done = jfeval("fetch", "made", "--lock", "my.lock.json")
    assert (done.exit_code, done.stdout) == (0, "data/official/made\n")
    good = jfeval("verify", "data/official/made")
    assert (good.exit_code, "made: 1 of 1 files are as recorded" in good.stdout) == (0, True)
    (tmp_path / "data" / "official" / "made" / "a.tsv").write_bytes(b"")
    bad = jfeval("verify", "data/official/made")
    assert (bad.exit_code, "differs" in bad.stdout) == (1, True)
    assert jfeval("fetch", "pop").exit_code == 2
    assert "nothing is recorded of gqa yet" in jfeval("verify", "gqa").stderr
    listed = jfeval("list").stdout
    assert "pope-official: " in listed
    assert "CC BY-NC 4.0" in listed
    assert "by hand: the images: unpack" in listed
