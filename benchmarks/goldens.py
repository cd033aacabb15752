"""The golden sets of all benchmarks, as `jfeval verify` knows them."""

from jfeval.benchmarks import (
    dpg_goldens,
    dpg_mplug_goldens,
    fid_goldens,
    geneval_goldens,
    gqa_goldens,
    mask2former_goldens,
    mmbench_goldens,
    pope_goldens,
    seed_goldens,
)
from jfeval.benchmarks.understanding import prompt_goldens
from jfeval.golden import GoldenSuite

SUITES: tuple[GoldenSuite, ...] = (
    *geneval_goldens.SUITES,
    *mask2former_goldens.SUITES,
    *dpg_goldens.SUITES,
    *dpg_mplug_goldens.SUITES,
    *fid_goldens.SUITES,
    *gqa_goldens.SUITES,
    *mmbench_goldens.SUITES,
    *pope_goldens.SUITES,
    *seed_goldens.SUITES,
    *prompt_goldens.SUITES,
)
