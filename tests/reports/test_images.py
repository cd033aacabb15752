import base64
import io

import pytest
from PIL import Image

from jfeval.reports.images import embed


def encode(size, form="PNG", color=(200, 30, 30), **options):
    out = io.BytesIO()
    image = Image.new("RGB", size, color)
    image.putpixel((0, 0), (1, 2, 3))
    image.save(out, format=form, **options)
    return out.getvalue()


def decode(uri):
    head, body = uri.split(",", 1)
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("size", [(64, 64), (256, 200)])
def test_small_pictures_keep_every_pixel(size):
    data = encode(size)
    head, image = decode(embed({"a": lambda: data})["a"])
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(data)) as given:
        assert image.convert("RGB").tobytes() == given.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("size", "form", "shown"), [((1024, 512), "PNG", (256, 128)), ((300, 300), "JPEG", (256, 256)), ((64, 64), "JPEG", (64, 64))]
)
def test_others_become_webp_of_at_most_256(size, form, shown):
    head, image = decode(embed({"a": lambda: encode(size, form)})["a"])
    assert head == "data:image/webp;base64"
    assert image.size == shown


def test_damaged_missing_and_foreign_files_are_left_out():
    data = encode((64, 64))
    gif = encode((8, 8), "GIF")
    found = embed(
        {"a": lambda: data, "cut": lambda: data[:60], "none": lambda: None, "text": lambda: b"<svg onload=alert(1)>", "gif": lambda: gif}
    )
    assert list(found) == ["a"]


def test_pictures_shrink_before_any_is_left_out():
    noise = Image.effect_noise((256, 256), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, format="PNG")
    files = {str(i): out.getvalue for i in range(6)}
    whole = sum(map(len, embed(files).values()))
    budget = whole // 2
    shrunk = embed(files, budget=budget)
    assert len(shrunk) == 6
    assert sum(map(len, shrunk.values())) <= budget
    few = embed(files, budget=budget // 12)
    assert 0 < len(few) < 6
