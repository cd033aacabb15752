"""What produced a number: versions, git state, hardware, times, memory. Nothing here enters a fingerprint, and no secret is read."""

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jfeval
from jfeval.cores import available_cores
from jfeval.schema import JsonObject

BUILT_FROM = "built_from.json"
"""File inside an installed jfeval that says which commit its wheel was built from; see hatch_build.py."""

_PACKAGES = ("torch", "transformers", "diffusers", "datasets", "safetensors", "tokenizers", "numpy", "pillow", "scipy", "pyarrow", "pandas")


def collect() -> JsonObject:
    """Return where this process runs and with what; see `jfeval.schema.RunRecord.provenance` for the keys."""
    return {
        "jfeval": jfeval.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "git": code_state(),
        "hardware": _hardware(),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def cost(tokens: int, seconds: float) -> JsonObject:
    """Return what a batch has cost.

    Args:
        tokens: How many it wrote; 0 where the model does not count them.
        seconds: How long it took.

    Returns:
        ``tokens`` and ``token_seconds``, where tokens are counted; the process's ``peak_memory_bytes`` so far; and
        ``peak_accelerator_bytes``, where one is used.
    """
    facts: JsonObject = {"peak_memory_bytes": peak_memory_bytes()}
    if tokens:
        facts |= {"tokens": tokens, "token_seconds": seconds}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        facts["peak_accelerator_bytes"] = torch.cuda.max_memory_allocated()
    return facts


def add_cost(facts: JsonObject, more: JsonObject) -> JsonObject:
    """Return costs put together: tokens and their seconds add up, peaks are the highest of any process."""
    merged = dict(facts)
    for key, value in more.items():
        before = merged.get(key)
        if isinstance(value, int | float):
            known = before if isinstance(before, int | float) else 0
            merged[key] = max(known, value) if key.startswith("peak") else known + value
    return merged


def code_state() -> JsonObject:
    """Return commit, branch and whether files differed from the commit, of the code that runs; empty where nothing tells.

    A checkout is asked; an installed wheel was told when it was built.
    """
    package = Path(jfeval.__file__).parent
    try:
        told = json.loads((package / BUILT_FROM).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return git_state(package)
    return told if isinstance(told, dict) else {}


_NO_CODE = ":(top,exclude)*-results.csv"
"""Results of sweeps, which are appended to while the code is as it was committed."""


def git_state(folder: Path) -> JsonObject:
    """Return commit, branch and whether files differ from the commit, of the checkout this code runs from; empty outside one."""
    git = shutil.which("git")
    if git is None:
        return {}

    def ask(*words: str) -> str | None:
        done = subprocess.run([git, "-C", str(folder), *words], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        if ask("ls-files", "--error-unmatch", "__init__.py") is None:  # installed into some other project's tree
            return {}
        commit, branch, status = (
            ask("rev-parse", "HEAD"),
            ask("branch", "--show-current"),
            ask("status", "--porcelain", "-uno", "--", ":/", _NO_CODE),
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {"commit": commit, "branch": branch, "dirty": bool(status)} if commit else {}


def peak_memory_bytes() -> int:
    """Return the largest resident set this process had; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _hardware() -> JsonObject:
    facts: JsonObject = {"cpu": _cpu_name(), "cores": available_cores(), "memory_gib": _memory_gib()}
    torch = sys.modules.get("torch")  # only what the model already loaded
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        facts["accelerator"] = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return 0.0
