import numpy as np
import pytest
import torch

from jfeval.errors import UserError
from jfeval.models.adapters.chat import opened
from jfeval.models.adapters.janus import Settings, load
from jfeval.schema import ImageJob, TextRequest

JOBS = [
    ImageJob(prompt="a photo of a red star", seed=3),
    ImageJob(prompt="a star", seed=4),
    ImageJob(prompt="a photo of a red star", seed=5),
]


def loaded(janus, **settings):
    return load(Settings(path=str(janus), device="cpu", **settings))


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_a_picture_depends_on_its_own_job_alone(janus, guidance_scale):
    model = loaded(janus, guidance_scale=guidance_scale)
    together = [np.asarray(image) for image in model.generate(JOBS)]
    assert {image.shape for image in together} == {(4, 4, 3)}
    for job, image in zip(JOBS, together, strict=True):
        assert np.array_equal(np.asarray(model.generate([job])[0]), image)
    assert not np.array_equal(together[0], together[2])


def test_the_likeliest_tokens_are_those_of_transformers_own_search(janus):
    model = loaded(janus, guidance_scale=5.0, temperature=1e-6)
    prompts = [model.chat.prompt(TextRequest(question=job.prompt)) for job in JOBS[:2]]
    encoded = model.chat.encode(prompts, generation_mode="image")
    begin = model.chat.tokenizer.convert_tokens_to_ids("<begin_of_image>")
    model.model.generation_config.generation_kwargs = {"boi_token_id": begin}  # as converted checkpoints state it
    own = model.model.generate(**encoded, generation_mode="image", do_sample=False, guidance_scale=5.0, use_cache=True)
    assert torch.equal(model.sample(encoded["input_ids"], encoded["attention_mask"], JOBS[:2]), own)


def test_it_answers_and_weighs_like_any_chat_model(janus, png):
    model = loaded(janus)
    asked = [
        TextRequest(question="what color is the star ?", images=[png(0)], max_new_tokens=4),
        TextRequest(question="how many ?", images=[png(1)], max_new_tokens=4),
    ]
    assert model.chat.prompt(asked[0]) == "<s> USER : <image> what color is the star ? ASSISTANT : "
    assert model.answer(asked) == [model.answer([request])[0] for request in asked]
    losses = model.option_losses([TextRequest(question="what ?", images=[png(0)], options=("yes", "no"))])
    assert len(losses[0]) == 2
    assert all(loss > 0 for loss in losses[0])


def own_tokens(model, *content, **more):
    turn = {"role": "user", "content": list(content)}
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return model.chat.processor.apply_chat_template([turn], **options, processor_kwargs=more)["input_ids"]


def test_the_beginning_of_the_template_is_not_written_twice(janus, png, monkeypatch):
    model = loaded(janus)
    assert model.chat.tokenizer("star")["input_ids"][0] == model.chat.tokenizer.bos_token_id
    question = {"type": "text", "text": JOBS[1].prompt}
    own = own_tokens(model, {"type": "image", "image": opened(png(0))}, question)
    assert torch.equal(model.chat._inputs([TextRequest(question=JOBS[1].prompt, images=[png(0)])])["input_ids"], own)
    assert own[0].tolist().count(model.chat.tokenizer.bos_token_id) == 1
    drawn = []
    monkeypatch.setattr(model, "sample", lambda ids, *_: drawn.append(ids) or torch.zeros(len(ids), 4, dtype=torch.long))
    model.generate(JOBS[1:2])
    assert torch.equal(drawn[0], own_tokens(model, question, generation_mode="image"))


def test_memory_that_runs_out_is_left_to_the_harness(janus, monkeypatch):
    model, sizes = loaded(janus), []

    def full(ids, *_):
        sizes.append(len(ids))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "sample", full)
    with pytest.raises(torch.OutOfMemoryError):
        model.generate(JOBS)
    assert sizes == [3]


def test_the_recipe_says_how_pictures_are_sampled(janus):
    found = loaded(janus, guidance_scale=3.0).identity()
    assert found["model"] == "janus"
    assert found["recipe"]["guidance_scale"] == 3.0
    assert found["architecture"] == "JanusForConditionalGeneration"


def test_what_is_no_janus_is_refused(llava):
    with pytest.raises(UserError, match="holds a LlavaForConditionalGeneration, not a Janus; use --model hf:"):
        loaded(llava)
    with pytest.raises(UserError, match="temperature must be positive"):
        Settings(temperature=0)
    with pytest.raises(UserError, match="guidance_scale must lie between 1 and 100"):
        Settings(guidance_scale=0.5)
    with pytest.raises(UserError, match="needs its checkpoint"):
        load(Settings())
