"""The golden sets of all benchmarks, as `jfeval verify` knows them."""

from collections.abc import Callable
from pathlib import Path

from jfeval.benchmarks import (
    dpg_goldens,
    dpg_mplug_goldens,
    fid_goldens,
    geneval_goldens,
    gqa_goldens,
    mmbench_goldens,
    pope_goldens,
    seed_goldens,
)
from jfeval.benchmarks.understanding import prompt_goldens
from jfeval.golden import GoldenResult, GoldenSuite, has_any


def _without_check(name: str, *files: str) -> GoldenSuite:
    """Name a set that this version recognises and has no code to reproduce; it counts as failed."""
    return GoldenSuite(name=name, recognise=has_any(*files), check=_no_check(name))


def _no_check(name: str) -> Callable[[Path], GoldenResult]:
    return lambda _: GoldenResult(cases=0, implemented=False, note=f"this version has no scorer for {name}")


SUITES: tuple[GoldenSuite, ...] = (
    *geneval_goldens.SUITES,
    _without_check("mask2former", "forward.npz", "mmdet3_state_dict_shapes.json"),
    *dpg_goldens.SUITES,
    *dpg_mplug_goldens.SUITES,
    *fid_goldens.SUITES,
    *gqa_goldens.SUITES,
    *mmbench_goldens.SUITES,
    *pope_goldens.SUITES,
    *seed_goldens.SUITES,
    *prompt_goldens.SUITES,
)
