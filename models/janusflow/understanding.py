"""Questions about images: chat of several images and turns, answered in batches, with what requests have in common computed once.

Requests with the same system prompt and the same images share the beginning of their token sequences: system prompt, images, and
whatever follows that is equal. That beginning passes through the model once; only its keys and values are repeated for each request.
Attention is causal, so the outputs are those of the requests asked alone, up to float rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

import torch
from torch import Tensor

from jfeval.errors import BadRequest, UserError
from jfeval.models.janusflow.cache import KeyValueCache
from jfeval.models.janusflow.decoding import Chooser, continue_rows
from jfeval.models.janusflow.model import JanusFlow, PromptBatch, causal_mask
from jfeval.models.janusflow.processing import Message, Processor, format_prompt
from jfeval.models.janusflow.questions import ImageTable, Question, Turn, all_images, with_placeholders

__all__ = ["Likelihood", "Question", "Turn", "Understanding"]

CACHE_BYTES = 4 << 30
"""Memory for keys and values by default."""
_IMAGES_HELD = 64
"""Images whose embeddings are held at a time."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How likely a given answer is."""

    total: float
    """Log-likelihood of the answer in nats."""
    tokens: int
    """Tokens of the answer."""
    greedy: bool
    """True where every token is the likeliest at its place."""

    @property
    def mean(self) -> float:
        """Log-likelihood per token."""
        return self.total / self.tokens


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """One request as numbers: token ids, and for a place of an image -1 - its row in the table of image embeddings."""

    codes: list[int]
    first_needed: int
    """First position whose output is used."""
    shared_by: tuple[str, tuple[int, ...]]
    """System prompt and images: requests of one kind are likely to begin alike."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Requests with a common beginning."""

    rows: list[int]
    prefix: list[int]


@dataclass(frozen=True, kw_only=True)
class _Started:
    """Requests that have passed through the model once."""

    rows: list[int]
    hidden: Tensor
    """Outputs (B, S, D) at the requests' last S columns, padded on the left."""
    cache: KeyValueCache
    valid: Tensor
    """(B, K) bool."""
    positions: Tensor
    """(B, S)."""


class Understanding:
    """Answers questions about images.

    Args:
        model: The model.
        processor: Its tokenizer and image settings.
        cache_bytes: Bound of the memory for keys and values; one request is always processed, whatever its size.
        share: Compute common beginnings once. Without, every request is computed whole, which only measurements want.
    """

    def __init__(self, model: JanusFlow, processor: Processor, *, cache_bytes: int = CACHE_BYTES, share: bool = True) -> None:
        self.model, self.processor, self.cache_bytes, self.share = model, processor, cache_bytes, share

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """Answer questions, in order; each answer depends on its own question only, up to float rounding.

        Raises:
            BadRequest: A question is empty, has another number of images than placeholders, or exceeds the model's context.
            FloatingPointError: The model's outputs are not finite; names the step.
        """
        return [self.processor.decode(tokens) for tokens in self.answer_tokens(questions)]

    @torch.no_grad()
    def answer_tokens(self, questions: Sequence[Question]) -> list[list[int]]:
        """Answer questions as tokens, without the end token; see `answer`."""
        out: list[list[int]] = [[] for _ in questions]
        for chosen, table in self._windows(questions):
            for step in self._generate([questions[i] for i in chosen], table):
                for row, token in step:
                    out[chosen[row]].append(token)
        return out

    def stream(self, question: Question) -> Iterator[str]:
        """Answer one question piece by piece, as soon as tokens are known; the pieces joined are the answer."""
        ((_, table),) = self._windows([question])
        tokens: list[int] = []
        said = ""
        for step in self._generate([question], table):
            tokens += [token for _, token in step]
            text = self.processor.decode(tokens)
            if len(text) > len(said) and not text.endswith("�"):  # half a character waits for its other bytes
                yield text[len(said) :]
                said = text
        if rest := self.processor.decode(tokens)[len(said) :]:
            yield rest

    @torch.no_grad()
    def log_likelihood(
        self, questions: Sequence[Question], answers: Sequence[Sequence[str]], *, with_end: bool = False
    ) -> list[list[Likelihood]]:
        """Compute how likely given answers are, without generating anything.

        Args:
            questions: The questions.
            answers: The answers to compare, for each question.
            with_end: Count the end token as part of the answer: the likelihood that it is this answer and nothing more.

        Raises:
            UserError: Questions and lists of answers are not as many.
            BadRequest: See `answer`; or an answer is empty.
        """
        if len(questions) != len(answers):
            raise UserError(f"{len(questions)} questions but {len(answers)} lists of answers")
        end = [self.processor.end_id] if with_end else []
        out: list[list[Likelihood]] = [[] for _ in questions]
        for chosen, table in self._windows(questions):
            pairs = [(i, self._answer_ids(text) + end) for i in chosen for text in answers[i]]
            asked = {i: self._sequence(questions[i], table) for i in chosen}
            sequences = [
                _Sequence(codes=asked[i].codes + ids, first_needed=asked[i].first_needed, shared_by=asked[i].shared_by) for i, ids in pairs
            ]
            found: dict[int, Likelihood] = {}
            for started in self._start(sequences, table, room=0):
                for place, row in enumerate(started.rows):
                    found[row] = self._score(started.hidden[place], pairs[row][1])
            for row, (i, _) in enumerate(pairs):
                out[i].append(found[row])
        return out

    def _score(self, hidden: Tensor, ids: list[int]) -> Likelihood:
        """Score an answer by the outputs (S, D) at its tokens and the token before."""
        logits = self.model.logits(hidden[-len(ids) - 1 : -1]).float()
        targets = torch.tensor(ids, device=logits.device)[:, None]
        total = float(logits.log_softmax(dim=-1).gather(1, targets).sum())
        if total != total:
            raise FloatingPointError("the log-likelihood is not a number; the weights hold NaN, or the model's type overflows")
        return Likelihood(total=total, tokens=len(ids), greedy=bool((logits.argmax(dim=-1) == targets[:, 0]).all()))

    def _answer_ids(self, text: str) -> list[int]:
        ids = self.processor.encode_more(f" {text.strip()}") if text.strip() else []
        if not ids:
            raise BadRequest("an answer to be scored is empty")
        return ids

    # From questions to numbers.

    def _windows(self, questions: Sequence[Question]) -> Iterator[tuple[list[int], ImageTable]]:
        """Cut the questions into runs that show a bounded number of images, each image once."""
        rows: list[int] = []
        images = ImageTable(self.model, self.processor)
        for row, question in enumerate(questions):
            if rows and len(images.pixels) >= _IMAGES_HELD:
                yield rows, images
                rows, images = [], ImageTable(self.model, self.processor)
            for image in all_images(question):
                images.add(image)
            rows.append(row)
        if rows:
            yield rows, images

    def _sequence(self, question: Question, images: ImageTable) -> _Sequence:
        messages: list[Message] = []
        for turn in question.history:
            messages += [Message("User", with_placeholders(turn.text, len(turn.images))), Message("Assistant", turn.answer)]
        messages += [Message("User", with_placeholders(question.text, len(question.images))), Message("Assistant", "")]
        ids, places = self.processor.conversation(format_prompt(messages, system=question.system, template=self.processor.template))
        shown = tuple(images.index[id(image)] for image in all_images(question))
        per_image = self.processor.tokens_per_image + 1
        table_rows = (index * per_image + offset for index in shown for offset in range(per_image))
        codes = [-1 - next(table_rows) if place else token for token, place in zip(ids, places, strict=True)]
        context = self.model.config.language.max_position_embeddings
        if len(codes) >= context:
            raise BadRequest(
                f"a question of {len(codes)} tokens leaves no room for an answer in the model's context of {context}; shorten it"
            )
        return _Sequence(codes=codes, first_needed=len(codes) - 1, shared_by=(question.system, shown))

    # Through the model.

    def _generate(self, questions: Sequence[Question], images: ImageTable) -> Iterator[list[tuple[int, int]]]:
        """Yield (row, token) pairs, step by step, batch after batch."""
        sequences = [self._sequence(question, images) for question in questions]
        context = self.model.config.language.max_position_embeddings
        limits = [min(q.max_new_tokens, context - len(s.codes)) for q, s in zip(questions, sequences, strict=True)]
        for started in self._start(sequences, images, room=max(limits)):
            steps = continue_rows(
                self.model,
                started.hidden[:, -1],
                cache=started.cache,
                valid=started.valid,
                positions=started.positions[:, -1:],
                choose=Chooser([questions[row].decoding for row in started.rows]),
                limits=[limits[row] for row in started.rows],
                stop_id=self.processor.end_id,
            )
            for step in steps:
                yield [(started.rows[place], token) for place, token in step]

    @torch.no_grad()
    def _start(self, sequences: Sequence[_Sequence], images: ImageTable, *, room: int) -> Iterator[_Started]:
        """Pass all sequences through the model, common beginnings once, in batches that fit into the memory for keys and values."""
        budget = self.cache_bytes // 2 // self._bytes_per_token()
        groups = sorted(self._groups(sequences), key=lambda group: len(group.prefix))
        for batch in _fitting(groups, [len(group.prefix) for group in groups], budget):
            prefix = self._padded([group.prefix for group in batch])
            held = KeyValueCache()
            self._forward(prefix, images, held)
            rows = [(row, place) for place, group in enumerate(batch) for row in group.rows]
            suffixes = {row: sequences[row].codes[len(batch[place].prefix) :] for row, place in rows}
            rows.sort(key=lambda pair: len(suffixes[pair[0]]))
            sizes = [prefix.ids.shape[1] + len(suffixes[row]) + room for row, _ in rows]
            for part in _fitting(rows, sizes, budget):
                places = [place for _, place in part]
                new = self._padded([suffixes[row] for row, _ in part])
                cache = held.rows(places, room=new.ids.shape[1] + room)
                whole = PromptBatch(
                    ids=new.ids,
                    valid=torch.cat([prefix.valid[places], new.valid], dim=1),
                    positions=new.positions + prefix.valid[places].sum(dim=1, keepdim=True),
                )
                hidden = self._forward(whole, images, cache)
                yield _Started(rows=[row for row, _ in part], hidden=hidden, cache=cache, valid=whole.valid, positions=whole.positions)

    def _groups(self, sequences: Sequence[_Sequence]) -> Iterator[_Group]:
        """Put requests with a common beginning together; a request without company is a group of its own."""
        order = sorted(range(len(sequences)), key=lambda row: sequences[row].shared_by)
        for _, members in groupby(order, key=lambda row: sequences[row].shared_by if self.share else row):
            rows = list(members)
            longest = min(sequences[row].first_needed for row in rows)
            columns = zip(*(sequences[row].codes[:longest] for row in rows), strict=True)
            common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
            if common:
                yield _Group(rows=rows, prefix=sequences[rows[0]].codes[:common])
            else:
                yield from (_Group(rows=[row], prefix=sequences[row].codes[: sequences[row].first_needed]) for row in rows)

    def _padded(self, codes: list[list[int]]) -> PromptBatch:
        return PromptBatch.from_lists(codes, pad_id=self.processor.pad_id, device=self.model.device)

    def _forward(self, batch: PromptBatch, images: ImageTable, cache: KeyValueCache) -> Tensor:
        """Embed codes, images included, and run the language model; returns outputs (B, T, D)."""
        embeds = self.model.embed(batch.ids.clamp(min=0))
        if bool((batch.ids < 0).any()):
            embeds[batch.ids < 0] = images.table()[-1 - batch.ids[batch.ids < 0]].to(embeds.dtype)
        return self.model.backbone(embeds, batch.positions, causal_mask(batch.valid, batch.ids.shape[1]), cache=cache)[0]

    def _bytes_per_token(self) -> int:
        language = self.model.config.language
        width = language.hidden_size // language.num_attention_heads * language.num_key_value_heads
        return 2 * language.num_hidden_layers * width * self.model.dtype.itemsize


def _fitting(items: Sequence, sizes: Sequence[int], budget: int) -> Iterator[list]:
    """Cut items into batches whose number times their largest size stays within a budget; a batch has at least one."""
    batch: list = []
    largest = 0
    for item, size in zip(items, sizes, strict=True):
        if batch and (len(batch) + 1) * max(largest, size) > budget:
            yield batch
            batch, largest = [], 0
        batch.append(item)
        largest = max(largest, size)
    if batch:
        yield batch
