"""The one template environment: everything is escaped unless this file says otherwise, and an unknown name is an error."""

import base64
import hashlib
import json
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jfeval.reports.table import STANDINGS
from jfeval.reports.text import clean
from jfeval.schema import Json

_HERE = Path(__file__).resolve().parent


@cache
def environment() -> Environment:
    """Return the environment that draws every page."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    made.globals["standings"] = STANDINGS
    return made


def static(*names: str) -> Markup:
    """Return this package's own style sheets or parts of a script, one after another, to be inlined as they are."""
    parts = [(_HERE / "static" / name).read_text(encoding="utf-8").strip() for name in names]
    return Markup("\n".join(parts))  # noqa: S704 - our own files, no data in them


def script_of(*names: str) -> Markup:
    """Return a script whose parts see each other's names and which leaves none on the page."""
    return Markup('"use strict";\n(() => {\n') + static(*names) + Markup("\n})();")


def source_hash(content: str) -> str:
    """Return an inline block's hash as a content security policy states it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"


def policy(style: str, script: str) -> str:
    """Return the page's content security policy: this style, this script, inlined pictures, and no connection to anywhere."""
    return (
        f"default-src 'none'; img-src data:; style-src {source_hash(style)}; script-src {source_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def island(value: Json) -> Markup:
    r"""Return JSON that cannot end or leave its script element: ASCII only, with ``<``, ``>`` and ``&`` as escapes.

    >>> island("</script>&\u2028")
    Markup('"\\u003c/script\\u003e\\u0026\\u2028"')
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)  # noqa: S704 - escaped just above


def _finalize(value: object) -> object:
    """Make every printed text harmless before it is escaped."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
