"""Evaluating a model that is in memory: `jfeval.evaluate(model, ["geneval"], limit=60, step=n)` in anybody's training loop."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jfeval.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jfeval.benchmarks.base import Benchmark
    from jfeval.plan import Plan

log = logging.getLogger(__name__)

_ADVICE = "Move that folder away, or keep the runs elsewhere (`out` of jfeval.evaluate, --out of `jfeval watch`)."


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
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    batch_size: int = 16,
    out: str | Path = "runs/live",
) -> dict[str, float]:
    """Evaluate a model as it stands, without a second copy of its weights, and store the runs.

    Every benchmark and step gets a run folder ``OUT/BENCHMARK-step00001000``; `jfeval report OUT/*` draws them as one learning curve with
    error bars. The model's mode of training is as it was when this returns. A folder that holds the same run of the same step under other
    weights, as a training leaves that was resumed or repeated, is begun anew.

    Args:
        model: A `JanusFlowPipeline`, or any object with ``generate`` or ``answer`` and ``identity`` (`jfeval.models.base`).
        benchmarks: Names of benchmarks.
        limit: Samples per benchmark, spread evenly over tasks; None for all.
        step: Updates done so far; None outside a training.
        sampler: How a pipeline draws; `SamplerSettings`.
        name: Names the model in reports.
        edition: ``shapes``, ``shapes-small`` or ``official``.
        seed: Seed of the noise and, in shapes, of the prompts.
        data: Local folder of official data.
        settings: Settings of the benchmarks, the same for each.
        batch_size: Images or questions at once.
        out: Folder of the runs.

    Returns:
        Every metric over all tasks, as ``benchmark.metric``.

    Raises:
        UserError: A benchmark is not known, the model cannot do what it asks, or the folder holds another run.
    """
    from jfeval.runner import run
    from jfeval.scoring import score

    system = _system(model, name, sampler, step)
    found: dict[str, float] = {}
    with _evaluating(model):
        for asked in benchmarks:
            folder = Path(out) / (asked if step is None else f"{asked}-step{step:08d}")
            how = {"edition": edition, "seed": seed, "data": data, "limit": limit, "batch_size": batch_size}
            how["benchmark_settings"] = dict(settings or {})
            plan, benchmark = _planned(asked, model=name, out=folder, **how)
            store = run(plan, benchmark, lambda: system, overwrite=_begins_anew(plan, system, step))
            metrics = score(store, benchmark)
            found |= {f"{asked}.{metric.name}": float(metric.value) for metric in metrics if not metric.task}
    return found


def check_evaluation(benchmarks: Sequence[str], **how: object) -> None:
    """Find out before a training, and not hours into it, whether `evaluate` can ask what it is to ask. Loads no model.

    Args:
        benchmarks: Names of benchmarks.
        how: `evaluate`'s ``edition``, ``seed``, ``data`` and ``limit``.

    Raises:
        UserError: A benchmark is not known, lacks the edition, or its data is not there.
    """
    for asked in benchmarks:
        _planned(asked, **how)


def _planned(asked: str, **values: object) -> "tuple[Plan, Benchmark]":
    """Load a benchmark and fix what it will be asked, by fields of `RunSettings`."""
    from jfeval.plan import make_plan
    from jfeval.registry import load_benchmark
    from jfeval.settings import RunSettings, resolve

    settings = resolve(RunSettings, values={"benchmark": asked, **values})
    benchmark = load_benchmark(asked, **settings.benchmark_settings)
    return make_plan(settings, benchmark), benchmark


def _begins_anew(plan: "Plan", system: Any, step: int | None) -> bool:  # noqa: ANN401
    """Tell whether a step's folder holds the same run of other weights, drawn in the same way.

    Raises:
        UserError: It holds a run that differs in more; names in what, and the way out.
    """
    from jfeval.folder import check_same
    from jfeval.plan import changed_keys
    from jfeval.store import Store

    store = Store(plan.settings.folder)
    if not store.exists():
        return False
    inputs = plan.inputs(system.identity())
    changed = changed_keys(store.inputs(), inputs)
    drawn = "model_identity.recipe"  # chosen by whoever asks, so another one is no matter of the training
    if step is not None and changed and all(key.startswith("model_identity.") and not key.startswith(drawn) for key in changed):
        log.warning("%s was drawn with other weights, by a training that was resumed or repeated; it is begun anew", store.path)
        return True
    check_same(store, inputs, advice=_ADVICE)
    return False


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
