"""The golden set of prompts: made-up rows of every benchmark of understanding, and what the published builders make of them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from jfeval.benchmarks import gqa, pope
from jfeval.benchmarks.mmbench_options import NA_TOKENS
from jfeval.benchmarks.mmbench_prompts import Kind, choice_prompt
from jfeval.benchmarks.mmbench_rows import LETTERS
from jfeval.benchmarks.pope_rows import TSV_SUFFIX
from jfeval.benchmarks.understanding.protocols import Prompt, PromptName
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_lines

Record: TypeAlias = dict[str, Any]

_FILE = "prompts.jsonl"
_NAMES: Mapping[str, PromptName] = {
    "vlmevalkit_dataset_default": "vlmevalkit",
    "vlmevalkit_janus_wrapper": "paper",
    "lmms_eval": "lmms-eval",
}
_CUSTOM = "vlmevalkit_janus_uses_custom"


def check_prompts(folder: Path) -> GoldenResult:
    """Compare every prompt, and whether the authors' wrapper words it in its own way."""
    records = json_lines(folder / _FILE)
    tally = Tally()
    for number, record in enumerate(records, start=1):
        what, recorded = f"row {number}, {record.get('dataset')}", record["prompts"]
        tally.fields(what, record, ("dataset", "row", "prompts"))
        tally.fields(what, recorded, (*_NAMES, _CUSTOM))
        build = _BUILDERS.get(record["dataset"])
        if build is None:
            tally.differ(f"{what}: no prompts for this data set; known: {', '.join(_BUILDERS)}")
            continue
        found = {key: build(record["row"], name).marked for key, name in _NAMES.items()}
        for key in set(_NAMES) & set(recorded):
            tally.equal(f"{what}, {key}", recorded[key], found[key])
        own = found["vlmevalkit_janus_wrapper"] != found["vlmevalkit_dataset_default"]
        tally.equal(f"{what}, {_CUSTOM}", recorded.get(_CUSTOM), own)
    return tally.result(len(records), numeric=False)


SUITES: tuple[GoldenSuite, ...] = (GoldenSuite(name="understanding/prompts", recognise=has_any(_FILE), check=check_prompts),)


def _choice(kind: Kind, row: Record, name: PromptName) -> Prompt:
    options = {letter: str(row[letter]) for letter in LETTERS if str(row.get(letter) or "") not in NA_TOKENS}
    return choice_prompt(kind, name, row["question"], options, row.get("hint") or "")


_BUILDERS: Mapping[str, Callable[[Record, PromptName], Prompt]] = {
    "MMBench_DEV_EN": partial(_choice, "mmbench-en"),
    "MMBench_DEV_CN": partial(_choice, "mmbench-cn"),
    "SEEDBench_IMG": partial(_choice, "seed"),
    "POPE": lambda row, name: pope.prompt(name, row["question"].removesuffix(TSV_SUFFIX)),
    "GQA_TestDev_Balanced": lambda row, name: gqa.prompt(name, row["question"]),
}
