"""jfeval: trains, runs and evaluates JanusFlow, and puts any other model beside it.

The four folders of the repository are one package: ``jfeval.models``, ``jfeval.benchmarks`` and ``jfeval.reports`` lie inside
``jfeval/`` in an installed wheel and beside it in a checkout. Because nothing is importable under a bare name such as ``models``,
jfeval works inside any project that has folders of those names.

Importing this module loads neither torch nor any model: the public names below are resolved on first use.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

_HERE = Path(__file__).resolve().parent
if not (_HERE / "models").is_dir():  # a checkout: the siblings of this folder are its subpackages
    __path__.append(str(_HERE.parent))

__version__ = "0.1.0"

_PUBLIC = {
    "JanusFlow": "jfeval.models.janusflow.model",
    "JanusFlowConfig": "jfeval.models.janusflow.config",
    "load_model": "jfeval.registry",
    "load_benchmark": "jfeval.registry",
    "load_runs": "jfeval.reports.runs",
    "evaluate": "jfeval.live",
}

__all__ = ["JanusFlow", "JanusFlowConfig", "__version__", "evaluate", "load_benchmark", "load_model", "load_runs"]

if TYPE_CHECKING:
    from jfeval.live import evaluate
    from jfeval.models.janusflow.config import JanusFlowConfig
    from jfeval.models.janusflow.model import JanusFlow
    from jfeval.registry import load_benchmark, load_model
    from jfeval.reports.runs import load_runs


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'jfeval' has no attribute {name!r}; public names: {', '.join(__all__)}")
