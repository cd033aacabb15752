"""Conversations from the command line: what is remembered, what is shown, and what one bad turn costs."""

import pytest
from click.testing import CliRunner
from PIL import Image

from jfeval.cli import main
from jfeval.cli_chat import Conversation
from jfeval.errors import BadRequest
from jfeval.schema import TextRequest


class Parrot:
    """Says how much it has heard and seen."""

    name = "parrot"

    def answer(self, requests):
        return [f"{len(request.images)} pictures" for request in requests]

    def converse(self, request, history):
        if request.question == "too long":
            raise BadRequest("the conversation has become too long")
        yield f"{request.question}: after {len(history)}"
        yield f", {len(request.images)} new pictures, system {request.system!r}"


class Forgetful:
    name = "forgetful"
    answer = Parrot.answer


@pytest.fixture
def pictures(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def chat(pictures, monkeypatch):
    import jfeval.cli_chat

    def run(*words, model=None, lines=None):
        monkeypatch.setattr(jfeval.cli_chat, "load_model", lambda name, options: model or Parrot())
        return CliRunner().invoke(main, ["chat", *map(str, words)], input=None if lines is None else "\n".join(lines) + "\n")

    return run


def test_each_answer_knows_what_was_said_and_shown_before(chat, pictures):
    lines = ["first", f"/image {pictures / 'b.png'}", "second", "", "too long", "third", "/new", "fourth", "/quit", "never asked"]
    done = chat(pictures / "a.png", "--system", "Be kind.", lines=lines)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "first: after 0, 1 new pictures, system 'Be kind.'",
        "second: after 1, 1 new pictures, system 'Be kind.'",
        "third: after 2, 0 new pictures, system 'Be kind.'",
        "fourth: after 0, 1 new pictures, system 'Be kind.'",
    ]
    assert "the conversation has become too long" in done.stderr


def test_a_bad_command_or_picture_costs_nothing(chat, pictures):
    (pictures / "no.png").write_text("no image")
    done = chat(lines=["/pictures", f"/image {pictures / 'no.png'}", f"/image {pictures / 'gone.png'}", "still here"])
    assert done.stdout.splitlines() == ["still here: after 0, 0 new pictures, system ''"]
    assert "unknown /pictures; /image FILE shows" in done.stderr
    assert "no.png is not an image" in done.stderr
    assert "gone.png is not an image" in done.stderr


def test_a_model_without_memory_is_asked_alone_with_all_pictures(chat, pictures):
    done = chat(pictures / "a.png", model=Forgetful(), lines=["first", f"/image {pictures / 'b.png'}", "second"])
    assert done.stdout.splitlines() == ["1 pictures", "2 pictures"]
    assert "is asked each question alone" in done.stderr


def test_one_question_gets_one_answer(chat, pictures):
    done = chat(pictures / "a.png", pictures / "b.png", "What changed?")
    assert done.stdout == "What changed?: after 0, 2 new pictures, system ''\n"
    assert chat("too long").exit_code == 2
    mistaken = chat("What", "changed?")
    assert (mistaken.exit_code, "There is no file What; a question of several words" in mistaken.stderr) == (2, True)


def test_a_failed_turn_is_not_remembered():
    conversation = Conversation(Parrot(), TextRequest(question="", images=(b"a",)))
    assert "".join(conversation.ask("one")).startswith("one: after 0, 1 new")
    with pytest.raises(BadRequest):
        list(conversation.ask("too long"))
    broken_off = conversation.ask("two")
    next(broken_off)
    broken_off.close()
    assert "".join(conversation.ask("three")).startswith("three: after 1, 0 new")
