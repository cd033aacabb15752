"""Ready images and answers in the place of a model: found, and checked against what is asked. Part of `jfeval.cli`; imports inside."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.console import clean

if TYPE_CHECKING:
    from jfeval.benchmarks.base import Benchmark
    from jfeval.models.base import Model
    from jfeval.schema import Sample
    from jfeval.settings import RunSettings

READY = ("folder", "answers")
"""Models that hand out what was made elsewhere: every sample is tried, and one that is missing is no reason to stop."""


def ready_loader(settings: "RunSettings", benchmark: "Benchmark") -> "Callable[[], Model] | None":
    """Check ready images or answers against what is asked, before anything is written, and return what loads them.

    None where the model's name and settings do: for answers, for any other model, and where no place is given, which loading will say.

    Raises:
        UserError: There is nothing of the benchmark at the place, or answers are missing, too many or given twice.
    """
    path = settings.model_settings.get("path")
    if settings.model not in READY or path is None:
        return None
    if settings.model == "answers":
        _check_answers(Path(path), settings, benchmark)
        return None
    return _ready_images(Path(path), settings, benchmark)


def place_of(model: str, path: Path, benchmark: str) -> Path:
    """Return where the ready images or answers of one of several benchmarks are: PATH/BENCHMARK, or PATH/BENCHMARK.jsonl (or .json)."""
    if model == "folder":
        return path / benchmark
    names = (f"{benchmark}.jsonl", f"{benchmark}.json", benchmark)
    return next((found for name in names if (found := path / name).is_file()), path / names[0])


def _ready_images(folder: Path, settings: "RunSettings", benchmark: "Benchmark") -> "Callable[[], Model]":
    """Find ready images and say on standard error which are of no prompt."""
    from jfeval.plan import make_plan, request_size

    rows = make_plan(settings, benchmark).rows
    model = _open_images(folder, benchmark, rows)
    extra = model.strangers({row: request_size(sample) for row, sample in rows})  # pyright: ignore[reportAttributeAccessIssue]
    if extra and settings.limit is None:  # else most are of prompts that were left out
        names = ", ".join(repr(name[:60]) for name in extra[:5]) + (", ..." if len(extra) > 5 else "")
        click.echo(clean(f"{len(extra)} images are of no prompt and are not looked at: {names}"), err=True)
    return partial(_open_images, folder, benchmark, rows)  # can be sent to workers, which a model need not


def _open_images(folder: Path, benchmark: "Benchmark", rows: "Sequence[tuple[int, Sample]]") -> "Model":
    """List ready images, numbered by prompt or in the benchmark's own layout."""
    from jfeval.registry import load_model

    own = getattr(benchmark, "ready", None)
    numbered = any(re.fullmatch(r"[0-9]{1,12}", path.parent.name) for path in folder.glob("*/samples")) if folder.is_dir() else False
    return load_model("folder", path=folder) if own is None or numbered else own(folder, rows)


def _check_answers(path: Path, settings: "RunSettings", benchmark: "Benchmark") -> None:
    """Say before anything is written that answers are missing, too many or given twice; a limited run needs those it asks."""
    from jfeval.models.adapters.answers import check_ids, read_answers
    from jfeval.plan import make_plan

    answers = read_answers(path)
    asked = [sample.id for _, sample in make_plan(settings, benchmark).rows]
    if settings.limit is not None:
        left_out = {sample.id for _, sample in make_plan(replace(settings, limit=None), benchmark).rows} - set(asked)
        answers = {key: text for key, text in answers.items() if key not in left_out}
    check_ids(path, answers, asked)
