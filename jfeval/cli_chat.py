"""The command that talks about pictures: one question, or a conversation. Part of `jfeval.cli`; imports what it needs inside."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval.cli_options import load_model
from jfeval.console import clean
from jfeval.errors import UserError
from jfeval.pictures import MAX_PIXELS

if TYPE_CHECKING:
    from jfeval.schema import TextRequest, Turn

_HELP = "/image FILE shows one more picture with the next question, /new starts over, /quit (or the end of input) ends"


@click.command()
@click.argument("words", metavar="[IMAGE]... [QUESTION]", nargs=-1)
@click.option("--model", default="janusflow-shapes", show_default=True, help="Model.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model.")
@click.option("--system", default="", help="What the model is told before the conversation.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=32, show_default=True, help="Longest answer.")
def chat(*, words: tuple[str, ...], model: str, system: str, max_new_tokens: int, **options: object) -> None:
    """Ask about pictures and print the answer, word by word where the model can.

    With a question, one answer. Without, a conversation: a question a line, from the terminal or a file; each answer knows what was said
    and shown before. /image FILE shows one more picture with the next question, /new starts over, /quit ends.

    \b
    jfeval chat picture.png "What color is the circle?"
    jfeval chat before.png after.png "What has changed?"
    jfeval chat picture.png
    jfeval chat picture.png < questions.txt
    """  # noqa: D301
    from jfeval.schema import TextRequest

    images, question = _images_and_question(words)
    first = TextRequest(question=question, images=images, system=system, max_new_tokens=max_new_tokens)
    speaker = load_model(model, options)
    if not hasattr(speaker, "answer"):
        raise UserError(f"model {model!r} does not answer questions")
    conversation = Conversation(speaker, first)
    if question:
        _print(conversation.ask(question))
    else:
        _converse(conversation, model)


class Conversation:
    """Questions to one model, each after the ones before.

    Args:
        model: What answers; one that cannot converse is asked each question alone, with all pictures shown so far.
        start: Images, system prompt and limits of the first question.
    """

    def __init__(self, model: Any, start: "TextRequest") -> None:  # noqa: ANN401  what it can do is asked of it
        self.model, self.start = model, start
        self.remembers = hasattr(model, "converse")
        self.begin()

    def begin(self) -> None:
        """Forget what was said; the pictures of the start are shown again."""
        self.history: list[Turn] = []
        self.images: list[bytes] = list(self.start.images)

    def show(self, image: bytes) -> None:
        """Show one more picture with the next question."""
        self.images.append(image)

    def ask(self, question: str) -> Iterator[str]:
        """Ask and yield the answer in pieces; a question that fails leaves the conversation as it was.

        Raises:
            UserError: The model cannot take the question, for example because the conversation has become too long.
        """
        from jfeval.schema import Turn

        request = replace(self.start, question=question, images=tuple(self.images))
        pieces: list[str] = []
        if self.remembers:
            said = self.model.converse(request, tuple(self.history))
        else:
            said = self.model.stream(request) if hasattr(self.model, "stream") else iter(self.model.answer([request]))
        for piece in said:
            pieces.append(piece)
            yield piece
        if self.remembers:
            self.history.append(Turn(request=request, answer="".join(pieces)))
            self.images = []


def _converse(conversation: Conversation, model: str) -> None:
    terminal = sys.stdin.isatty()
    if terminal:
        click.echo(_HELP, err=True)
    if not conversation.remembers:
        click.echo(f"model {model!r} does not converse: it is asked each question alone, with all pictures shown so far", err=True)
    for line in _lines(terminal=terminal):
        command, _, rest = line.partition(" ")
        try:
            if command in ("/quit", "/exit"):
                return
            if command == "/new":
                conversation.begin()
            elif command == "/image":
                conversation.show(_checked_image(Path(rest.strip())))
            elif command.startswith("/"):
                click.echo(f"unknown {clean(command)}; {_HELP}", err=True)
            elif line:
                _print(conversation.ask(line))
        except UserError as error:
            click.echo(clean(str(error)), err=True)
        except KeyboardInterrupt:
            click.echo("\nstopped; this question is forgotten", err=True)


def _lines(*, terminal: bool) -> Iterator[str]:
    if terminal:
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  lets a person edit the line
    while True:
        try:
            line = input("> ") if terminal else sys.stdin.readline()
        except (EOFError, KeyboardInterrupt):
            click.echo(err=True)
            return
        if not terminal and not line:
            return
        yield line.strip()


def _print(pieces: Iterator[str]) -> None:
    for piece in pieces:
        click.echo(clean(piece), nl=False)
    click.echo()


def _images_and_question(words: tuple[str, ...]) -> tuple[tuple[bytes, ...], str]:
    """Tell pictures from the question: what is a file is a picture, and the last word may be the question."""
    *before, last = words or ("",)
    names, question = (words, "") if last and Path(last).is_file() else (before, last)
    for name in names:
        if not Path(name).is_file():
            raise click.UsageError(f"There is no file {name}; a question of several words needs quotation marks.")
    return tuple(_checked_image(Path(name)) for name in names), question


def _checked_image(path: Path) -> bytes:
    """Return an image file's bytes once they are known to be an image of bearable size."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken")
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not an image that can be read: {error}") from error
    return path.read_bytes()
