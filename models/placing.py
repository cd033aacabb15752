"""Where a model runs and in which type: names that settings hold, checked without torch where they can be."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from jfeval.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


def check_device(device: str) -> None:
    """Raise UserError where ``device`` is no device of this machine."""
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise unknown("device", device, ("auto", "cpu", "cuda", "cuda:N")) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} asks for a GPU, but torch sees none here; use device=cpu or device=auto")


def choose_device(device: str) -> str:
    """Turn ``auto`` into a device."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(dtype: Dtype, device: str) -> "torch.dtype":
    """Turn a name into a type; ``auto`` is bfloat16 on a GPU and float32 elsewhere.

    Args:
        dtype: The setting.
        device: What `choose_device` returned.
    """
    import torch

    if dtype == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
