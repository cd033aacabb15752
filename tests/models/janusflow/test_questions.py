import io

import pytest
from PIL import Image

from jfeval.models.janusflow.adapter import _question
from jfeval.pictures import Pictures
from jfeval.schema import TextRequest


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (TextRequest(question="Why?", images=(png(),)), "<image_placeholder>\nWhy?"),
        (TextRequest(question="Why?", images=Pictures(png), separator=""), "<image_placeholder>Why?"),
        (TextRequest(question="Why?", images=Pictures(png, png), separator=" "), "<image_placeholder> <image_placeholder> Why?"),
        (TextRequest(question="What is <image_placeholder>?", images=Pictures(png)), "What is <image_placeholder>?"),
        (TextRequest(question="Why?"), "Why?"),
    ],
)
def test_the_image_stands_before_the_text_as_the_prompt_protocol_wants_it(request_, text):
    asked = _question(request_)
    assert asked.text == text
    assert [image.size for image in asked.images] == [(4, 4)] * len(request_.images)


def test_earlier_turns_reach_the_model_with_their_pictures():
    from jfeval.models.janusflow.adapter import JanusFlowSystem
    from jfeval.schema import Turn

    seen = []

    class Pipeline:
        class understanding:  # noqa: N801
            @staticmethod
            def stream(question):
                seen.append(question)
                return iter(["yes"])

    system = object.__new__(JanusFlowSystem)
    system.pipeline = Pipeline
    earlier = Turn(request=TextRequest(question="What?", images=(png(),)), answer="a circle")
    assert list(system.converse(TextRequest(question="And now?"), (earlier,))) == ["yes"]
    (asked,) = seen
    assert (asked.text, asked.images) == ("And now?", ())
    assert [(turn.text, turn.answer, len(turn.images)) for turn in asked.history] == [("<image_placeholder>\nWhat?", "a circle", 1)]
    assert list(system.stream(TextRequest(question="Alone?"))) == ["yes"]
    assert seen[1].history == ()
