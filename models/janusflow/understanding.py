"""Questions about images: chat of several images and turns, answered in batches, and scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jfeval.errors import BadRequest, UserError
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import Message, Processor, format_prompt
from jfeval.models.janusflow.questions import ImageTable, Question, Turn, all_images, with_placeholders
from jfeval.models.janusflow.reader import CACHE_BYTES, Coded, Reader, gathered

__all__ = ["Likelihood", "Question", "Turn", "Understanding"]

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


class Understanding(Reader):
    """Answers questions about images.

    Args:
        model: The model.
        processor: Its tokenizer and image settings.
        cache_bytes: See `Reader`, as ``share``.
        share: Compute common beginnings once.
    """

    def __init__(self, model: JanusFlow, processor: Processor, *, cache_bytes: int = CACHE_BYTES, share: bool = True) -> None:
        super().__init__(model, pad_id=processor.pad_id, cache_bytes=cache_bytes, share=share)
        self.processor = processor

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
            for i, tokens in zip(chosen, gathered(self._generate([questions[i] for i in chosen], table), len(chosen)), strict=True):
                out[i] = tokens
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
                Coded(codes=asked[i].codes + ids, first_needed=asked[i].first_needed, shared_by=asked[i].shared_by) for i, ids in pairs
            ]
            found: dict[int, Likelihood] = {}
            for started in self.start(sequences, table, room=0):
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
        images = ImageTable(self.model, self.processor.images)
        for row, question in enumerate(questions):
            if rows and len(images.pixels) >= _IMAGES_HELD:
                yield rows, images
                rows, images = [], ImageTable(self.model, self.processor.images)
            for image in all_images(question):
                images.add(image)
            rows.append(row)
        if rows:
            yield rows, images

    def _sequence(self, question: Question, images: ImageTable) -> Coded:
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
        return Coded(codes=codes, first_needed=len(codes) - 1, shared_by=(question.system, shown))

    def _generate(self, questions: Sequence[Question], images: ImageTable) -> Iterator[list[tuple[int, int]]]:
        """Yield (row, token) pairs, step by step, batch after batch."""
        sequences = [self._sequence(question, images) for question in questions]
        context = self.model.config.language.max_position_embeddings
        limits = [min(q.max_new_tokens, context - len(s.codes)) for q, s in zip(questions, sequences, strict=True)]
        rules = [question.decoding for question in questions]
        return self.continued(sequences, images, limits=limits, rules=rules, stop_id=self.processor.end_id)
