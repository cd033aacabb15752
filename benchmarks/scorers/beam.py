"""Beam search as mPLUG's answers are written: length-normalised scores, and an end as soon as the best beam ends.

Source: modelscope 1.40.2, models/multi_modal/mplug/predictor.py, TextGenerator._fast_translate_batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_ALPHA = 0.6
_FORBIDDEN = -1e20


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """How an answer is searched for. Source: as above and mplug's config.yaml (beam_size, min_length, max_length)."""

    beams: int = 5
    least: int = 1
    most: int = 10
    """Fewest and most words after the start."""
    start: int = 101
    end: int = 102


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best hypothesis."""

    ids: list[int]
    """With the start, and with the end where there was one."""
    score: float
    """Sum of log probabilities over ``((5 + words) / 6)^0.6``."""


def search(step: Callable[[Tensor, Tensor], Tensor], questions: int, settings: BeamSettings, device: torch.device) -> list[Answer]:
    """Search answers to several questions at once; each is what it would be alone.

    Args:
        step: From the indices of the questions that are still open ``(Q,)`` and their beginnings ``(Q, beams, t)`` to logits of the next
            word ``(Q, beams, V)``.
        questions: How many.
        settings: Widths and lengths.
        device: Where the beginnings lie.
    """
    beams = settings.beams
    open_questions = torch.arange(questions, device=device)
    ids = torch.full((questions, beams, 1), settings.start, dtype=torch.long, device=device)
    totals = torch.full((questions, beams), float("-inf"), device=device)
    totals[:, 0] = 0.0
    finished: list[list[Answer]] = [[] for _ in range(questions)]
    for place in range(settings.most):
        logs = torch.log(torch.softmax(step(open_questions, ids).float(), dim=-1))
        if place < settings.least:
            logs[..., settings.end] = _FORBIDDEN
        penalty = ((5.0 + (place + 1)) / 6.0) ** _ALPHA
        width = logs.shape[-1]
        scores, chosen = ((logs + totals[..., None]) / penalty).flatten(1).topk(beams, dim=-1)
        totals = scores * penalty
        parents, words = chosen // width, chosen % width
        ids = torch.cat([ids.gather(1, parents[..., None].expand(-1, -1, ids.shape[-1])), words[..., None]], dim=-1)
        ended = (words == settings.end) | (place + 1 == settings.most)
        done = ended[:, 0]
        ended = ended | done[:, None]
        for row, beam in ended.nonzero().tolist():
            answer = Answer(ids=ids[row, beam].tolist(), score=float(scores[row, beam]))
            finished[int(open_questions[row])].append(answer)
        if bool(done.all()):
            break
        open_questions, ids, totals = open_questions[~done], ids[~done], totals[~done]
    return [max(answers, key=lambda answer: answer.score) for answers in finished]
