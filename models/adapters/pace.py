"""How fast a server may be asked, and how long to wait before it is asked again."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds before the second try, and the most that pauses grow to where the server names none."""
_WORTH_A_WORD = 60.0
"""Longer pauses, in seconds, are logged: somebody may be waiting beside them."""


class Pace:
    """Spaces the beginnings of requests evenly, whichever thread makes them and whether they are first tries or later ones.

    Args:
        per_minute: Most requests begun in a minute; 0 for as many as come.
    """

    def __init__(self, per_minute: int) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._lock, self._next, self._left = threading.Lock(), 0.0, threading.Event()

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """While the block runs its requests are wanted: left by an exception (Ctrl-C), it ends all waiting, in whichever thread."""
        self._left.clear()
        try:
            yield
        except BaseException:
            self._left.set()
            raise

    def wait(self) -> None:
        """Return when the next request may begin.

        Raises:
            CancelledError: Nobody wants it any more.
        """
        seconds = 0.0
        if self._gap:
            with self._lock:
                begin = max(self._next, time.monotonic())
                self._next = begin + self._gap
            seconds = begin - time.monotonic()
        if self._left.wait(max(0.0, seconds)):
            raise CancelledError

    def ask(self, call: Callable[[], T], *, tries: int, again: Callable[[Exception], Mapping[str, str] | None]) -> T:
        """Call until it succeeds; every try is paced.

        Args:
            call: One request.
            tries: How often it is made at most.
            again: Given what it raised, returns the headers of the server's reply (empty where there was none), or None where another
                try would be of no use.

        Raises:
            Exception: What the last try raised; the last before nobody wanted it any more, see `wanted`.
        """
        for done in range(1, tries + 1):
            self.wait()
            try:
                return call()
            except Exception as error:
                headers = again(error)
                if headers is None or done == tries:
                    raise
                seconds = pause(done, retry_after(headers))
                if seconds > _WORTH_A_WORD:
                    log.warning("the server asks for a pause of %.0f seconds before the next try", seconds)
                if self._left.wait(seconds):
                    raise
        raise ValueError(f"tries must be at least 1, not {tries}")


def pause(tries: int, asked: float | None) -> float:
    """Return how many seconds to wait after so many tries: what the server asks, in full, else twice as long each time.

    A part that is drawn at random is added, so that requests that failed together do not come back together.
    """
    seconds = min(FIRST_PAUSE * 2.0 ** min(tries - 1, 30), LONGEST_PAUSE) if asked is None else asked
    return seconds * random.uniform(1.0, 1.25 if asked is None else 1.05)  # noqa: S311  no secret


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a reply asks to wait for; None where it states nothing that can be read.

    Source: RFC 9110, section 10.2.3 (seconds or a date); ``retry-after-ms`` is OpenAI's own.

    >>> retry_after({"retry-after": "90"})
    90.0
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None
