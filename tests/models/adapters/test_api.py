import base64
import contextlib
import email.utils
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from jfeval.cli import main
from jfeval.cli_evaluate import with_own
from jfeval.errors import BadRequest, UserError
from jfeval.schema import ImageJob, TextRequest
from jfeval.settings import RunSettings
from jfeval.store import Store

pytest.importorskip("openai", reason="the extra api is not installed")
from jfeval.models.adapters import pace
from jfeval.models.adapters.api import Settings, load


class Server(ThreadingHTTPServer):
    """Answers as the test says; keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.keys, self.moods, self.at_once, self.most = [], [], {}, 0, 0
        self.times, self.retry_after = [], "0.05"
        self.lock = threading.Lock()
        self.hold, self.reached, self.released = 0, threading.Event(), threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.server.times.append(time.monotonic())
            held = len(self.server.asked) == self.server.hold
            self.server.keys.append(self.headers["Authorization"])
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
        if held:
            self.server.reached.set()
            self.server.released.wait(60)
        try:
            self.reply(body)
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def reply(self, body):
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"][-1]["text"]
        with self.server.lock:
            moods = self.server.moods.get(text, [])
            mood = moods.pop(0) if moods else "well"
        time.sleep(0.03)
        if mood == "stall":
            time.sleep(1.2)
        codes = {"busy": 429, "broken": 500, "refuse": 400, "stranger": 401}
        if mood in codes:
            self.send_response(codes[mood])
            self.send_header("Retry-After", self.server.retry_after)
            self.finish_with({"error": {"message": f"{mood}: {text}, said {self.headers['Authorization']}"}})
            return
        self.send_response(200)
        if self.path == "/v1/images/generations":
            self.finish_with(
                {"created": 0, "data": [{"url": "http://elsewhere/x.png"} if mood == "address" else {"b64_json": self.server.picture}]}
            )
        else:
            content, reason = (
                (None, mood) if mood in ("length", "content_filter") else ("" if mood == "mute" else f" {text.upper()} ", "stop")
            )
            choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": content}}
            self.finish_with({"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]})

    def finish_with(self, data):
        payload = json.dumps(data).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(payload)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(png):
    server = Server()
    server.picture = base64.b64encode(png(0, (20, 10))).decode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def model(server, monkeypatch, **settings):
    monkeypatch.setenv("TEST_KEY", "secret-123")
    defaults = {"model": "tiny", "base_url": server.url, "key_env": "TEST_KEY", "timeout": 0.8, "max_retries": 3}
    return load(Settings(**defaults | settings))


def questions(*texts):
    return [TextRequest(question=text, sample_id=text) for text in texts]


def test_a_chat_request_has_images_system_and_limits(server, monkeypatch, png):
    request = TextRequest(question="<image_placeholder>\nis it red", images=[png(1)], system="be brief", max_new_tokens=7)
    assert model(server, monkeypatch).answer([request]) == ["IS IT RED"]
    path, body = server.asked[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 7, 0.0)
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    image, text = body["messages"][1]["content"]
    assert image["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(png(1)).decode()
    assert text == {"type": "text", "text": "is it red"}
    assert server.keys == ["Bearer secret-123"]


def test_answers_come_in_order_and_side_by_side(server, monkeypatch):
    texts = [f"q{i}" for i in range(12)]
    assert model(server, monkeypatch, concurrency=4).answer(questions(*texts)) == [text.upper() for text in texts]
    assert 2 <= server.most <= 4


def test_what_passes_is_tried_again(server, monkeypatch):
    server.moods = {"a": ["busy", "broken"], "b": ["stall"]}
    assert model(server, monkeypatch).answer(questions("a", "b", "c")) == ["A", "B", "C"]
    assert len(server.asked) == 3 + 2 + 1


def test_a_pause_that_the_server_asks_for_is_kept_to(server, monkeypatch):
    server.moods, server.retry_after = {"a": ["busy"]}, "1.5"  # without it the second try would come after 0.5 to 0.625 seconds
    assert model(server, monkeypatch).answer(questions("a")) == ["A"]
    first, second = server.times
    assert second - first >= 1.5


def test_a_pause_longer_than_the_client_would_wait_is_kept_to(server, monkeypatch):
    slept = []
    asked = model(server, monkeypatch)
    monkeypatch.setattr(asked._pace, "_left", SimpleNamespace(clear=lambda: None, wait=slept.append))
    server.moods, server.retry_after = {"a": ["busy", "broken"]}, "600"
    assert asked.answer(questions("a")) == ["A"]
    pauses = [seconds for seconds in slept if seconds]
    assert len(pauses) == 2
    assert all(600 <= seconds <= 630 for seconds in pauses)


def test_ctrl_c_ends_a_long_pause_and_asks_no_more(server, monkeypatch):
    """Were the pauses slept through, every request would be made twice, one after the other."""
    server.moods, server.retry_after, server.hold = {text: ["busy"] for text in "abcd"}, "20", 2
    asked = model(server, monkeypatch, concurrency=2, timeout=60)

    def stop():
        server.reached.wait(60)
        server.released.set()
        while len(server.asked) < 2 or server.at_once:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        asked.answer(questions(*"abcd"))
    assert len(server.asked) == 2
    server.moods = {}
    assert asked.answer(questions("c", "d")) == ["C", "D"]


def test_later_tries_keep_to_the_pace_too(server, monkeypatch):
    server.moods = {"a": ["busy", "broken"]}
    assert model(server, monkeypatch, requests_per_minute=150).answer(questions("a", "b")) == ["A", "B"]
    assert len(server.times) == 4
    assert all(later - earlier > 0.35 for earlier, later in pairwise(sorted(server.times)))  # 0.4, less what a thread is late


def test_pauses_grow_and_differ():
    drawn = [[pace.pause(tries, None) for _ in range(20)] for tries in (1, 2, 3, 100)]
    for seconds, least in zip(drawn, (0.5, 1.0, 2.0, 60.0), strict=True):
        assert least <= min(seconds) < max(seconds) <= least * 1.25


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_what_a_server_says_of_pauses(headers, seconds):
    assert pace.retry_after(headers) == seconds


def test_a_server_may_name_a_time_of_day():
    assert 85 < pace.retry_after({"retry-after": email.utils.formatdate(time.time() + 90, usegmt=True)}) <= 90


def test_the_key_is_cut_out_of_what_a_server_says(server, monkeypatch):
    server.moods = {"bad": ["refuse"], "who": ["stranger"], "down": ["broken"] * 9}
    for text in server.moods:
        with pytest.raises((UserError, RuntimeError), match=r"said Bearer \*\*\*") as error:
            model(server, monkeypatch, max_retries=0).answer(questions(text))
        assert "secret-123" not in str(error.value)
    monkeypatch.delenv("TEST_KEY")
    server.moods = {"bad": ["refuse"]}
    keyless = load(Settings(model="tiny", base_url=server.url, key_env="TEST_KEY"))
    with pytest.raises(BadRequest, match="said Bearer none"):
        keyless.answer(questions("bad"))


def test_temperature_may_be_left_out_and_the_limit_sent_by_another_name(server, monkeypatch):
    settled = with_own(RunSettings(model="api"), {}, ["model=o", "temperature=null", "token_limit=max_completion_tokens"], [])
    asked = model(server, monkeypatch, **{key: settled.model_settings[key] for key in ("temperature", "token_limit")})
    asked.answer([TextRequest(question="a", sample_id="a", max_new_tokens=9)])
    (_, body) = server.asked[0]
    assert body["max_completion_tokens"] == 9
    assert not body.keys() & {"max_tokens", "temperature"}
    recipe = asked.identity()["recipe"]
    assert (recipe["temperature"], recipe["token_limit"]) == ("not sent", "max_completion_tokens")
    assert "token_limit" not in model(server, monkeypatch).identity()["recipe"]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_no_text_is_an_answer_only_where_the_model_ended_by_itself(server, monkeypatch, reason):
    server.moods = {"a": [reason], "b": ["mute"]}
    with pytest.raises(BadRequest, match=f"no text \\(finish_reason '{reason}'"):
        model(server, monkeypatch).answer(questions("a"))
    assert model(server, monkeypatch).answer(questions("b")) == [""]


def test_how_fast_a_server_is_asked_does_not_name_the_run_folder():
    def folder(*overrides):
        return with_own(RunSettings(model="api"), {}, ["model=m", *overrides], []).folder

    pace_only = ("concurrency=2", "timeout=5", "max_retries=1", "requests_per_minute=9", "key_env=OTHER")
    assert folder(*pace_only) == folder()
    assert folder("temperature=1") != folder()


def test_a_killed_run_goes_on_without_asking_again_what_was_answered(server, monkeypatch, tmp_path):
    """Eight questions in batches of two; the process is killed over the fifth, so that four are stored."""
    monkeypatch.setenv("TEST_KEY", "secret-123")
    own = {"model": "tiny", "base_url": server.url, "key_env": "TEST_KEY", "concurrency": 1}
    words = [
        "run",
        "--model",
        "api",
        "--benchmark",
        "gqa",
        "--limit",
        "8",
        "--batch-size",
        "2",
        "--no-report",
        "--out",
        str(tmp_path / "run"),
    ]
    words += [word for key, value in own.items() for word in ("--set", f"{key}={value}")]
    server.hold = 5
    process = subprocess.Popen([sys.executable, "-m", "jfeval", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert server.reached.wait(60)
    process.kill()
    process.wait()
    server.released.set()
    done = CliRunner().invoke(main, [*words, "--set", "concurrency=2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert Store(tmp_path / "run").record().counts.finished == 8
    assert len(server.asked) == 8 + 1
    assert server.asked[4][1] in (server.asked[5][1], server.asked[6][1])


def test_a_failure_costs_no_other_request_twice(server, monkeypatch):
    server.moods = {"b": ["broken"] * 2}
    asked = model(server, monkeypatch, max_retries=1)
    with pytest.raises(RuntimeError, match=r"no answer after 2 tries \(InternalServerError\).*broken: b"):
        asked.answer(questions("a", "b", "c"))
    assert [asked.answer([one]) for one in questions("a", "b", "c")] == [["A"], ["B"], ["C"]]
    assert sorted(body["messages"][-1]["content"][-1]["text"] for _, body in server.asked) == ["a", "b", "b", "b", "c"]


def test_a_refused_request_fails_alone_and_a_wrong_key_stops(server, monkeypatch):
    server.moods = {"bad": ["refuse"], "who": ["stranger"]}
    with pytest.raises(BadRequest, match=r"the server refuses the request.*refuse: bad"):
        model(server, monkeypatch).answer(questions("good", "bad"))
    with pytest.raises(UserError, match="does not serve 'tiny' to this key") as error:
        model(server, monkeypatch).answer(questions("who"))
    assert type(error.value) is UserError


def test_images_are_drawn(server, monkeypatch):
    drawn = model(server, monkeypatch, size="512x512").generate([ImageJob(prompt="a star", seed=1), ImageJob(prompt="a star", seed=2)])
    assert [image.size for image in drawn] == [(20, 10), (20, 10)]
    assert [body for _, body in server.asked] == [{"model": "tiny", "prompt": "a star", "n": 1, "size": "512x512"}] * 2
    server.moods = {"a star": ["address"]}
    with pytest.raises(UserError, match="response_format=b64_json"):
        model(server, monkeypatch).generate([ImageJob(prompt="a star", seed=1)])


def test_requests_begin_evenly_spaced(monkeypatch):
    slept = []
    monkeypatch.setattr(pace.time, "monotonic", lambda: 100.0)
    for per_minute in (120, 0):
        paced = pace.Pace(per_minute)
        monkeypatch.setattr(paced, "_left", SimpleNamespace(wait=slept.append))
        for _ in range(3):
            paced.wait()
    assert slept == [0.0, 0.5, 1.0, 0.0, 0.0, 0.0]


def test_the_identity_holds_no_secret(server, monkeypatch):
    found = json.dumps(model(server, monkeypatch, base_url=server.url.replace("//", "//user:word@")).identity())
    assert '"served": "tiny"' in found
    assert f"127.0.0.1:{server.server_port}" in found
    assert not any(secret in found for secret in ("secret-123", "word", "user"))


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="needs the name of a model"):
        load(Settings())
    with pytest.raises(UserError, match="OPENAI_API_KEY holds no key"):
        load(Settings(model="gpt"))
    with pytest.raises(UserError, match="concurrency must be at least 1"):
        Settings(concurrency=0)
