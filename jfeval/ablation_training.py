"""One training of an ablation: a variant under a seed, trained from shared parts, evaluated, and turned into rows of results."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jfeval.ablation import item_digits
from jfeval.cli_data import WORLD_MAKERS
from jfeval.console import label_lines
from jfeval.errors import UserError, unknown

if TYPE_CHECKING:
    from jfeval.ablation import AblationSpec, Evaluation, Row
    from jfeval.models.training.ablations import Variant
    from jfeval.models.training.budget import StageBudget
    from jfeval.models.training.recipe import PartPlan, Recipe

log = logging.getLogger(__name__)

SHARED = "shared"
"""Folder of the parts that all trainings share."""
RUNS = "runs"
"""Folder of a training's final evaluations."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One variant under one seed."""

    name: str
    seed: int
    variant: "Variant"
    recipe: "Recipe"
    digest: str

    @property
    def folder(self) -> str:
        """Its folder's name, by which its log lines are told from its siblings'."""
        return f"{self.name}-seed{self.seed}"

    @cached_property
    def budgets(self) -> "Sequence[StageBudget]":
        """Count what its stages cost."""
        from jfeval.models.training.budget import budgets

        return budgets(self.recipe)

    @property
    def operations(self) -> float:
        """Return the floating-point operations of its stages."""
        return sum(budget.operations for budget in self.budgets)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """What trainings have in common, sent to every process that trains some of them."""

    spec: "AblationSpec"
    out: Path
    jobs: int
    """How many trainings there may be at a time. The cores are divided by it, also where fewer are left: results change with the number of
    threads, and what a sweep that was stopped finds shall not depend on where it was stopped."""

    def prepare(self, base: "Recipe") -> None:
        """Make the parts that all trainings share, so that no two of them do."""
        from jfeval.models.training.making import make_parts, set_threads

        set_threads(base.threads)
        shared = replace(base, parts=tuple(plan for plan in base.parts if plan.name not in base.stages))
        make_parts(shared, lambda name: self.out / SHARED / name, prepare=WORLD_MAKERS)


def train_each(trainer: Trainer, trainings: "Sequence[Training]") -> "Iterator[tuple[Training, list[Row]]]":
    """Train and evaluate, ``trainer.jobs`` at a time and each with its share of the cores; yield what each found as soon as it is there.

    Raises:
        UserError: A training is not possible, or its process was ended twice.
    """
    from jfeval.executors.local import in_this_process
    from jfeval.executors.processes import in_processes

    make = partial(_arrive, trainer)
    with in_processes(make, workers=trainer.jobs) if trainer.jobs > 1 else in_this_process(make) as pool:
        yield from pool.each(_train_one, trainings, _lost)


def _arrive(trainer: Trainer) -> Trainer:
    """Begin in a process of its own, or in the only one."""
    return trainer


def _lost(one: Training, reason: str) -> NoReturn:
    raise UserError(f"{one.folder}: {reason}; the same command goes on from its last checkpoint. Fewer --jobs need less memory.")


def _train_one(trainer: Trainer, one: Training) -> "list[Row]":
    """Train one variant under one seed and evaluate it; return its rows."""
    import torch

    from jfeval.ablation import Row
    from jfeval.models.training.making import make_parts, set_threads

    if trainer.jobs > 1:
        label_lines(one.folder)
    log.info("%s, seed %d: %s ...", one.name, one.seed, one.variant.title)
    spec, recipe, variant = trainer.spec, one.recipe, one.variant
    folder = trainer.out / one.folder
    if spec.final not in recipe.stages:
        raise unknown("final stage", spec.final, recipe.stages)
    places = {plan.name: (folder if plan.name in recipe.stages else trainer.out / SHARED) / plan.name for plan in recipe.parts}
    set_threads(recipe.threads, trainer.jobs)

    def scored(pipeline: Any, part: str, step: int) -> Mapping[str, float]:  # noqa: ANN401 - a JanusFlowPipeline
        if part != spec.final or not spec.curve:
            return {}
        with torch.compiler.set_stance("force_eager"):  # prompts and answers have many lengths, each of which would be compiled
            return _scores(pipeline, spec, spec.curve, variant, step, folder)

    torch.compiler.reset()  # so that no training meets a compiler that has given up on the shapes of those before it
    make_parts(recipe, places.__getitem__, prepare=WORLD_MAKERS, evaluate=scored)
    final = next(plan for plan in recipe.parts if plan.name == spec.final)
    found = _scores(_pipeline(final, places), spec, spec.evaluate, variant, None, folder)
    right = {each.benchmark: _right(folder / RUNS / each.benchmark) for each in spec.evaluate if each.needs in variant.tasks}
    totals = {f"{kind}_samples": sum(getattr(b.samples, kind) for b in one.budgets) for kind in ("understanding", "generation", "text")}
    facts = {
        "variant": one.name,
        "seed": one.seed,
        "digest": one.digest,
        "updates": sum(budget.updates for budget in one.budgets),
        "operations": one.operations,
        "seconds": sum(_seconds(places[stage]) for stage in recipe.stages),
        "edition": spec.edition,
        "version": _version(),
        **totals,
    }
    curve = [Row(**facts, step=step, final=False, metric=metric, value=value) for step, metric, value in _curve(places[spec.final], spec)]
    finished = []
    for metric, value in found.items():
        items = item_digits(*right[metric.partition(".")[0]], value)
        finished.append(Row(**facts, step=final.settings.loop.steps, final=True, metric=metric, value=value, items=items))
    return [*curve, *finished]


def _version() -> str:
    """Name the code: jfeval's version, with the commit where it is known."""
    import jfeval
    from jfeval.provenance import code_state

    git = code_state()
    commit = str(git.get("commit") or "")[:10] + ("-changed" if git.get("dirty") else "")
    return jfeval.__version__ + (f"+{commit}" if commit else "")


def _right(run: Path) -> tuple[list[int], int]:
    """Count the right outputs of each sample of a finished run; return them in order, and the outputs of each.

    Nothing where the samples are scored otherwise, or not equally often.
    """
    from jfeval.store import Store

    store, counts, most = Store(run), dict[str, int](), set[int]()
    if not store.exists():
        return [], 0
    rows: dict[str, dict[int, float]] = {}
    for score in store.scores():
        rows.setdefault(score.sample_id, {})[score.index] = score.values.get("correct", -1.0)
    for sample in store.sample_ids():
        values = rows.get(sample, {}).values()
        if not values or any(value not in (0.0, 1.0) for value in values):
            return [], 0
        counts[sample] = int(sum(values))
        most.add(len(values))
    return (list(counts.values()), most.pop()) if len(most) == 1 else ([], 0)


def _curve(folder: Path, spec: "AblationSpec") -> list[tuple[int, str, float]]:
    """Read what a stage scored while it was trained, over all sittings, from its log: update, metric, value."""
    import json

    names = tuple(f"{each.benchmark}." for each in spec.curve)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()] if names else []
    return [(record["step"], key, value) for record in records for key, value in record.items() if key.startswith(names)]


def _seconds(folder: Path) -> float:
    import json

    return float(json.loads((folder / "done.json").read_text("utf-8"))["results"]["seconds"])


def _pipeline(stage: "PartPlan", places: Mapping[str, Path]) -> Any:  # noqa: ANN401 - a JanusFlowPipeline
    """Load a finished stage with the shared tokenizer and VAE, where it was trained."""
    from jfeval.models.janusflow.pipeline import JanusFlowPipeline
    from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
    from jfeval.models.training.encoders import load_stage
    from jfeval.models.training.ranks import ALONE
    from jfeval.models.training.stages import stage_processor

    device = ALONE.device(stage.settings.loop.device)
    model = load_stage(places[stage.name]).to(device)
    vae = load_vae(places[stage.inputs["vae"]] / VAE_FOLDER).to(device)  # pyright: ignore[reportArgumentType, reportCallIssue] - diffusers wraps to()
    return JanusFlowPipeline(model, stage_processor(places[stage.inputs["tokenizer"]], model), vae)


def _scores(
    pipeline: Any,  # noqa: ANN401 - a JanusFlowPipeline
    spec: "AblationSpec",
    evaluations: "Sequence[Evaluation]",
    variant: "Variant",
    step: int | None,
    folder: Path,
) -> dict[str, float]:
    """Evaluate on what a variant was trained for; every training sees the same prompts and noise."""
    from jfeval.live import evaluate

    found: dict[str, float] = {}
    for each in evaluations:
        if each.needs in variant.tasks:
            runs = folder / (RUNS if step is None else "curve")
            found |= evaluate(
                pipeline,
                [each.benchmark],
                limit=each.limit,
                step=step,
                sampler=spec.sampler,
                name=folder.name,
                edition=spec.edition,
                seed=spec.prompts_seed,
                settings=each.settings,
                out=runs,
            )
    return found
