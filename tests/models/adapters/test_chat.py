import io
import shutil

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from jfeval.errors import BadRequest, UserError
from jfeval.models.adapters.chat import Settings, load
from jfeval.models.adapters.layout import content
from jfeval.schema import TextRequest


@pytest.fixture(scope="module")
def model(llava):
    return load(Settings(path=str(llava), device="cpu"))


@pytest.fixture(scope="module")
def requests(png):
    return [
        TextRequest(question="what color is the star ?", images=[png(0)], max_new_tokens=6),
        TextRequest(question="how many are there ?", images=[png(1), png(2)], max_new_tokens=6),
        TextRequest(question="is the circle left ?", max_new_tokens=3),
        TextRequest(question="what is <image_placeholder>\n? how many", images=[png(3)], system="a photo", max_new_tokens=6),
    ]


def test_the_prompt_is_the_templates(model, requests):
    assert [model.prompt(request) for request in requests] == [
        "USER : <image> what color is the star ? ASSISTANT :",
        "USER : <image> <image> how many are there ? ASSISTANT :",
        "USER : is the circle left ? ASSISTANT :",
        "SYSTEM : a photo USER : what is  <image> ? how many ASSISTANT :",
    ]


def test_answers_do_not_depend_on_the_batch(model, requests):
    together = model.answer(requests)
    assert together == [model.answer([request])[0] for request in requests]
    assert len(set(together)) > 1
    assert all(len(text.split()) <= limit for text, limit in zip(together, (6, 6, 3, 6), strict=True))


def test_answers_are_those_of_transformers_own_greedy_search(model, requests):
    request = requests[0]
    image = Image.open(io.BytesIO(request.images[0]))
    inputs = model.processor(text=[model.prompt(request)], images=[[image]], return_tensors="pt")
    tokens = model.model.generate(**inputs, do_sample=False, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
    assert model.answer([request]) == [model.tokenizer.decode(tokens, skip_special_tokens=True).strip()]


def test_option_losses_are_log_likelihoods_of_option_and_end(model, png, by_hand):
    options = ("yes", "red circle", "no")
    asked = [
        TextRequest(question="what ?", images=[png(0)], options=options),
        TextRequest(question="is the star red ?", options=options[:2]),
    ]
    losses = model.option_losses(asked)
    assert [len(row) for row in losses] == [3, 2]
    for request, row in zip(asked, losses, strict=True):
        for option, loss in zip(request.options, row, strict=True):
            assert loss == pytest.approx(by_hand(model, request, option), abs=1e-4)


def test_placeholders_say_where_images_stand():
    assert content("what ?", 1) == [{"type": "image"}, {"type": "text", "text": "what ?"}]
    assert content("<image_placeholder>\nfirst <image_placeholder> second", 2) == [
        {"type": "image"},
        {"type": "text", "text": "first "},
        {"type": "image"},
        {"type": "text", "text": " second"},
    ]
    with pytest.raises(BadRequest, match="2 places for 1 images"):
        content("<image_placeholder> <image_placeholder>", 1)


def test_identity_names_architecture_and_weights(model):
    found = model.identity()
    assert found["architecture"] == "LlavaForConditionalGeneration"
    assert len(str(found["weights"])) == 64
    assert found["dtype"] == "float32"


def test_what_does_not_load_says_why(llava, tmp_path):
    with pytest.raises(UserError, match="needs its checkpoint"):
        load(Settings())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="does not load as an image-text-to-text model"):
        load(Settings(path=str(tmp_path / "empty")))
    partial = tmp_path / "partial"
    shutil.copytree(llava, partial)
    tensors = load_file(partial / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("mlp.up_proj.weight"))
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors, such as .*mlp\.up_proj\.weight"):
        load(Settings(path=str(partial)))
    (partial / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        load(Settings(path=str(partial)))
