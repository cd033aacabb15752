"""Qwen2-VL beside LLaVA: images of any number of tokens, positions in three dimensions, a template with turns and a system prompt."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from jfeval.errors import UserError
from jfeval.models.adapters.chat import Settings, load
from jfeval.schema import TextRequest

OPENING = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def model(qwen2_vl):
    return load(Settings(path=str(qwen2_vl), device="cpu"))


@pytest.fixture(scope="module")
def requests(png):
    """Questions about none, one and two images, of different sizes."""
    return [
        TextRequest(question="what color is the star ?", images=[png(0, (40, 24))], max_new_tokens=5),
        TextRequest(question="how many are there ?", images=[png(1, (16, 32)), png(2)], max_new_tokens=5),
        TextRequest(question="is the circle left ?", max_new_tokens=3),
        TextRequest(question="what is <image_placeholder>\n? how many", images=[png(3)], system="a photo", max_new_tokens=5),
    ]


def test_the_prompt_is_the_templates(model, requests):
    assert [model.prompt(request) for request in requests] == [
        f"{OPENING}<|im_start|>user\n{IMAGE}what color is the star ?{ANSWER}",
        f"{OPENING}<|im_start|>user\n{IMAGE}{IMAGE}how many are there ?{ANSWER}",
        f"{OPENING}<|im_start|>user\nis the circle left ?{ANSWER}",
        f"<|im_start|>system\na photo<|im_end|>\n<|im_start|>user\nwhat is {IMAGE}? how many{ANSWER}",
    ]


def test_every_image_has_the_tokens_of_its_size(model, requests):
    ids = model._inputs(requests)["input_ids"]
    per_row = (ids == model.processor.image_token_id).sum(dim=1).tolist()
    assert per_row == [5 * 3, 2 * 4 + 5 * 4, 0, 5 * 4]  # squares of 8 pixels; 30 rows are made 32


def test_answers_do_not_depend_on_the_batch(model, requests):
    together = model.answer(requests)
    assert together == [model.answer([request])[0] for request in requests]
    assert len(set(together)) > 1


def test_option_losses_are_log_likelihoods_of_the_assistants_turn_whatever_the_padding(model, png, by_hand):
    options = ("yes", "red circle", "no")
    asked = [
        TextRequest(question="what ?", images=[png(0, (16, 24))], options=options),
        TextRequest(question="is the star red ?", images=[png(1, (40, 32))], options=options[:2]),
    ]
    for request, row in zip(asked, model.option_losses(asked), strict=True):
        for option, loss in zip(request.options, row, strict=True):
            assert loss == pytest.approx(by_hand(model, request, option, "<|im_end|>"), abs=1e-4)


def test_options_have_the_tokens_that_the_template_writes_after_the_prompt(model):
    request = TextRequest(question="is the star red ?", options=("yes", "red circle"))
    turn = {"role": "user", "content": [{"type": "text", "text": request.question}]}
    tokens = model.processor.tokenizer.apply_chat_template
    before = tokens([turn], chat_template=model.processor.chat_template, add_generation_prompt=True)["input_ids"]
    for option, ids in zip(request.options, model.option_ids(request), strict=True):
        said = {"role": "assistant", "content": [{"type": "text", "text": option}]}
        assert before + ids == tokens([turn, said], chat_template=model.processor.chat_template)["input_ids"]
    assert model.identity()["recipe"]["options"] == "the assistant's turn in the chat template"


def test_a_folder_that_is_wrong_or_not_whole_says_what(qwen2_vl, tmp_path):
    partial = shutil.copytree(qwen2_vl, tmp_path / "partial")
    tensors = load_file(partial / "model.safetensors")
    gone = next(name for name in tensors if "visual" in name and name.endswith("attn.qkv.weight"))
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 tensors, such as .*visual.*attn\.qkv\.weight"):
        load(Settings(path=str(partial)))
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        (partial / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match="does not load as an image-text-to-text model"):
        load(Settings(path=str(partial)))
