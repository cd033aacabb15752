"""Prompt protocols and scorers: how a benchmark of understanding declares the first and is scored under the second.

A *prompt protocol* decides what the model is asked, so it is part of a run: the benchmark's setting ``prompt``, stated in the run's data
identity and thereby in its fingerprint. A *scorer* decides what an answer counts for; one set of stored outputs is scored under any of
them (``jfeval score RUN --protocol NAME``), so scorers are what `Benchmark.protocols` lists.

A benchmark declares both as tables::

    class Pope(Understanding):
        name = "pope"
        prompts = {"paper": _paper, "vlmevalkit": _vlmevalkit, ...}   # each makes a Prompt of a row
        protocols = ("llava", "official", "vlmevalkit-nov2024", ...)  # the first is the default
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

from jfeval.errors import UserError, unknown
from jfeval.schema import Edition, Judgement, Sample, TextRequest

PromptName: TypeAlias = Literal["paper", "vlmevalkit", "lmms-eval", "llava", "bare"]
PROMPTS: tuple[PromptName, ...] = get_args(PromptName)
"""``paper`` is the VLMEvalKit wrapper that the model's authors contributed; ``bare`` is the question alone."""

ScorerName: TypeAlias = Literal["vlmevalkit-nov2024", "vlmevalkit-head", "lmms-eval", "llava", "official"]
SCORERS: tuple[ScorerName, ...] = get_args(ScorerName)

DEFAULT_PROMPT: dict[Edition, PromptName] = {"official": "paper", "shapes": "bare"}
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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark of understanding asks."""

    prompt: str = ""
    """Prompt protocol: paper, vlmevalkit, lmms-eval, llava or bare; empty for paper (official edition) or bare (shapes)."""
    any_size: bool = False
    """Take official data of another size than the published one, for example a part of it."""

    def __post_init__(self) -> None:
        if self.prompt and self.prompt not in PROMPTS:
            raise unknown("prompt", self.prompt, PROMPTS)


_DEFAULTS = Settings()


class Understanding:
    """What benchmarks of understanding have in common; see `jfeval.benchmarks.base.Benchmark`."""

    name: ClassVar[str]
    editions: tuple[Edition, ...] = ("official", "shapes")
    protocols: tuple[str, ...]
    prompts: ClassVar[Sequence[PromptName]] = PROMPTS
    data_forms: ClassVar[str] = ""
    """The published forms that a data folder may hold and what gets them, for messages."""

    def __init__(self, settings: Settings = _DEFAULTS) -> None:
        """Check that the benchmark has the prompt.

        Raises:
            UserError: It has not.
        """
        self.settings = settings
        if self.settings.prompt and self.settings.prompt not in self.prompts:
            raise unknown(f"prompt of {self.name}", self.settings.prompt, self.prompts)

    def prompt_of(self, edition: Edition) -> PromptName:
        """Return the prompt protocol in use: the setting, or the edition's own."""
        return self.settings.prompt or DEFAULT_PROMPT[edition]  # pyright: ignore[reportReturnType]  checked in Settings

    def judge(self, edition: Edition) -> None:  # noqa: ARG002
        """Answers are scored as they are."""
        return

    def check_edition(self, edition: Edition) -> None:
        """Raise UserError where the benchmark lacks the edition."""
        if edition not in self.editions:
            raise unknown(f"edition of {self.name}", edition, self.editions)

    def data_folder(self, data: Path | None) -> Path:
        """Return the folder of official data, which must be named and be there."""
        if data is None or not data.is_dir():
            what = "needs --data FOLDER" if data is None else f"needs a data folder, and {data} is none"
            forms = f" It holds {self.data_forms}." if self.data_forms else ""
            raise UserError(f"{self.name}'s official edition {what}.{forms} Or use --edition shapes, which needs no data.")
        return data

    def check_no_data(self, data: Path | None) -> None:
        """Raise UserError where a data folder is named for the shapes edition."""
        if data is not None:
            raise UserError(f"the shapes edition draws its questions from the seed and reads no data; leave out --data {data}")

    def check_protocol(self, protocol: str) -> None:
        """Raise UserError where the benchmark has no such scorer."""
        if protocol not in self.protocols:
            raise unknown(f"protocol of {self.name}", protocol, self.protocols)


def answer_text(sample: Sample, judgement: Judgement) -> str:
    """Return the stored answer of a sample.

    Raises:
        UserError: There is not exactly one answer.
    """
    found = [observation.get("text") for observation in judgement.observations]
    if len(found) != 1 or not isinstance(found[0], str):
        raise UserError(f"sample {sample.id}: expected one stored answer, found {len(found)} observations; run it again with --overwrite")
    return found[0]
