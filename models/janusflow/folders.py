"""Whole checkpoint folders: what is in one, and copies in the published form."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from jfeval.errors import UserError
from jfeval.models.janusflow.checkpoint import differences, tensor_table
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.names import POOL, published_shapes
from jfeval.models.janusflow.processing import TOKENIZER_FILES, SpecialTokens, load_processor, load_tokenizer
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TEXT_FILES = (*TOKENIZER_FILES, "tokenizer.model", "generation_config.json")
"""What a checkpoint's folder holds beside its weights, of the tokenizer and of answers."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a checkpoint holds, without its weights being read."""

    config: JanusFlowConfig
    parameters: Mapping[str, int]
    """Module to number of parameters, by the file."""
    unused: int
    """Parameters of the attention-pool head, which plays no part."""
    types: Mapping[str, int]
    """Type to number of tensors."""
    nbytes: int
    files: tuple[str, ...]
    problems: tuple[str, ...]
    """What does not fit: tensors by name, tokenizer and processor files."""


def summarize(folder: Path) -> Summary:
    """Look at a checkpoint folder.

    Raises:
        UserError: There is no ``config.json`` or no readable weights at all.
    """
    config = JanusFlowConfig.from_file(folder)
    with torch.device("meta"):
        expected = published_shapes(JanusFlow(config))
    table = tensor_table(folder)
    problems = differences(expected, table)
    try:
        load_processor(folder, config)
    except UserError as error:
        problems.append(str(error))
    parameters: Counter[str] = Counter()
    for name, info in table.items():
        parameters[name.split(".")[0]] += torch.Size(info.shape).numel()
    return Summary(
        config=config,
        parameters=dict(parameters),
        unused=sum(torch.Size(info.shape).numel() for name, info in table.items() if name.startswith(POOL)),
        types=dict(Counter(str(info.dtype).removeprefix("torch.") for info in table.values())),
        nbytes=sum(info.nbytes for info in table.values()),
        files=tuple(sorted({info.file.name for info in table.values()})),
        problems=tuple(problems),
    )


def with_special_tokens(texts: Path, out: Path) -> Path:
    """Write a language model's tokenizer with the special tokens it lacks added at the end, as the published processor adds them.

    Args:
        texts: Folder of the tokenizer.
        out: Where to write.

    Returns:
        ``out``.

    Raises:
        UserError: There is no ``tokenizer.json``, or one of the files is damaged.
    """
    tokenizer = load_tokenizer(texts)
    known = tokenizer.get_vocab()
    wanted = [token for token in asdict(SpecialTokens()).values() if token != SpecialTokens.begin]
    tokenizer.add_tokens([token for token in wanted if token not in known], special_tokens=True)
    tokenizer.save_pretrained(out)
    return out


def write_folder(
    model: JanusFlow, out: Path, *, texts: Path, vae: Path | None = None, dtype: torch.dtype | None = None, shard_bytes: int = 0
) -> None:
    """Write a model with its tokenizer and processor files as a checkpoint folder, and check that these belong to it.

    Args:
        model: The model.
        out: The folder; it must not hold a checkpoint already.
        texts: Folder of the tokenizer and processor files. What the published form has and they lack is written with our defaults.
        vae: Folder of the VAE, to be copied beside the model; None for the published form, which has none.
        dtype: Type to convert to; None keeps the types.
        shard_bytes: Largest weights file; 0 for the default.

    Raises:
        UserError: The files or the VAE are damaged or do not fit the model, or ``out`` holds a checkpoint; nothing is written then.
    """
    processor = load_processor(texts, model.config)
    if (out / "config.json").exists():
        raise UserError(f"{out} already holds a checkpoint; give another folder, or delete it first")
    if vae is not None:
        load_vae(vae, fits=model.config)
    out.mkdir(parents=True, exist_ok=True)
    for name in (*TEXT_FILES, *PROCESSOR_FILES):
        if (texts / name).is_file():
            shutil.copyfile(texts / name, out / name)
    for name, settings in zip(PROCESSOR_FILES, processor.published_settings(), strict=True):
        if not (out / name).exists():
            (out / name).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if vae is not None:
        shutil.copytree(vae, out / VAE_FOLDER, dirs_exist_ok=True)
    model.save_pretrained(out, dtype=dtype, shard_bytes=shard_bytes)
