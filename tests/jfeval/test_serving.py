import base64
import io
import json
import threading
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.benchmarks.geneval import GenEval
from jfeval.benchmarks.shapes.render import render
from jfeval.benchmarks.shapes.rows import geneval_rows
from jfeval.cli import main
from jfeval.errors import UserError
from jfeval.registry import load_benchmark
from jfeval.serving import Busy, Service, ServiceSettings
from jfeval.serving_check import check
from jfeval.serving_http import is_loopback, serve

ROWS = geneval_rows(3, 4)


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def item(row, image=None):
    return {"metadata": row.metadata, "image": encoded(image or render(row.scene))}


@pytest.fixture
def service():
    made = Service(GenEval(), GenEval().judge("shapes"), ServiceSettings(batch=8, wait=0.2))
    yield made
    made.close()


@pytest.fixture
def address(service):
    server = serve(service, {"benchmark": "geneval"}, host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def post(address, body, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/judge", data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_true_renders_are_right_and_others_say_why(address):
    colour = next(row for row in ROWS if row.metadata["tag"] == "colors")
    status, answer = post(address, {"items": [item(ROWS[0]), item(colour), item(ROWS[0], Image.new("RGB", (64, 64), (255, 255, 255)))]})
    assert status == 200
    right, also, empty = answer["results"]
    assert (right["correct"], right["reason"], also["correct"]) == (True, "", True)
    assert min(right["soft"], also["soft"]) > 0.8
    assert (empty["correct"], empty["soft"]) == (False, 0.0)
    assert empty["reason"].startswith("expected ")
    with urllib.request.urlopen(f"{address}/health", timeout=60) as health:
        assert json.loads(health.read()) == {"benchmark": "geneval"}


def test_requests_of_several_callers_are_judged_together(service):
    sizes = []
    whole = service.judge_now
    service.judge_now = lambda work: sizes.append(len(work)) or whole(work)
    found = [None] * 4
    start = threading.Barrier(4)

    def call(number):
        start.wait()
        found[number] = service.submit([item(ROWS[number]), item(ROWS[number + 4])])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sizes) == 8
    assert len(sizes) < 8
    assert [[one["correct"] for one in pair] for pair in found] == [[True, True]] * 4


def test_one_bad_item_spoils_no_other(address):
    bad_row = {"metadata": {"tag": "colour"}, "image": item(ROWS[0])["image"]}
    bad_image = {"metadata": ROWS[0].metadata, "image": base64.b64encode(b"no picture").decode()}
    not_base64 = {"metadata": ROWS[0].metadata, "image": "%%%"}
    status, answer = post(address, {"items": [item(ROWS[0]), bad_row, bad_image, not_base64, 7, item(ROWS[1])]})
    assert status == 200
    assert [one.get("correct") for one in answer["results"]] == [True, None, None, None, None, True]
    errors = [one["error"] for one in answer["results"][1:5]]
    assert "field row" in errors[0]
    assert "cannot be read as PNG, JPEG or WebP" in errors[1]
    assert "not base64" in errors[2]
    assert 'needs "metadata"' in errors[3]


def test_requests_that_are_none_are_refused(address):
    assert post(address, b"not json")[0] == 400
    assert post(address, {"items": []})[0] == 400
    assert post(address, {"items": [1] * 257})[0] == 400
    assert post(address, {"items": [1]}, **{"Content-Type": "text/plain"})[0] == 415
    assert post(address, {"items": [1]}, Host="attacker.example")[0] == 403
    assert post(f"{address}/other", {"items": [1]})[0] == 404


def test_a_full_queue_turns_requests_away():
    benchmark = GenEval()
    begun, held = threading.Event(), threading.Event()

    class Slow:
        name = "slow"

        def observe(self, sample, images):
            begun.set()
            held.wait(30)
            return tuple({"detections": {}, "colors": {}} for _ in images)

    service = Service(benchmark, Slow(), ServiceSettings(batch=1, wait=0, waiting=1))
    first = threading.Thread(target=service.submit, args=([item(ROWS[0])],))
    first.start()
    begun.wait(30)
    with pytest.raises(Busy):
        service.submit([item(ROWS[0])] * 3)
    held.set()
    first.join()
    service.close()


def test_a_service_verifies_itself_before_it_starts(service, tmp_path):
    lines = check(service, edition="shapes")
    assert "verified geneval/cases: 24 recorded cases" in lines
    assert lines[-1] == "verified batches: 3 drawn pictures are judged together as alone"
    with pytest.raises(UserError, match=r"does not start: .*no golden set here"):
        check(service, edition="shapes", goldens=tmp_path)
    service.benchmark.score = lambda *_, **__: []
    with pytest.raises(UserError, match="does not start"):
        check(service, edition="shapes")


def test_a_judge_that_sees_otherwise_in_a_batch_does_not_start():
    class Confused:
        name = "confused"

        def observe(self, sample, images):
            return ({"detections": {}, "colors": {}},)

        def observe_many(self, work):
            seen = {"detections": {"circle": [[0, 0, 9, 9, 0.99]]} if len(work) > 1 else {}, "colors": {}}
            return [(seen,) for _ in work]

    service = Service(GenEval(), Confused())
    with pytest.raises(UserError, match="a picture is judged otherwise in a batch"):
        check(service, edition="shapes")
    service.close()


def test_the_command_verifies_and_names_what_cannot_be_served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve", "geneval", "--edition", "shapes", "--check-only"])
    assert done.exit_code == 0, done.output
    assert "verified geneval/cases: 24 recorded cases" in done.output
    done = CliRunner().invoke(main, ["serve", "geneval", "--check-only"])
    assert done.exit_code == 2
    assert "jfeval data fetch geneval-detector" in done.output
    done = CliRunner().invoke(main, ["serve", "pope", "--edition", "shapes", "--check-only"])
    assert done.exit_code == 2
    assert "has no judge" in done.output


def test_dpg_is_served_with_the_share_of_questions_confirmed():
    from jfeval.benchmarks.dpg_shapes import draw_items

    benchmark = load_benchmark("dpg")
    service = Service(benchmark, benchmark.judge("shapes"))
    row = draw_items(0, 2)[1].reference()
    (result,) = service.submit([{"metadata": row, "image": encoded(Image.new("RGB", (64, 64), (255, 255, 255)))}])
    service.close()
    assert "error" not in result
    assert result["soft"] == 0.0
    assert check(Service(benchmark, benchmark.judge("shapes")), edition="shapes")[-1].startswith("verified batches")


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("0.0.0.0", False), ("example.org", False)]
)
def test_loopback_is_told_from_other_addresses(host, own):
    assert is_loopback(host) is own
