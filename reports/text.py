"""Words and untrusted text: names as people read them, and strings made harmless for any drawing."""

import re
import unicodedata
from collections.abc import Mapping

from jfeval.schema import Edition

MAX_TEXT = 2000
"""Longest untrusted text that a report shows, in characters."""

_BENCHMARKS = {
    "geneval": "GenEval",
    "geneval-heldout": "GenEval on held-out compositions",
    "dpg": "DPG-Bench",
    "mjhq": "MJHQ-30K",
    "mmbench": "MMBench",
    "seed": "SEED-Bench",
    "gqa": "GQA",
    "pope": "POPE",
}

_SHORT = {"fid": "FID", "kid": "KID", "clip": "CLIP"}
_SIZE = re.compile(r"\bFID ([0-9]+k?)\b")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def clean(text: str, limit: int = MAX_TEXT) -> str:
    r"""Replace what no page or terminal should be sent, and cut what is too long.

    Control characters (terminal escapes among them), lone surrogates and marks that reverse the direction of writing become U+FFFD;
    tab and newline stay.

    >>> clean("a\x1b[31mb")
    'a�[31mb'
    >>> clean("abcdef", limit=4)
    'abc…'
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _NOT_TEXT.sub("�", text)


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    r"""Clean a text and fold every run of white space into one space.

    >>> one_line(" a\n b\tc ")
    'a b c'
    """
    return " ".join(clean(text, limit).split())


def benchmark_label(name: str) -> str:
    """Return a benchmark's name as papers write it.

    >>> benchmark_label("geneval")
    'GenEval'
    """
    return _BENCHMARKS.get(name, clean(name, 80))


def label(name: str) -> str:
    """Return a task's or metric's name as people read it.

    >>> label("two_object"), label("fid_30k_corrected")
    ('two object', 'FID-30k corrected')
    """
    words = " ".join(_SHORT.get(word, word) for word in name.replace("_", " ").split(" "))
    return one_line(_SIZE.sub(r"FID-\1", words), 80)


def edition_words(edition: Edition | str, *benchmarks: str) -> str:
    """Say in plain words what an edition is and what its numbers may be compared with.

    >>> edition_words("shapes", "gqa", "pope")
    'shapes: an embedded synthetic world, not comparable with published GQA or POPE numbers'
    """
    names = [benchmark_label(benchmark) for benchmark in benchmarks]
    name = " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
    words = {
        "shapes": f"shapes: an embedded synthetic world, not comparable with published {name} numbers",
        "shapes-small": f"shapes-small: an easier synthetic world for sweeps of trainings, comparable with no other {name} numbers",
        "official": f"official: the published {name} data, judged by its published rules",
    }
    return words.get(edition, f"{clean(edition, 80)}: an edition that this report does not know; compare only with itself")


def width(text: str) -> int:
    """Return how many terminal columns a text takes: two for wide East Asian characters, none for combining marks."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return a nested mapping as dotted keys and texts, in its own order.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}, "d": None})
    {'a.b': '1', 'a.c': '1, 2', 'd': '–'}
    """
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            flat |= flatten({str(i): item for i, item in enumerate(value)}, f"{name}.")
        else:
            flat[name] = _plain(value)
    return flat


def _plain(value: object) -> str:
    """Return a leaf of a JSON tree as people read it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value) or "–"
    return str(value)
