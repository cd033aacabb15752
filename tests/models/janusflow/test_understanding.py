import pytest
import torch
from PIL import Image

from jfeval.errors import BadRequest, UserError
from jfeval.models.janusflow.cache import KeyValueCache
from jfeval.models.janusflow.decoding import Chooser, Decoding
from jfeval.models.janusflow.model import JanusFlow, causal_mask
from jfeval.models.janusflow.processing import Message, format_prompt
from jfeval.models.janusflow.understanding import Question, Turn, Understanding


def picture(seed, size=(16, 16)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture
def understanding(model, processor):
    return Understanding(model, processor)


A, B = picture(1), picture(2, (30, 12))
QUESTIONS = [
    Question(text="what is this", images=(A,), max_new_tokens=7),
    Question(text="how many circles are there in this picture?", images=(A,), max_new_tokens=5),
    Question(text="red", images=(B,), system="Be kind.", max_new_tokens=6),
    Question(text="is <image_placeholder> like <image_placeholder>?", images=(A, B), max_new_tokens=4),
    Question(text="no picture at all", max_new_tokens=3),
    Question(text="and now?", images=(B,), history=(Turn(text="what is this", answer="a red circle", images=(A,)),), max_new_tokens=6),
    Question(text="yes", images=(A.copy(),), max_new_tokens=8),
]


def by_hand(model, processor, question):
    """The plain way: one request, the whole sequence again for every token, no cache."""
    turns = [*question.history, Turn(text=question.text, answer="", images=question.images)]
    messages, images = [], []
    for turn in turns:
        text = turn.text if "<image_placeholder>" in turn.text else "<image_placeholder>\n" * len(turn.images) + turn.text
        messages += [Message("User", text), Message("Assistant", turn.answer)]
        images += turn.images
    ids, places = processor.conversation(format_prompt(messages, system=question.system))
    tokens = torch.tensor([ids])
    if images:
        pixels = torch.stack([processor.images(image) for image in images])[None]
        embeds = model.embed_conversation(tokens, torch.tensor([places]), pixels)
    else:
        embeds = model.embed(tokens)
    out = []
    for _ in range(question.max_new_tokens):
        length = embeds.shape[1]
        mask = causal_mask(torch.ones(1, length, dtype=torch.bool), length)
        hidden, _ = model.backbone(embeds, torch.arange(length)[None], mask)
        token = int(model.logits(hidden[:, -1]).argmax())
        if token == processor.end_id:
            break
        out.append(token)
        embeds = torch.cat([embeds, model.embed(torch.tensor([[token]]))], dim=1)
    return out


@torch.no_grad()
def test_answers_equal_the_plain_way_however_they_are_batched(model, processor):
    expected = [by_hand(model, processor, question) for question in QUESTIONS]
    assert len({tuple(tokens) for tokens in expected}) == len(expected)  # the questions matter
    for share in (True, False):
        for cache_bytes in (1 << 30, 60_000, 1):
            understanding = Understanding(model, processor, cache_bytes=cache_bytes, share=share)
            assert understanding.answer_tokens(QUESTIONS) == expected
            assert [understanding.answer_tokens([question])[0] for question in QUESTIONS] == expected


def test_what_requests_share_is_computed_once(model, processor, monkeypatch):
    seen = {"images": 0, "columns": 0}
    embed_images, backbone = JanusFlow.embed_images, JanusFlow.backbone

    def counting_images(self, pixel_values):
        seen["images"] += len(pixel_values)
        return embed_images(self, pixel_values)

    def counting_columns(self, embeds, *args, **kwargs):
        seen["columns"] += embeds.shape[0] * embeds.shape[1]
        return backbone(self, embeds, *args, **kwargs)

    monkeypatch.setattr(JanusFlow, "embed_images", counting_images)
    monkeypatch.setattr(JanusFlow, "backbone", counting_columns)
    questions = [Question(text=f"what is this {letter}", images=(A.copy(),), max_new_tokens=1) for letter in "abcdefgh"]
    understanding = Understanding(model, processor)
    length = len(understanding._sequence(questions[0], _counted(model, processor, questions)).codes)
    understanding.answer(questions)
    assert seen["images"] == 1
    shared = seen["columns"]
    Understanding(model, processor, share=False).answer(questions)
    assert seen["columns"] - shared == 8 * length
    tail = len(processor.encode_more("a\n\nAssistant:"))
    assert shared == length - tail + 8 * tail  # the common beginning once, then what differs


def _counted(model, processor, questions):
    ((_, images),) = Understanding(model, processor)._windows(questions)
    return images


def test_keys_and_values_stay_within_their_bound(model, processor, monkeypatch):
    largest = {"bytes": 0}
    update = KeyValueCache.update

    def measuring(self, keys, values, layer_idx, *args, **kwargs):
        result = update(self, keys, values, layer_idx, *args, **kwargs)
        held = sum(t.untyped_storage().nbytes() for t in (*self._keys, *self._values))
        largest["bytes"] = max(largest["bytes"], held)
        return result

    monkeypatch.setattr(KeyValueCache, "update", measuring)
    questions = [Question(text=f"what is this {n}", images=(picture(n % 5),), max_new_tokens=3) for n in range(20)]
    Understanding(model, processor).answer(questions)
    free, bound = largest["bytes"], 100_000
    largest["bytes"] = 0
    Understanding(model, processor, cache_bytes=bound).answer(questions)
    assert largest["bytes"] <= bound // 2 < free


def test_windows_hold_a_bounded_number_of_images_and_answers_keep_their_order(understanding, monkeypatch):
    import jfeval.models.janusflow.understanding as module

    whole = understanding.answer_tokens(QUESTIONS)
    monkeypatch.setattr(module, "_IMAGES_HELD", 1)
    assert [rows for rows, _ in understanding._windows(QUESTIONS)][:2] == [[0], [1]]
    assert understanding.answer_tokens(QUESTIONS) == whole


def test_sampling_depends_on_the_requests_seed_and_not_on_the_batch(understanding):
    def asked(seed, temperature=1.5):
        return Question(text="what", images=(A,), max_new_tokens=12, decoding=Decoding(temperature=temperature, seed=seed))

    together = understanding.answer_tokens([asked(1), asked(2), asked(1), asked(3, 0.0), asked(1, 1e-4)])
    assert together[0] == together[2]
    assert together[0] != together[1]
    assert understanding.answer_tokens([asked(2)])[0] == together[1]
    assert together[3] == together[4]  # next to no temperature is the likeliest token


def test_the_nucleus_by_hand():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()

    def drawn(top_p):
        rules = [Decoding(temperature=1.0, top_p=top_p, seed=seed) for seed in range(4000)]
        return torch.bincount(Chooser(rules)(logits.expand(4000, 4)), minlength=4) / 4000

    assert drawn(0.4).tolist() == [1, 0, 0, 0]
    assert drawn(0.5).tolist() == [1, 0, 0, 0]
    torch.testing.assert_close(drawn(0.6), torch.tensor([0.625, 0.375, 0, 0]), atol=0.03, rtol=0)  # 4 standard errors
    torch.testing.assert_close(drawn(1.0), torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"seed": -1}, {"temperature": float("nan")}])
def test_impossible_decoding_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Decoding(**wrong)


def test_a_stream_is_the_answer_in_pieces(understanding):
    for question in QUESTIONS:
        pieces = list(understanding.stream(question))
        assert "".join(pieces) == understanding.answer([question])[0]
    assert torch.is_grad_enabled()


def test_a_stream_starts_before_it_ends(understanding, monkeypatch):
    steps = []
    logits = JanusFlow.logits
    monkeypatch.setattr(JanusFlow, "logits", lambda self, hidden: steps.append(1) or logits(self, hidden))
    long = Question(text="what is this", images=(A,), max_new_tokens=40)
    next(understanding.stream(long))
    first = len(steps)
    understanding.answer([long])
    assert first < len(steps) - first


@torch.no_grad()
def test_log_likelihood_by_hand(model, processor, understanding):
    question, answers = QUESTIONS[1], ["yes", "a red circle", "a blue one"]
    found = understanding.log_likelihood([question, QUESTIONS[4]], [answers, ["no"]])
    assert [len(row) for row in found] == [3, 1]
    prompt = f"User: <image_placeholder>\n{question.text}\n\nAssistant:"
    for answer, likelihood in zip(answers, found[0], strict=True):
        ids, places = processor.conversation(f"{prompt} {answer}")
        start = len(processor.conversation(prompt)[0])
        pixels = processor.images(A)[None, None]
        embeds = model.embed_conversation(torch.tensor([ids]), torch.tensor([places]), pixels)
        mask = causal_mask(torch.ones(1, len(ids), dtype=torch.bool), len(ids))
        scores = model.logits(model.backbone(embeds, torch.arange(len(ids))[None], mask)[0])[0].log_softmax(-1)
        expected = sum(float(scores[i - 1, ids[i]]) for i in range(start, len(ids)))
        assert likelihood.total == pytest.approx(expected, abs=1e-4)
        assert likelihood.tokens == len(ids) - start
        assert likelihood.mean == pytest.approx(expected / likelihood.tokens, abs=1e-4)


def test_the_likeliest_answer_is_greedy_and_the_end_token_counts_when_asked_for(understanding, processor, monkeypatch):
    question = QUESTIONS[0]
    tokens = understanding.answer_tokens([question])[0]
    monkeypatch.setattr(processor, "encode_more", lambda text: tokens if text == " said" else [5, 6, 7])
    ((said, other),) = understanding.log_likelihood([question], [["said", "other"]])
    assert (said.greedy, other.greedy) == (True, False)
    ((ended,),) = understanding.log_likelihood([question], [["said"]], with_end=True)
    assert ended.tokens == said.tokens + 1
    assert ended.total < said.total


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(text="  "), "the question is empty"),
        (Question(text="<image_placeholder> and?", images=(A, B)), "1 image placeholders but 2 images"),
        (Question(text="<image_placeholder>"), "1 image placeholders but 0 images"),
        (Question(text="x" * 600, images=(A,)), "leaves no room for an answer in the model's context of 512; shorten it"),
    ],
)
def test_bad_questions_are_refused(understanding, question, message):
    with pytest.raises(BadRequest, match=message):
        understanding.answer([question])


def test_an_image_without_words_is_a_question(understanding):
    assert len(understanding.answer_tokens([Question(text="", images=(A,), max_new_tokens=2)])[0]) <= 2


def test_answers_end_where_the_context_ends(understanding):
    question = Question(text="x" * 480, max_new_tokens=1000)
    length = len(understanding._sequence(question, _counted(understanding.model, understanding.processor, [question])).codes)
    understanding.processor.end_id, kept = -7, understanding.processor.end_id
    try:
        assert len(understanding.answer_tokens([question])[0]) == 512 - length
    finally:
        understanding.processor.end_id = kept


def test_no_questions_no_answers(understanding):
    assert understanding.answer([]) == []
    assert understanding.log_likelihood([], []) == []


def test_empty_and_unmatched_answers_are_refused(understanding):
    with pytest.raises(BadRequest, match="is empty"):
        understanding.log_likelihood([QUESTIONS[0]], [[" "]])
    with pytest.raises(UserError, match="1 questions but 0 lists"):
        understanding.log_likelihood([QUESTIONS[0]], [])


def test_nan_stops_with_the_step(config, processor):
    broken = JanusFlow(config).eval()
    with torch.no_grad():
        broken.language_model.lm_head.weight[3] = float("nan")
    with pytest.raises(FloatingPointError, match="at new token 1: the logits are not finite"):
        Understanding(broken, processor).answer([QUESTIONS[0]])
    with pytest.raises(FloatingPointError, match="not a number"):
        Understanding(broken, processor).log_likelihood([QUESTIONS[0]], [["yes"]])


def test_bfloat16_answers_too(config, processor):
    torch.manual_seed(1)
    half = JanusFlow(config).to(torch.bfloat16).eval()
    assert half.language_model.model.rotary_emb.inv_freq.dtype == torch.float32
    answers = Understanding(half, processor).answer_tokens(QUESTIONS)
    assert all(len(tokens) <= q.max_new_tokens for tokens, q in zip(answers, QUESTIONS, strict=True))
