"""How fast a server may be asked."""

import threading
import time


class Pace:
    """Spaces the beginnings of requests evenly, whichever thread makes them.

    Args:
        per_minute: Most requests begun in a minute; 0 for as many as come.
    """

    def __init__(self, per_minute: int) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Return when the next request may begin."""
        if not self._gap:
            return
        with self._lock:
            begin = max(self._next, time.monotonic())
            self._next = begin + self._gap
        time.sleep(max(0.0, begin - time.monotonic()))
