"""Prompts, answers, names and images that mean harm go through a whole run and come out as text.

JFEVAL_HOSTILE=10000 for as many strings as one likes.
"""

import csv
import html.parser
import io
import logging
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from jfeval.console import clean, setup_logging
from jfeval.errors import UserError
from jfeval.files import encodable
from jfeval.reports.build import render_report
from jfeval.reports.compare import paired
from jfeval.reports.tables import leaderboard
from jfeval.runner import TooManyFailures
from jfeval.schema import Sample, Score, TextRequest
from jfeval.secrecy import HIDDEN, check_no_secrets, hide
from jfeval.showing import run_lines, sample_lines
from jfeval.store import Store
from jfeval.summary import plain_lines, verdict_lines

AT_ONCE = 40
EXAMPLES = max(1, int(os.environ.get("JFEVAL_HOSTILE", "160")) // AT_ONCE)

PIECES = (
    "../../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "\x00", "~root", "CON", "a" * 5000,
    "=cmd|'/C calc'!A0", "+1+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "|x", "%x",
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "\" onmouseover=\"x", "' style='x", "<!--", "]]>", "&lt;",
    "javascript:x",
    "{{7*7}}", "{% raw %}", "\\u003c", "`x`", "| a | b |", "[x](javascript:y)", "$$", "\\input{x}",
    "\x1b[2J\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "\x08\x08", "\r\nINFO forged", "\u202eesrever", "\u2066", "\u2028",
    "\ud800", "\udfff\ud800", "\ufffe\uffff", "\U0010ffff", "e\u0301" * 50, "\u200b",
    "'; DROP TABLE outputs; --", "%s%n", "{0.__class__}", "nan", "NULL", "None", "null", "1e999", "Yes", "",
)  # fmt: skip
hostile = st.lists(st.sampled_from(PIECES) | st.text(st.characters(), max_size=12), min_size=1, max_size=3).map("".join)

FORMULA = tuple("=+-@|%\t\r＝＋－＠")
KNOWN = {
    "run.json",
    "inputs.json",
    "samples.jsonl",
    "settings.yaml",
    "lock",
    "lock-record",
    "local.sqlite",
    "metrics.json",
    "scores.parquet",
}


class Parrot:
    """Answers with what it is told to."""

    name = "parrot"

    def __init__(self, answers):
        self.answers = answers

    def identity(self):
        return {"weights": "0" * 64}

    def answer(self, requests):
        return [self.answers[request.sample_id] for request in requests]


def asking(stubs, strings):
    """Return a benchmark that asks these strings, uses them as ids, tasks and clusters, and gives them back as reasons and labels."""

    class Asks(stubs.Bright):
        def samples(self, edition, *, seed, data=None):
            return [
                Sample(
                    id=f"{i}{encodable(s)}",
                    task=f"t{i % 3}{s[:40]}",
                    request=TextRequest(question=s, system=s),
                    reference={"row": s},
                    cluster=s,
                )
                for i, s in enumerate(strings)
            ]

        def data_identity(self, edition, *, seed, data=None):
            return {"rows": strings[:3], "seed": seed}

        def judge(self, edition):
            return None

        def score(self, sample, judgement, *, protocol):
            text = judgement.observations[0]["text"]
            values = {"correct": float(len(text) % 2)}
            where = {"sample_id": sample.id, "task": sample.task, "cluster": sample.cluster}
            return [Score(**where, values=values, labels={"said": text}, reason=text)]

    return Asks()


class Page(html.parser.HTMLParser):
    """Collects what could act in a page."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.acting = 0, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.acting += [tag] if tag in ("iframe", "object", "embed", "base", "form", "link") else []
        places = {name: value or "" for name, value in attrs}
        self.acting += [name for name in places if name.startswith("on")]
        self.acting += [value for name, value in places.items() if name in ("href", "src") and not value.startswith(("#", "data:image/"))]


def harmless(lines):
    for line in lines:
        assert line == clean(line)
        line.encode()


@given(strings=st.lists(hostile, min_size=AT_ONCE, max_size=AT_ONCE))
@settings(max_examples=EXAMPLES, deadline=None, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
def test_hostile_strings_go_through_a_run_and_its_reports_as_text(stubs, tmp_path_factory, strings):
    folder = tmp_path_factory.mktemp("hostile")
    bench = asking(stubs, strings)
    ids = [sample.id for sample in bench.samples("shapes", seed=0)]
    parrot = Parrot(dict(zip(ids, reversed(strings), strict=True)))
    store = stubs.run_and_score(folder / "run", bench=bench, model=parrot)

    assert [store.outputs()[i].text for i in ids] == [encodable(s) for s in reversed(strings)]
    assert [sample.request.question for sample in store.samples()] == strings
    assert [score.reason for score in store.scores()] == [encodable(s) for s in reversed(strings)]
    assert {path.name for path in (folder / "run").rglob("*") if path.is_file()} <= KNOWN
    assert [path.name for path in folder.iterdir()] == ["run"]

    harmless(plain_lines(store.record(), store.metrics()))
    harmless(run_lines(store))
    for sample_id in ids[:5]:
        harmless(line for shown in sample_lines(store, sample_id) for line in shown.split("\n"))
    harmless(verdict_lines({"a": store.scores(), "b": []}, dict(zip(ids, strings, strict=True))))

    page = Page(render_report([store]))
    assert page.acting == []
    assert page.scripts == PLAIN_SCRIPTS(stubs, tmp_path_factory)
    tables = [*leaderboard([store]), paired(store, store, "strict").differences, paired(store, store, "strict").flips]
    for table in tables:
        harmless(table.to_text().split("\n"))
        for row in csv.reader(io.StringIO(table.to_csv())):
            assert not any(cell.startswith(FORMULA) and not number(cell) for cell in row)
        assert len({line.replace("\\|", "").count("|") for line in table.to_markdown().split("\n") if line.startswith("|")}) <= 1


def number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


_plain: list[int] = []


def PLAIN_SCRIPTS(stubs, tmp_path_factory):  # noqa: N802 - a constant that is expensive to know
    """Return how many scripts the page of a harmless run has."""
    if not _plain:
        bench = asking(stubs, ["a", "b"])
        store = stubs.run_and_score(tmp_path_factory.mktemp("plain") / "run", bench=bench, model=Parrot({"0a": "x", "1b": "y"}))
        _plain.append(Page(render_report([store])).scripts)
    return _plain[0]


@given(hostile)
@settings(max_examples=50, deadline=None)
def test_a_log_line_drives_no_terminal_and_begins_no_other(text):
    setup_logging()
    handler = logging.getLogger().handlers[0]
    record = logging.LogRecord("jfeval.x", logging.WARNING, "", 0, "sample %s failed: %s", (text, text), None)
    first, *rest = handler.format(record).split("\n")
    harmless([first, *rest])
    assert first.startswith("WARNING sample ")
    assert all(line.startswith("    ") for line in rest)


def test_an_id_that_cannot_be_stored_is_refused_before_the_model_loads(stubs, tmp_path):
    class Odd(stubs.Bright):
        def samples(self, edition, *, seed, data=None):
            return [Sample(id="a\ud800", task="t", request=TextRequest(question=""), reference={})]

    with pytest.raises(UserError, match=r"no text that can be stored: 'a\\ud800'"):
        stubs.run_and_score(tmp_path / "run", bench=Odd(), model="never loaded")


# images


def bomb(width, height):
    """Return a PNG of a few bytes that claims to be huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9000, 9000), (60_000, 60_000)])
def test_a_stored_image_that_claims_to_be_huge_is_not_opened(stubs, tmp_path, size):
    store = stubs.run_and_score(tmp_path / "run")
    sha = store.add_image(bomb(*size))
    from jfeval.judging import Viewer

    output = next(iter(store.outputs().values()))
    sample = store.samples()[0]
    ((judgement, _),) = Viewer(store, stubs.BrightJudge()).look([(sample, output.__class__(sample_id=sample.id, images=(sha,)))])
    assert "exceeds" in judgement.error
    from jfeval.reports.images import embed

    assert embed({"x": lambda: store.read_image(sha)}, budget=10**6) == {}


@pytest.mark.parametrize("picture", [Image.new("1", (9000, 9000)), Image.new("RGB", (0, 5))])
def test_a_model_that_returns_an_image_of_no_or_too_many_pixels_fails_that_sample(stubs, tmp_path, picture):
    class Strange(stubs.Painter):
        def generate(self, jobs):
            return [picture] * len(jobs)

    with pytest.raises(TooManyFailures, match=r"exceeds|no pixels"):
        stubs.run_and_score(tmp_path / "run", model=Strange())


def test_what_an_image_carries_beside_its_pixels_is_not_stored(stubs, tmp_path):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "<script>secret</script>")
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=notes, exif=b"Exif\0\0hidden")

    class Noted(stubs.Painter):
        def generate(self, jobs):
            return [Image.open(io.BytesIO(file.getvalue())) for _ in jobs]

    store = stubs.run_and_score(tmp_path / "run", model=Noted())
    stored = b"".join(path.read_bytes() for path in store.path.glob("images/*/*"))
    assert b"secret" not in stored
    assert b"hidden" not in stored


def test_a_broken_image_from_a_model_fails_its_sample_alone(stubs, tmp_path):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "PNG")

    class Broken(stubs.Painter):
        def generate(self, jobs):
            broken = [job.prompt == "picture 5 of 0" for job in jobs]
            pictures = zip(super().generate(jobs), broken, strict=True)
            return [Image.open(io.BytesIO(file.getvalue()[:300])) if bad else picture for picture, bad in pictures]

    store = stubs.run_and_score(tmp_path / "run", model=Broken(), max_failures=0.1)
    assert [key for key, output in store.outputs().items() if output.error] == ["0-5"]


# secrets


def test_secrets_never_enter_the_run_folder_or_the_log(stubs, tmp_path, monkeypatch, caplog):
    secret = "hf_" + "q" * 30
    monkeypatch.setenv("MY_API_KEY", "plain-but-secret-value")

    class Leaks(stubs.Painter):
        def generate(self, jobs):
            raise RuntimeError(
                f"401 for https://me:pa55word@host/ with plain-but-secret-value, {secret}, Authorization: Bearer abc.def-123456"
            )

    with pytest.raises(TooManyFailures):
        stubs.run_and_score(tmp_path / "run", model=Leaks())
    stored = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    for word in (b"plain-but-secret-value", secret.encode(), b"pa55word", b"abc.def-123456"):
        assert word not in stored
        assert word.decode() not in caplog.text
    assert HIDDEN.encode() in stored
    error = next(iter(Store(tmp_path / "run").outputs().values())).error
    assert error.count(HIDDEN) == 4


def test_settings_that_would_store_a_secret_are_refused():
    with pytest.raises(UserError, match=r"model_settings.api_key would be stored"):
        check_no_secrets({"api_key": "abc"}, "model_settings")
    with pytest.raises(UserError, match=r"model_settings.server.url would be stored"):
        check_no_secrets({"server": {"url": "https://me:hunter2@host/"}}, "model_settings")
    check_no_secrets({"path": "a/b", "revision": "0" * 40, "max_new_tokens": 5, "start_tag": "legacy", "api_key": ""}, "model_settings")
    assert hide("https://host/a:b@c") == "https://host/a:b@c"


def test_files_of_a_run_are_found_by_hash_alone(tmp_path):
    store = Store(tmp_path)
    for text in PIECES:
        with pytest.raises(ValueError, match="not a sha256"):
            store.image_path(text)
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file()]
