import base64
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jfeval.errors import BadRequest, UserError
from jfeval.schema import ImageJob, TextRequest

pytest.importorskip("openai", reason="the extra api is not installed")
from jfeval.models.adapters import pace
from jfeval.models.adapters.api import Settings, load


class Server(ThreadingHTTPServer):
    """Answers as the test says; keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.keys, self.moods, self.at_once, self.most = [], [], {}, 0, 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.server.keys.append(self.headers["Authorization"])
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
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
            self.send_header("Retry-After", "0.05")
            self.finish_with({"error": {"message": f"{mood}: {text}"}})
            return
        self.send_response(200)
        if self.path == "/v1/images/generations":
            self.finish_with(
                {"created": 0, "data": [{"url": "http://elsewhere/x.png"} if mood == "address" else {"b64_json": self.server.picture}]}
            )
        else:
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f" {text.upper()} "}}
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
    monkeypatch.setattr(pace.time, "sleep", slept.append)
    twice_a_second = pace.Pace(120)
    for _ in range(3):
        twice_a_second.wait()
    assert slept == [0.0, 0.5, 1.0]
    pace.Pace(0).wait()
    assert len(slept) == 3


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
