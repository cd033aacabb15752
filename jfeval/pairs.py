"""How a text names a pair of a colour and a shape: writers of worlds and readers of training data look for the same forms."""

import re
from functools import cache


@cache
def pair_pattern(pairs: frozenset[tuple[str, str]]) -> re.Pattern[str]:
    """Build the pattern that finds every (colour, shape) of ``pairs`` in a text, in any case; without pairs it finds nothing.

    Found are both words side by side, the shape perhaps in the plural (``purple circles``), and questions that put the shape first:
    ``Is the circle purple?``, ``Is the circle red or purple?``.
    """
    forms = [form for color, shape in sorted(pairs) for form in _forms(re.escape(color), re.escape(shape))]
    return re.compile("|".join(forms) or r"(?!)", re.IGNORECASE)


def _forms(color: str, shape: str) -> tuple[str, str]:
    return rf"\b{color}\s+{shape}", rf"\bis\s+the\s+{shape}\s+(?:\w+\s+or\s+)?{color}\b"
