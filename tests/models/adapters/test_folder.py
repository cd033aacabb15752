from pathlib import Path

import pytest
from PIL import Image

from jfeval.asking import Drawer, Errand
from jfeval.errors import UserError
from jfeval.models.adapters.folder import ReadyImages, Settings, load
from jfeval.plan import digest
from jfeval.schema import ImageJob, ImageRequest, Sample


@pytest.fixture
def images(tmp_path):
    for row, names in {"00000": ["0001.png", "0000.png", "00010.png", "notes.txt"], "7": ["00000.png"]}.items():
        (tmp_path / row / "samples").mkdir(parents=True)
        for place, name in enumerate(names):
            Image.new("RGB", (4, 4), (place, 0, 0)).save(tmp_path / row / "samples" / name, format="PNG")
    return tmp_path


def job(row, index, prompt="p"):
    return ImageJob(prompt=prompt, seed=0, row=row, index=index)


def test_images_come_by_row_and_number_whatever_the_width_of_names(images):
    got = ReadyImages(images).generate([job(0, 0), job(0, 1), job(0, 2), job(7, 0)])
    assert [image.getpixel((0, 0))[0] for image in got] == [1, 0, 2, 0]


def test_identity_follows_content(images):
    before = ReadyImages(images).identity()
    assert before["images"] == 4
    Image.new("RGB", (4, 4), (9, 9, 9)).save(images / "7" / "samples" / "00000.png")
    assert ReadyImages(images).identity()["sha256"] != before["sha256"]


def test_every_file_is_hashed_once_however_many_batches_are_drawn(images, tmp_path, monkeypatch):
    opened, plain_open = [], Path.open

    def counted(path, *arguments, **options):
        opened.extend([path] if images in path.parents and path.suffix == ".png" else [])
        return plain_open(path, *arguments, **options)

    samples = {f"{row}": Sample(id=f"{row}", task="", request=ImageRequest(prompt="p", num_images=1), reference={}) for row in (0, 7)}
    monkeypatch.setattr(Path, "open", counted)
    drawer = Drawer(tmp_path / "run", lambda: ReadyImages(images), 0, samples)
    model = digest(drawer.facts().identity)
    for row in (0, 7):
        errand = Errand(rows=((row, f"{row}"),), key="", wanted=frozenset([f"{row}"]), model=model)
        assert not drawer.draw(errand).outputs[0].error
    assert sorted(path.name for path in opened) == ["0000.png", "00000.png", "0001.png", "00010.png"]


@pytest.mark.parametrize(("row", "index"), [(0, 3), (1, 0)])
def test_a_missing_image_is_named(images, row, index):
    with pytest.raises(FileNotFoundError, match=f"{row:05d}/samples has"):
        ReadyImages(images).generate([job(row, index)])


def test_a_truncated_image_is_named_without_its_folder(images):
    path = images / "7" / "samples" / "00000.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(OSError, match=r"^00007/samples/00000\.png is not an image that can be read"):
        ReadyImages(images).generate([job(7, 0)])


def test_a_stated_prompt_is_checked(images):
    (images / "7" / "metadata.jsonl").write_text('{"prompt": "a cat"}')
    assert ReadyImages(images).generate([job(7, 0, "a cat")])
    with pytest.raises(ValueError, match="holds images of 'a cat', not of 'a dog'"):
        ReadyImages(images).generate([job(7, 0, "a dog")])
    (images / "7" / "metadata.jsonl").write_text("{")
    with pytest.raises(ValueError, match="no readable prompt"):
        ReadyImages(images).generate([job(7, 0, "a cat")])


def test_two_names_of_one_number_are_refused(images):
    (images / "00000" / "samples" / "1.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"samples holds both 0001\.png and 1\.png, which are one number"):
        ReadyImages(images).identity()
    (images / "00007").mkdir()
    with pytest.raises(UserError, match="holds both 00007 and 7, which are one number"):
        ReadyImages(images)


def test_a_folder_of_another_form_is_explained(tmp_path):
    with pytest.raises(UserError, match=r"expected .*00000/samples/0000\.png"):
        load(Settings(path=tmp_path))
    with pytest.raises(UserError, match="there is no folder"):
        load(Settings(path=tmp_path / "nothing"))
    with pytest.raises(UserError, match="--set path=FOLDER"):
        load(Settings())


def test_images_that_no_prompt_asks_for_are_named(images):
    assert ReadyImages(images).strangers({0: 3, 7: 1}) == []
    assert ReadyImages(images).strangers({0: 2}) == ["00000/samples/00010.png", "00007/samples/00000.png"]
