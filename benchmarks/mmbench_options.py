"""Which option an answer to a multiple-choice question names, by the rules of each published scorer.

Every rule set works in two steps: a *letter* rule looks for an option's letter, and where it finds none a *text* rule looks for an
option's text. What neither finds goes to a language model in the published tools; here, as in their "exact matching" mode, it counts as
wrong, and it is counted.

Source: open-compass/VLMEvalKit @ 8f2b1f0b (Nov 2024) and @ e8e78f05 (HEAD), vlmeval/utils/matching_util.py;
EvolvingLMMs-Lab/lmms-eval @ 75571cfe, tasks/mmbench/mmbench_evals.py.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jfeval.errors import unknown

OptionRules: TypeAlias = Literal["vlmevalkit-nov2024", "vlmevalkit-head", "lmms-eval"]
OPTION_RULES: tuple[OptionRules, ...] = get_args(OptionRules)

Choices: TypeAlias = Mapping[str, str]
"""The options of a row that has them: letter to text, in order."""

REFUSED = "Z"
"""What a refusal counts as: never an option, so always wrong."""

API_FAILURE = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
"""Phrases that VLMEvalKit takes for a refusal wherever they stand. Source: VLMEvalKit @ e8e78f05, can_infer_option."""

_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_TOKENS = 4
"""HEAD wants the letter's first occurrence this near to the end. Source: VLMEvalKit @ c3371551."""
_STATED = re.compile(r"answer\s+is\s+\**([a-d])", re.IGNORECASE)
"""HEAD's last resort, without a word boundary: "the answer is dog" states D. Source: VLMEvalKit @ a67ace50."""
_LMMS_LETTERS = "ABCDE"
_LMMS_TEXTS = "ABCD"
_LMMS_ARTICLE_TOKENS = 3
_DECORATIONS = (
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
)
"""What lmms-eval accepts around a letter, tried in this order. Source: lmms-eval @ 75571cfe, mmbench_evals.py, can_infer_option."""
_ABSENT = "nan"
"""How lmms-eval's data set spells an option that a row lacks."""

NA_TOKENS = frozenset(
    [
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
"""Cells that pandas reads as missing. Source: pandas 2.x, pandas.read_csv, default of `na_values`."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What a rule set makes of one answer."""

    letter: str = ""
    """An option's letter, `REFUSED`, or nothing."""
    by: Literal["letter", "text", "refusal", "nothing"] = "nothing"
    ambiguous: bool = False
    """Nothing was inferred because more than one option fits."""

    @property
    def final(self) -> str:
        """What the answer counts as without a judge: `REFUSED` where nothing was inferred."""
        return self.letter or REFUSED


def infer(answer: str, choices: Choices, rules: OptionRules) -> Inference:
    """Infer the option that an answer names.

    Args:
        answer: The model's text as the scorer sees it: `as_stored` first for VLMEvalKit. lmms-eval strips it.
        choices: The row's options.
        rules: Whose rules.

    Raises:
        UserError: Unknown rules.
    """
    letters = letter_candidates(answer, choices, rules)
    if len(letters) == 1:
        return Inference(letter=letters[0], by="refusal" if letters[0] == REFUSED else "letter")
    texts = text_candidates(answer, choices, rules)
    if len(texts) == 1:
        return Inference(letter=texts[0], by="text")
    return Inference(ambiguous=len(letters) > 1 or len(texts) > 1)


def letter_candidates(answer: str, choices: Choices, rules: OptionRules) -> Sequence[str]:
    """List the letters that the letter rule finds: it infers one exactly where it finds one."""
    if rules == "vlmevalkit-nov2024":
        return _vlmevalkit_letters(answer, choices)
    if rules == "vlmevalkit-head":
        return _head_letters(answer, choices)
    if rules == "lmms-eval":
        return _lmms_letters(answer.strip())
    raise unknown("option rules", rules, OPTION_RULES)


def text_candidates(answer: str, choices: Choices, rules: OptionRules) -> Sequence[str]:
    """List the letters of the options whose text occurs in the answer, case ignored; the text rule infers where there is one."""
    if rules == "lmms-eval":
        choices = {letter: choices.get(letter, _ABSENT) for letter in _LMMS_TEXTS}
        answer = answer.strip()
    lowered = answer.lower()
    if rules == "vlmevalkit-head" and len(lowered) > 2 * sum(map(len, choices.values())):
        return ()
    return [letter for letter, text in choices.items() if text.lower() in lowered]


def as_stored(answer: str) -> str:
    """Return an answer as VLMEvalKit's scorer reads it back from its spreadsheet.

    A cell that pandas takes for missing becomes "nan", and so does a formula, which has no value until a spreadsheet program computes it.

    >>> as_stored(""), as_stored("None"), as_stored("None of these"), as_stored("=no")
    ('nan', 'nan', 'None of these', 'nan')

    Source: open-compass/VLMEvalKit @ e8e78f05: predictions go through an .xlsx file, and the scorer takes `str` of each cell.
    """
    return "nan" if answer in NA_TOKENS or (answer.startswith("=") and answer != "=") else answer


def _vlmevalkit_letters(answer: str, choices: Choices) -> Sequence[str]:
    """Return the distinct letters that stand as tokens; the refusal's where the answer refuses."""
    if API_FAILURE in answer:
        return ()
    if any(phrase in answer for phrase in REFUSALS):
        return (REFUSED,)
    tokens = answer.translate(_SPACED).split()
    found = _present(choices, tokens)
    return (REFUSED,) if not found and REFUSED in tokens else found


def _head_letters(answer: str, choices: Choices) -> Sequence[str]:
    """Ask for a letter near the end of the answer; failing that, for one that the words "answer is" precede."""
    found = _vlmevalkit_letters(answer, choices)
    if API_FAILURE in answer or found == (REFUSED,):
        return found
    if len(found) == 1:
        tokens = answer.translate(_SPACED).split()
        if tokens.index(found[0]) >= len(tokens) - _LAST_TOKENS:
            return found
    stated = _STATED.search(answer)
    if stated and stated[1].upper() in choices:
        return (stated[1].upper(),)
    return found if len(found) > 1 else ()


def _lmms_letters(answer: str) -> Sequence[str]:
    """Look for a bare letter, then for letters decorated in one of the known ways; A to E whatever the row has."""
    if API_FAILURE in answer:
        return ()
    tokens = answer.split()
    bare = _present(_LMMS_LETTERS, tokens)
    if len(bare) == 1 and not (bare == ["A"] and len(tokens) > _LMMS_ARTICLE_TOKENS):
        return bare
    several = bare if len(bare) > 1 else []
    for before, after in _DECORATIONS:
        found = _present(_LMMS_LETTERS, tokens, before, after)
        if len(found) == 1:
            return found
        several = several or found
    return several


def _present(letters: Iterable[str], tokens: Sequence[str], before: str = "", after: str = "") -> list[str]:
    return [letter for letter in letters if f"{before}{letter}{after}" in tokens]
