"""Errors that a person caused and a person can mend."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""The system's words for a disk that is full or cannot be written."""


class UserError(Exception):
    """Bad input. The message names the cause and the mend; the command line prints it without a traceback and exits with 2."""


class BadRequest(UserError):  # noqa: N818
    """One request that cannot be carried out, such as a question that is too long; others can. A run stores it as its sample's failure."""


def ends_run(error: BaseException) -> bool:
    """Tell whether an error is of the whole run: bad input that is not of one request."""
    return isinstance(error, UserError) and not isinstance(error, BadRequest)


def unknown(kind: str, value: str, allowed: Iterable[str]) -> UserError:
    """Build the error for a name that is not known: what is allowed, and the nearest name.

    >>> str(unknown("benchmark", "genevl", ["geneval", "pope"]))
    "unknown benchmark 'genevl'; did you mean 'geneval'? Known: geneval, pope"
    """
    names = sorted(allowed)
    near = get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return UserError(f"unknown {kind} {value!r}{hint} Known: {', '.join(names) or 'none'}")
