import io
import json
import shutil

import pytest
import torch
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
            assert loss == pytest.approx(by_hand(model, request, option, "</s>"), abs=1e-4)


ASKED = "{{ message['role'].upper() + ' : ' + (message['content'] | selectattr('type', 'eq', 'text') | map(attribute='text') | join) }}"


@pytest.mark.parametrize(
    "answer",
    [
        "{{ raise_exception('no answers here') }}",
        "{{ 'ASSISTANT : ' + message['content'] }}",
        "{{ 'ASSISTANT : ' ~ message['content'] }}",
        "{{ 'how : ' + message['content'][0]['text'] + '</s>' }}",
    ],
    ids=["refused", "text-only", "list-as-text", "other-prompt"],
)
def test_options_stand_by_themselves_where_the_template_does_not_write_answers_after_the_prompt(llava, tmp_path, answer):
    model = with_answers(llava, tmp_path, answer)
    ids = {word: model.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "red", "circle", "</s>")}
    request = TextRequest(question="is the star red ?", options=("yes", "red circle"))
    assert model.option_ids(request) == [[ids["yes"], ids["</s>"]], [ids["red"], ids["circle"], ids["</s>"]]]
    assert model.identity()["recipe"]["options"] == "the option's tokens and the end token"


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        ("{{ 'ASSISTANT : ' + message['content'][0]['text'] + '</s>' }}", ["</s>"]),
        ("{{ 'ASSISTANT : ' + message['content'][0]['text'] + ' ' }}", ["</s>"]),
        ("{{ 'ASSISTANT : ' + message['content'][0]['text'] + ' <unk> USER' }}", ["<unk>", "USER"]),
    ],
    ids=["own-end", "no-end", "separator"],
)
def test_options_end_as_the_template_ends_answers(llava, tmp_path, answer, after):
    model = with_answers(llava, tmp_path, answer)
    (ids,) = model.option_ids(TextRequest(question="is the star red ?", options=("yes",)))
    assert model.tokenizer.convert_ids_to_tokens(ids) == ["yes", *after]


def test_all_options_of_a_request_have_the_same_form(llava, tmp_path):
    model = with_answers(llava, tmp_path, "{{ 'ASSISTANT : ' + message['content'][0]['text'] | replace('red', 'blue') + ' <unk>' }}")
    ids = model.option_ids(TextRequest(question="is it ?", options=("yes", "red")))
    assert [model.tokenizer.convert_ids_to_tokens(row) for row in ids] == [["yes", "</s>"], ["red", "</s>"]]


def with_answers(llava, tmp_path, answer):
    """A LLaVA whose template writes answers in a form of its own."""
    folder = shutil.copytree(llava, tmp_path / "llava")
    (folder / "chat_template.jinja").write_text(
        f"{{% for message in messages %}}{{% if message['role'] == 'assistant' %}}{answer}{{% else %}}{ASKED}{{{{ ' ' }}}}{{% endif %}}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT :' }}{% endif %}"
    )
    return load(Settings(path=str(folder), device="cpu"))


@pytest.mark.parametrize(
    "stated", [{"repetition_penalty": 5.0}, {"no_repeat_ngram_size": 1}, {"suppress_tokens": list(range(3, 20))}], ids=str
)
def test_what_a_checkpoint_states_about_generation_changes_no_answer(llava, model, requests, tmp_path, stated):
    inputs = model._inputs(requests[:1])
    plain, other = (model.model.generate(**inputs, max_new_tokens=6, do_sample=False, **more) for more in ({}, stated))
    assert not torch.equal(plain, other)
    folder = shutil.copytree(llava, tmp_path / "llava")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **stated}))
    assert load(Settings(path=str(folder), device="cpu")).answer(requests) == model.answer(requests)


def test_memory_that_runs_out_is_left_to_the_harness(model, requests, monkeypatch):
    sizes = []

    def full(**inputs):
        sizes.append(len(inputs["input_ids"]))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.model, "generate", full)
    with pytest.raises(torch.OutOfMemoryError):
        model.answer(requests[:2])
    assert sizes == [2]


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
    name = next(name for name in tensors if name.endswith("mlp.up_proj.weight"))
    save_file({**tensors, name: tensors[name][:-1].clone()}, partial / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors have shapes .* such as .*mlp\.up_proj\.weight \(47, 32\), not \(48, 32\)"):
        load(Settings(path=str(partial)))
    (partial / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="no chat template"):
        load(Settings(path=str(partial)))


def test_nobody_is_asked_whether_to_run_a_checkpoints_code(llava, tmp_path, monkeypatch):
    folder = shutil.copytree(llava, tmp_path / "strange")
    (folder / "strange.py").write_text("raise SystemExit('the code was run')")
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "strange.Config", "AutoModelForImageTextToText": "strange.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    asked = []
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "n")
    with pytest.raises(UserError, match="does not load as an image-text-to-text model"):
        load(Settings(path=str(folder)))
    assert asked == []
