"""How each published tool words a multiple-choice question, MMBench's and SEED-Bench's.

Source: open-compass/VLMEvalKit @ e8e78f05, dataset/image_mcq.py (``vlmevalkit``) and vlm/janus.py (``paper``, unchanged in wording since
f4646f72); EvolvingLMMs-Lab/lmms-eval @ 75571cfe, tasks/mmbench and tasks/seedbench; haotian-liu/LLaVA @ c121f043,
llava/eval/model_vqa_mmbench.py and model_vqa_loader.py.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from jfeval.benchmarks.understanding.protocols import Prompt, PromptName
from jfeval.errors import unknown

Kind: TypeAlias = Literal["mmbench-en", "mmbench-cn", "seed"]

LETTER = "Answer with the option's letter from the given choices directly."
"""Source: LLaVA @ c121f043, VLMEvalKit @ e8e78f05 and lmms-eval @ 75571cfe, the same sentence in all three."""
SELECT = "Please select the correct answer from the options above. \n"
"""Source: VLMEvalKit @ e8e78f05, ImageMCQDataset.build_prompt."""
LMMS_LETTER_CN = "请直接使用所提供的选项字母作为答案回答。"
"""Source: lmms-eval @ 75571cfe, tasks/mmbench/cn_utils.py."""
LLAVA_LETTER_CN = "请直接回答选项字母。"
"""Source: haotian-liu/LLaVA, llava/eval/model_vqa_mmbench.py; read, not recorded."""

_LMMS_NEW_TOKENS: Mapping[Kind, int] = {"mmbench-en": 1024, "mmbench-cn": 256, "seed": 1024}
"""seedbench names none; 1024 is the default of lmms-eval's LLaVA adapter."""
_LLAVA_NEW_TOKENS: Mapping[Kind, int] = {"mmbench-en": 1024, "mmbench-cn": 1024, "seed": 128}
_BARE_NEW_TOKENS = 32


def choice_prompt(kind: Kind, name: PromptName, question: str, options: Mapping[str, str], hint: str = "") -> Prompt:
    """Word one question.

    Args:
        kind: The data set, because tools word them differently.
        name: Whose words.
        question: As published.
        options: Letter to text, in order.
        hint: What is to be known beforehand; empty for nothing.

    Raises:
        UserError: An unknown prompt.
    """
    lines = "".join(f"{letter}. {text}\n" for letter, text in options.items())
    if name == "paper":
        return Prompt(text=f"{_hint_line(hint)}{question}\n{lines}\n{LETTER}")
    if name == "vlmevalkit":
        return Prompt(text=f"{_hint_line(hint)}Question: {question}\nOptions:\n{lines}{SELECT}", separator="")
    if name == "lmms-eval":
        return Prompt(text=_lmms_text(kind, question, lines, hint), separator="", max_new_tokens=_LMMS_NEW_TOKENS[kind])
    if name == "llava":
        ask = LLAVA_LETTER_CN if kind == "mmbench-cn" else LETTER
        shown = "".join(f"{letter}. {text}\n" for letter, text in _until_gap(options).items())
        return Prompt(
            text=f"{hint}\n{question}\n{shown}{ask}" if hint else f"{question}\n{shown}{ask}", max_new_tokens=_LLAVA_NEW_TOKENS[kind]
        )
    if name == "bare":
        return Prompt(text=f"{hint}\n{question}" if hint else question, max_new_tokens=_BARE_NEW_TOKENS)
    raise unknown("prompt of a multiple-choice question", name, ("paper", "vlmevalkit", "lmms-eval", "llava", "bare"))


def _hint_line(hint: str) -> str:
    return f"Hint: {hint}\n" if hint else ""


def _lmms_text(kind: Kind, question: str, lines: str, hint: str) -> str:
    """Word a question as lmms-eval does; for Chinese it puts the word "nan" where there is no hint."""
    if kind == "seed":
        return f"{question}\n{lines}{LETTER}"
    if kind == "mmbench-cn":
        return f"{hint or 'nan'} {question} There are several options:\n{lines}\n{LMMS_LETTER_CN}"
    return (
        f"{hint} {question} There are several options:\n{lines}\n{LETTER}"
        if hint
        else f"{question} There are several options:\n{lines}\n{LETTER}"
    )


def _until_gap(options: Mapping[str, str]) -> dict[str, str]:
    """Keep the options up to the first letter that is missing: LLaVA reads no further."""
    kept: dict[str, str] = {}
    for letter, expected in zip(options, "ABCD", strict=False):
        if letter != expected:
            break
        kept[letter] = options[letter]
    return kept
