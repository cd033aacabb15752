"""The names of prompt protocols and scorers, and what a prompt is.

A *prompt protocol* decides what the model is asked, so it is part of a run: the benchmark's setting ``prompt``, stated in the run's data
identity and thereby in its fingerprint. A *scorer* decides what an answer counts for; one set of stored outputs is scored under any of
them (``jfeval score RUN --protocol NAME``), so scorers are what `Benchmark.protocols` lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jfeval.schema import Edition, TextRequest

PromptName: TypeAlias = Literal["paper", "vlmevalkit", "lmms-eval", "llava", "bare"]
PROMPTS: tuple[PromptName, ...] = get_args(PromptName)
"""``paper`` is the VLMEvalKit wrapper that the model's authors contributed; ``bare`` is the question alone."""

ScorerName: TypeAlias = Literal["vlmevalkit-nov2024", "vlmevalkit-head", "lmms-eval", "llava", "official"]
SCORERS: tuple[ScorerName, ...] = get_args(ScorerName)

DEFAULT_PROMPT: dict[Edition, PromptName] = {"official": "paper", "shapes": "bare", "shapes-small": "bare"}
"""The embedded model was trained on bare questions and has never read the sentences that the others add."""

SINGLE_WORD = "Answer the question using a single word or phrase."
"""Source: LLaVA @ c121f043, VLMEvalKit @ e8e78f05 and lmms-eval @ 75571cfe, the same sentence in all three."""

PAPER_MAX_NEW_TOKENS = 512
"""Source: VLMEvalKit @ 8f2b1f0b (Nov 2024), the Janus wrapper; greedy, no system prompt."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a model is asked about an image."""

    text: str
    separator: str = "\n"
    """What stands between the image's placeholder and the text."""
    max_new_tokens: int = PAPER_MAX_NEW_TOKENS

    def request(self, images: Sequence[bytes]) -> TextRequest:
        """Ask it of images."""
        return TextRequest(question=self.text, images=images, separator=self.separator, max_new_tokens=self.max_new_tokens)

    @property
    def marked(self) -> str:
        """The text with ``<image>`` where the image stands, as recordings write it."""
        return f"<image>{self.separator}{self.text}"
