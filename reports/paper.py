"""Numbers that papers print, for rows of reference beside measured ones. They are quoted, never measured here."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

_HIDDEN = "ablation-"
"""Rows of the paper's ablation table belong to the ablation report."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a printed number stands among ours."""

    protocol: str
    name: str
    task: str = ""
    scale: float = 100.0
    """What the paper's number is divided by; ours are fractions."""


_NAMES_ON_THE_HUB: Mapping[str, str] = {
    "llava-1.5-7b-hf": "LLaVA-v1.5",
    "stable-diffusion-xl-base-1.0": "SDXL",
    "stable-diffusion-v1-5": "SDv1.5",
    "stable-diffusion-2-1": "SDv2.1",
    "PixArt-XL-2-1024-MS": "PixArt-alpha",
    "PixArt-Sigma-XL-2-1024-MS": "PixArt-Sigma",
    "playground-v2.5-1024px-aesthetic": "Playground v2.5",
    "HunyuanDiT-Diffusers": "Hunyuan-DiT",
    "Lumina-Next-SFT-diffusers": "Lumina-Next",
    "Emu3-Chat-hf": "Emu3-Chat",
}
"""Where a printed model is called otherwise than in print."""

_TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

PLACES: Mapping[tuple[str, str], Place] = {
    ("geneval", "overall"): Place(protocol="official", name="overall", scale=1.0),
    **{("geneval", task): Place(protocol="official", name="task", task=task, scale=1.0) for task in _TASKS},
    ("dpg", "overall"): Place(protocol="official", name="overall"),
    **{("dpg", name): Place(protocol="official", name="l1", task=name) for name in ("global", "entity", "attribute", "relation", "other")},
    ("pope", "paper"): Place(protocol="vlmevalkit-nov2024", name="f1", task="random"),
    ("gqa", "accuracy"): Place(protocol="official", name="accuracy"),
    ("seed", "image"): Place(protocol="vlmevalkit-nov2024", name="accuracy"),
    ("mmbench", "dev"): Place(protocol="vlmevalkit-nov2024", name="vanilla_all_rows"),
    ("mjhq", "fid_30k"): Place(protocol="gigagan", name="fid_30k", scale=1.0),
    ("coco", "fid_30k"): Place(protocol="gigagan", name="fid_30k", scale=1.0),
    ("mmbench", "circular"): Place(protocol="vlmevalkit-nov2024", name="circular"),
}
"""What the papers quote and which of our numbers it is to be held against; the scorers are those their authors used, as far as known."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One model's printed numbers on one benchmark."""

    model: str
    values: Mapping[tuple[str, str], float]
    """(metric name, task) to a number on our scale."""
    source: str


def references(benchmark: str, edition: str, protocol: str) -> list[Reference]:
    """Return what papers print for a benchmark, in the order of the committed table; nothing for data that no paper has.

    Args:
        benchmark: Its name; MMBench's Chinese half and held-out variants have no printed numbers.
        edition: Only ``official`` numbers are printed anywhere.
        protocol: The scorer whose numbers are shown.
    """
    if edition != "official":
        return []
    found: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for row in _printed():
        place = PLACES.get((row["benchmark"], row["metric"]))
        if row["benchmark"] != benchmark or place is None or place.protocol != protocol or row["model"].startswith(_HIDDEN):
            continue
        found.setdefault((row["model"], row["source"]), {})[place.name, place.task] = float(row["value"]) / place.scale
    return [Reference(model=model, values=values, source=source) for (model, source), values in found.items()]


def printed_models() -> list[str]:
    """List the models that have printed numbers, in the order of the committed table."""
    return list(dict.fromkeys(row["model"] for row in _printed() if not row["model"].startswith(_HIDDEN)))


def printed_as(place: str) -> str:
    """Return the printed model that a hub id or a path is of by its last name, with or without a size; empty where it is of none.

    >>> printed_as("deepseek-ai/JanusFlow-1.3B"), printed_as("images/show-o"), printed_as("mine/llava")
    ('JanusFlow', 'Show-o', '')
    """
    models = printed_models()
    known = {_letters(other): model for other, model in _NAMES_ON_THE_HUB.items()}
    for row in _printed():
        if row["model"] in models:
            known |= {_letters(row["model"]): row["model"], _letters(row["model"] + row["params"]): row["model"]}
    return known.get(_letters(Path(place).name), "")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def ablation_rows() -> dict[str, dict[tuple[str, str], float]]:
    """Return the paper's ablation table as printed: row letter to (benchmark, metric) to number."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in _printed():
        if row["model"].startswith(_HIDDEN):
            found.setdefault(row["model"].removeprefix(_HIDDEN), {})[row["benchmark"], row["metric"]] = float(row["value"])
    return found


@lru_cache(maxsize=1)
def _printed() -> Sequence[Mapping[str, str]]:
    """Read the committed table; each row names the paper's table it was copied from."""
    with (files("jfeval.reports") / "paper_results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
