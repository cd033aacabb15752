"""A checkpoint's weights as files: what is in them, loading with little memory, and saving in the published form.

Loading builds the model without memory and then takes its tensors from the files a few at a time, so that the peak stays near the
size of the weights. Names and shapes are compared with `config.json` before anything is read.
"""

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jfeval.errors import UserError
from jfeval.models.janusflow.names import POOL, published_shapes, stored_tensors, to_internal, to_published

if TYPE_CHECKING:
    from jfeval.models.janusflow.model import JanusFlow

SHARD_BYTES = 5_000_000_000
"""Largest weights file by default, so that the published 1.3B checkpoint stays one file."""
_AT_ONCE = 256 << 20
"""Bytes taken from the files before they are closed again: mapped pages count as memory until then."""
STEMS = ("model", "pytorch_model")
"""What transformers and the published checkpoint call their weights: the safetensors files, and the ``.bin`` ones."""
_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor of a checkpoint, as its file describes it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path
    stored: str
    """Its name in the file."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def weight_files(folder: Path, stems: tuple[str, str] = STEMS) -> list[Path]:
    """Find the weights of a checkpoint folder: one file, what an index lists, or ``model-*``; safetensors before ``.bin``.

    Args:
        folder: The checkpoint.
        stems: Names of the safetensors and of the ``.bin`` file without their endings.

    Raises:
        UserError: There are none, the index is damaged, or a file that it lists is missing; names it.
    """
    for stem, ending in zip(stems, (".safetensors", ".bin"), strict=True):
        single, index = folder / f"{stem}{ending}", folder / f"{stem}{ending}.index.json"
        if single.is_file():
            return [single]
        if index.is_file():
            return _indexed(index)
        if shards := sorted(folder.glob(f"{stem}-*{ending}")):
            return shards
    raise UserError(f"no weights in {folder}: expected {stems[0]}.safetensors, {stems[1]}.bin, or either in several files")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is no index of weights: it needs a weight_map of tensor names to file names") from error
    if strange := [name for name in names if Path(name).name != name or "\\" in name]:
        raise UserError(f"{index} names {strange[0]!r}, which is no file of its own folder")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise UserError(f"{index.parent} lacks {', '.join(missing[:5])} of the {len(names)} files that {index.name} lists")
    return [index.parent / name for name in names]


@contextmanager
def _opened(file: Path) -> Iterator[Mapping[str, Any]]:
    """Open a file of weights as a mapping of names to tensors, or to slices with a shape and a type; nothing is read yet.

    Raises:
        UserError: The file is truncated or of another kind.
    """
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as handle:
                yield _Slices(handle)
        else:
            content = torch.load(file, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(file))
            if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
                raise ValueError("it holds something else than a mapping of names to tensors")
            yield content
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as weights, it is truncated or of another kind; fetch it again: {str(error)[:300]}"
        ) from error


class _Slices(Mapping[str, Tensor]):
    """An open safetensors file; every look-up maps the tensor's bytes."""

    def __init__(self, handle: Any) -> None:  # noqa: ANN401 - a class of safetensors without a public type
        self.handle = handle

    def __getitem__(self, name: str) -> Tensor:
        return self.handle.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.handle.keys())

    def __len__(self) -> int:
        return len(self.handle.keys())


def tensor_table(folder: Path, stems: tuple[str, str] = STEMS) -> dict[str, TensorInfo]:
    """List every tensor of a checkpoint folder with shape and type; the weights themselves are not read.

    Args:
        folder: The checkpoint.
        stems: See `weight_files`.

    Raises:
        UserError: See `weight_files`; or a file is damaged, or holds a tensor that another one holds too.
    """
    table: dict[str, TensorInfo] = {}
    for file in weight_files(folder, stems):
        with _opened(file) as tensors:
            for name, tensor in tensors.items():
                if name in table:
                    raise UserError(f"{name} is stored twice, in {table[name].file.name} and {file.name}; delete the file of another save")
                table[name] = TensorInfo(shape=tuple(tensor.shape), dtype=tensor.dtype, file=file, stored=name)
                del tensor
    return table


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all weights of a checkpoint folder, under the names they are stored by.

    Raises:
        UserError: See `tensor_table`.
    """
    return {name: tensor.clone() for portion in mapped(tensor_table(folder)) for name, tensor in portion.items()}


def mapped(table: Mapping[str, TensorInfo]) -> Iterator[dict[str, Tensor]]:
    """Map a checkpoint's tensors, a portion of bounded size at a time; copy a portion and drop it before asking for the next.

    Args:
        table: What to map; its keys name the tensors in the result.
    """
    for names in _portions(table):
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(table[name].file, []).append(name)
        portion: dict[str, Tensor] = {}
        for file, wanted in by_file.items():
            with _opened(file) as tensors:
                portion.update({name: tensors[table[name].stored] for name in wanted})
        yield portion
        portion.clear()


def _portions(table: Mapping[str, TensorInfo]) -> Iterator[list[str]]:
    """Cut the names into portions of bounded size; the attention-pool head's are one portion, as `to_internal` needs them."""
    yield [name for name in table if name.startswith(POOL)]
    portion: list[str] = []
    for name, info in table.items():
        if name.startswith(POOL):
            continue
        if portion and sum(table[n].nbytes for n in portion) + info.nbytes > _AT_ONCE:
            yield portion
            portion = []
        portion.append(name)
    yield portion


def differences(expected: Mapping[str, Sequence[int]], table: Mapping[str, TensorInfo]) -> list[str]:
    """Compare the tensors of a checkpoint with the ones it should hold, by published name; an empty list means that they fit."""
    shapes = {name: list(shape) for name, shape in expected.items()}
    found = {name: list(info.shape) for name, info in table.items()}
    problems = [f"missing    {name} {shape}" for name, shape in shapes.items() if name not in found]
    problems += [f"unexpected {name} {shape}" for name, shape in found.items() if name not in shapes]
    both = [name for name in shapes if name in found]
    problems += [f"mis-shaped {name}: expected {shapes[name]}, found {found[name]}" for name in both if found[name] != shapes[name]]
    wrong = [name for name in both if not table[name].dtype.is_floating_point]
    return problems + [f"mis-typed  {name}: expected floating point, found {table[name].dtype}" for name in wrong]


def fitting_table(model: "JanusFlow", folder: Path) -> dict[str, TensorInfo]:
    """List the tensors of a checkpoint folder, once they are known to be the model's; the weights themselves are not read.

    Raises:
        UserError: See `tensor_table`; or tensors are missing, unexpected or of another shape; all are listed by their published names.
    """
    table = tensor_table(folder)
    check_fit(folder, table, published_shapes(model))
    return table


def check_fit(folder: Path, table: Mapping[str, TensorInfo], expected: Mapping[str, Sequence[int]]) -> None:
    """Compare the tensors of a checkpoint with the ones that a model needs.

    Args:
        folder: The checkpoint, for error messages.
        table: Its tensors.
        expected: Name to shape, under the table's names.

    Raises:
        UserError: Tensors are missing, unexpected or of another shape; all are listed.
    """
    if problems := differences(expected, table):
        count = f"{len(problems)} of {len(expected)} tensors"
        raise UserError(
            f"the weights in {folder} do not fit its config.json ({count}); take both from one checkpoint:{shortened(problems)}"
        )


def shortened(lines: Sequence[str]) -> str:
    """Return an indented list of bounded length."""
    more = f"\n  ... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "\n  ".join(["", *lines[:_SHOWN]]) + more


def load_weights(model: "JanusFlow", folder: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> None:
    """Give ``model``, which may be on the meta device, the weights of a published checkpoint, each in memory of its own.

    Args:
        model: The model; its present weights are dropped.
        folder: The checkpoint.
        dtype: Type to convert to; None keeps the stored types.
        device: Where to put the weights.

    Raises:
        UserError: See `fitting_table`; or tensors hold NaN or infinity.
    """
    fill(model, folder, tensor_table(folder), published_shapes(model), convert=to_internal, dtype=dtype, device=device)
    restore_buffers(model, device)


def fill(
    model: nn.Module,
    folder: Path,
    table: Mapping[str, TensorInfo],
    expected: Mapping[str, Sequence[int]],
    *,
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Compare a checkpoint's tensors with the ones that a model needs, then put copies of them into it.

    Args:
        model: May be on the meta device; the weights that it has are dropped.
        folder: The checkpoint, for error messages.
        table: Its tensors.
        expected: Name to shape, under the table's names.
        convert: From the table's names to the model's, a portion at a time.
        dtype: Type to convert to; None keeps the stored types.
        device: Where to put the weights.

    Raises:
        UserError: Tensors are missing, unexpected, of another shape or hold NaN or infinity; all are listed.
    """
    check_fit(folder, table, expected)
    broken = [name for portion in mapped(table) for name in assign(model, convert(portion), dtype=dtype, device=device)]
    if broken:
        raise UserError(f"the weights in {folder} hold NaN or infinity; the file is damaged or its training failed:{shortened(broken)}")


def assign(
    model: nn.Module, internal: Mapping[str, Tensor], *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> list[str]:
    """Put copies of tensors into the model, replacing its parameters; return the names of those that are not finite."""
    copies = {name: tensor.to(device=device, dtype=dtype or tensor.dtype, copy=True) for name, tensor in internal.items()}
    model.load_state_dict(copies, strict=False, assign=True)
    return [name for name, tensor in copies.items() if not all(bool(v.isfinite()) for v in tensor.aminmax())]


def restore_buffers(model: "JanusFlow", device: torch.device | str = "cpu") -> None:
    """Give a model built on the meta device what no checkpoint stores: position numbers, rotary frequencies, a tied output layer."""
    vision = model.vision_und_enc_model.vision_tower
    positions = torch.arange(vision.embeddings.num_positions, device=device)[None]
    vision.embeddings.register_buffer("position_ids", positions, persistent=False)
    model.restore_frequencies(device)
    if model.config.language.tie_word_embeddings:
        model.language_model.lm_head.weight = model.language_model.model.embed_tokens.weight


def save_weights(model: "JanusFlow", folder: Path, *, dtype: torch.dtype | None = None, shard_bytes: int = SHARD_BYTES) -> None:
    """Write weights in the published form: ``model.safetensors``, or several files and their index where one would be too large.

    Files get their names when all are written, so a killed save leaves the old weights readable; weights of an earlier save are then
    removed.

    Args:
        model: The model.
        folder: Where to write; made if it is missing.
        dtype: Type to convert to; None keeps the types in memory.
        shard_bytes: Largest file; a single larger tensor makes a file of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_published(stored_tensors(model))
    shards: list[list[str]] = [[]]
    size = total = 0
    for name, tensor in tensors.items():
        nbytes = tensor.numel() * (dtype or tensor.dtype).itemsize
        if shards[-1] and size + nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size, total = size + nbytes, total + nbytes
    one = len(shards) == 1
    files = ["model.safetensors" if one else f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        content = {name: tensors[name].detach().to(device="cpu", dtype=dtype or tensors[name].dtype).contiguous() for name in names}
        save_file(content, folder / f"{file}.part", metadata={"format": "pt"})
    for file in files:
        (folder / f"{file}.part").replace(folder / file)
    index = folder / "model.safetensors.index.json"
    if one:
        index.unlink(missing_ok=True)
    else:
        places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1) + "\n", encoding="utf-8")
    for stale in folder.glob("model*.safetensors"):
        if stale.name not in files:
            stale.unlink()
