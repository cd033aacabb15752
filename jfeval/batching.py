"""How many images or questions go to the model together, where the person leaves that to the program."""

from collections.abc import Sequence

from jfeval.schema import ImageRequest, Sample

AUTOMATIC = 0
"""The batch size that asks for this."""
USUAL = 16
"""Taken where nothing else is said, and where memory cannot be measured."""
LARGEST = 512
_SHARE = 0.8
"""Of the free memory: allocators fragment, and attention grows faster than the batch's longest item says."""


def longest(rows: Sequence[tuple[int, Sample]]) -> tuple[int, Sample]:
    """Return the sample whose single item is expected to take most memory: the one with most images to look at, then with most text."""

    def weight(row: tuple[int, Sample]) -> tuple[int, int]:
        request = row[1].request
        if isinstance(request, ImageRequest):
            return 0, len(request.prompt)
        return len(request.images), len(request.question) + len(request.system) + max(map(len, request.options), default=0)

    return max(rows, key=weight)


def batch_size_for(measured: tuple[int, int] | None) -> int:
    """Return the largest power of two of items that fit into 80 % of the free memory.

    Args:
        measured: Bytes that one item took and bytes that were free; None where that is not known.

    >>> batch_size_for((1_000, 100_000)), batch_size_for((1_000, 500)), batch_size_for(None)
    (64, 1, 16)
    """
    if measured is None:
        return USUAL
    used, free = measured
    fitting = int(_SHARE * free / max(used, 1))
    return min(LARGEST, 1 << max(fitting, 1).bit_length() - 1)
