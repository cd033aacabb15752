"""Evaluating a model that is in memory: `jfeval.evaluate(model, ["geneval"], limit=60, step=n)` in anybody's training loop."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jfeval.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


def evaluate(
    model: Any,  # noqa: ANN401 - a pipeline, or whatever has the harness's methods
    benchmarks: Sequence[str],
    *,
    limit: int | None = None,
    step: int | None = None,
    sampler: Mapping[str, object] | None = None,
    name: str = "live",
    edition: str = "shapes",
    seed: int = 0,
    batch_size: int = 16,
    out: str | Path = "runs/live",
) -> dict[str, float]:
    """Evaluate a model as it stands, without a second copy of its weights, and store the runs.

    Every benchmark and step gets a run folder ``OUT/BENCHMARK-step00001000``; `jfeval report OUT/*` draws them as one learning curve with
    error bars. The model's mode of training is as it was when this returns.

    Args:
        model: A `JanusFlowPipeline`, or any object with ``generate`` or ``answer`` and ``identity`` (`jfeval.models.base`).
        benchmarks: Names of benchmarks.
        limit: Samples per benchmark, spread evenly over tasks; None for all.
        step: Updates done so far; None outside a training.
        sampler: How a pipeline draws; `SamplerSettings`.
        name: Names the model in reports.
        edition: ``shapes`` or ``official``.
        seed: Seed of the noise and, in shapes, of the prompts.
        batch_size: Images or questions at once.
        out: Folder of the runs.

    Returns:
        Every metric over all tasks, as ``benchmark.metric``.

    Raises:
        UserError: A benchmark is not known, or the model cannot do what it asks.
    """
    from jfeval.plan import make_plan
    from jfeval.registry import load_benchmark
    from jfeval.runner import run
    from jfeval.scoring import score
    from jfeval.settings import RunSettings

    system = _system(model, name, sampler, step)
    found: dict[str, float] = {}
    with _evaluating(model):
        for asked in benchmarks:
            benchmark = load_benchmark(asked)
            folder = Path(out) / (asked if step is None else f"{asked}-step{step:08d}")
            settings = RunSettings(benchmark=asked, edition=edition, model=name, seed=seed, limit=limit, batch_size=batch_size, out=folder)
            store = run(make_plan(settings, benchmark), benchmark, lambda: system)
            metrics = score(store, benchmark)
            found |= {f"{asked}.{metric.name}": float(metric.value) for metric in metrics if not metric.task}
    return found


def _system(model: Any, name: str, sampler: Mapping[str, object] | None, step: int | None) -> Any:  # noqa: ANN401
    """Give a pipeline the harness's methods; anything else must have them."""
    if hasattr(model, "identity"):
        return model
    from jfeval.models.janusflow.live import LiveJanusFlow
    from jfeval.models.janusflow.pipeline import JanusFlowPipeline
    from jfeval.models.janusflow.settings import SamplerSettings
    from jfeval.settings import resolve

    if not isinstance(model, JanusFlowPipeline):
        raise UserError(
            f"cannot evaluate a {type(model).__name__}: give a JanusFlowPipeline(model, processor, vae), or an object with identity() and "
            "generate() or answer()"
        )
    return LiveJanusFlow(name, model, resolve(SamplerSettings, values=sampler), step)


@contextmanager
def _evaluating(model: Any) -> "Iterator[None]":  # noqa: ANN401
    """Put a pipeline's modules into evaluation mode for a while."""
    import torch

    modules = [part for part in (getattr(model, "model", None), getattr(model, "vae", None)) if isinstance(part, torch.nn.Module)]
    training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.train(mode)
