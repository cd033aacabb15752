"""Keeping tokens and keys out of run folders and logs."""

import os
import re
from collections.abc import Mapping

from jfeval.errors import UserError

HIDDEN = "[secret]"

_NAME = re.compile(r"(^|[_-])(token|key|secret|password|passwd|passphrase|credentials?)s?$", re.IGNORECASE)
_SHORTEST = 8
"""A shorter value is no key, and replacing it would garble ordinary words."""
_KNOWN_FORMS = re.compile(
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/-]{8,}=*|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
"""Keys of hubs and APIs, bearer headers, and a name with a password inside an address."""


def hide(text: str) -> str:
    """Return text without the values of environment variables that are named like secrets, and without what has the form of a key.

    >>> hide("Authorization: Bearer abcdefgh12345")
    'Authorization: Bearer [secret]'
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAME.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return _KNOWN_FORMS.sub(HIDDEN, text)


def check_no_secrets(settings: Mapping[str, object], where: str) -> None:
    """Refuse settings that would write a secret into the run folder.

    Raises:
        UserError: A setting is named like a secret and is given, or a value has the form of one.
    """
    for key, value in settings.items():
        if isinstance(value, Mapping):
            check_no_secrets(value, f"{where}.{key}")
        elif isinstance(value, str) and value and (_NAME.search(key) or hide(value) != value):
            raise UserError(
                f"{where}.{key} would be stored with the run, and it looks like a secret. Give secrets by environment variables "
                "(such as HF_TOKEN), which are never stored."
            )
