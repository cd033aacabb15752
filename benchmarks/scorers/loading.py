"""Loading transformers' networks without its reports and bars: what is missing or too much is judged by the caller, and said once."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL
from typing import Any


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers' log below errors, and its progress bars."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_quietly(network: Any, source: Any, **options: Any) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401 - a class of transformers
    """Call a network's ``from_pretrained`` and return the network with the report of what was missing, too much or of another size."""
    with quietly():
        return network.from_pretrained(source, output_loading_info=True, **options)
