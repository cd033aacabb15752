"""Loading with transformers and diffusers: whole or not at all, and with errors that a person can mend."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from jfeval.errors import UserError

T = TypeVar("T")

_SHOWN = 3


def attempt(folder: Path, kind: str, load: Callable[[], T]) -> T:
    """Load, and turn the libraries' errors into ours.

    Args:
        folder: What is loaded, for the message.
        kind: What it is to be.
        load: Loads it.

    Raises:
        UserError: It does not load.
    """
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"{folder} does not load as {kind}: {reason[:300]}") from error


def load_whole(folder: Path, kind: str, load: "partial[Any]") -> Any:  # noqa: ANN401 - a network of either library
    """Load a network of which no tensor is left as it was drawn at random; both libraries only warn of that.

    Args:
        folder: The network's folder, for the message.
        kind: What it is to be.
        load: A ``from_pretrained`` with its arguments.

    Raises:
        UserError: It does not load, lacks tensors, or has some of other shapes; names the first of them.
    """
    model, info = attempt(folder, kind, partial(load, output_loading_info=True, ignore_mismatched_sizes=True))
    if missing := sorted(map(str, info["missing_keys"])):
        raise UserError(f"{folder} lacks {len(missing)} tensors, such as {', '.join(missing[:_SHOWN])}; the download is not whole")
    if shapes := sorted(f"{name} {tuple(found)}, not {tuple(stated)}" for name, found, stated in info["mismatched_keys"]):
        raise UserError(
            f"{folder}: {len(shapes)} tensors have shapes that its config.json does not state, such as {'; '.join(shapes[:_SHOWN])}"
        )
    return model
