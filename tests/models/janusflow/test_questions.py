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
