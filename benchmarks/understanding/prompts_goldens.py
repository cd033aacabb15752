"""The golden set of prompts: the exact strings that the published builders return for made-up rows of each data set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jfeval.benchmarks import gqa, pope
from jfeval.benchmarks.mmbench_prompts import Kind, choice_prompt
from jfeval.benchmarks.pope_rows import TSV_SUFFIX
from jfeval.benchmarks.understanding.protocols import Prompt, PromptName
from jfeval.golden import GoldenResult, GoldenSuite, Tally, has_any, json_lines

_RECORDED: Mapping[str, PromptName] = {
    "vlmevalkit_dataset_default": "vlmevalkit",
    "vlmevalkit_janus_wrapper": "paper",
    "lmms_eval": "lmms-eval",
}
_OWN_FORM = "vlmevalkit_janus_uses_custom"
"""Recorded beside the prompts: whether the wrapper has a form of its own for the data set; without one it takes the default's."""


def _choice(kind: Kind) -> Callable[[PromptName, Mapping[str, Any]], Prompt]:
    def build(name: PromptName, row: Mapping[str, Any]) -> Prompt:
        options = {letter: row[letter] for letter in "ABCD" if row.get(letter) is not None}
        return choice_prompt(kind, name, row["question"], options, row.get("hint") or "")

    return build


_BUILDERS: Mapping[str, Callable[[PromptName, Mapping[str, Any]], Prompt]] = {
    "MMBench_DEV_EN": _choice("mmbench-en"),
    "MMBench_DEV_CN": _choice("mmbench-cn"),
    "SEEDBench_IMG": _choice("seed"),
    "POPE": lambda name, row: pope.prompt(name, row["question"].removesuffix(TSV_SUFFIX)),
    "GQA_TestDev_Balanced": lambda name, row: gqa.prompt(name, row["question"]),
}


def check(folder: Path) -> GoldenResult:
    """Compare every recorded prompt, character by character."""
    records = json_lines(folder / "prompts.jsonl")
    tally = Tally()
    for number, record in enumerate(records, start=1):
        what, recorded = f"line {number}, {record['dataset']}", record["prompts"]
        tally.fields(what, recorded, (*_RECORDED, _OWN_FORM))
        build = _BUILDERS.get(record["dataset"])
        if build is None:
            tally.differ(f"{what}: not one of {', '.join(_BUILDERS)}")
            continue
        built = {name: build(prompt, record["row"]).marked for name, prompt in _RECORDED.items()}
        for name, text in built.items():
            tally.equal(f"{what}, {name}", recorded.get(name), text)
        own = built["vlmevalkit_janus_wrapper"] != built["vlmevalkit_dataset_default"]
        tally.equal(f"{what}, {_OWN_FORM}", recorded.get(_OWN_FORM), own)
    return tally.result(len(records), numeric=False)


SUITES: tuple[GoldenSuite, ...] = (GoldenSuite(name="understanding/prompts", recognise=has_any("prompts.jsonl"), check=check),)
