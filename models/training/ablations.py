"""Variants of a recipe: one small YAML each over a base, for the paper's ablations and their controls.

A variant names what differs from the base in every stage::

    title: no REPA
    row: A                                # the row of the paper's table 6 that it repeats; empty for a control
    settings: {flow: {repa_weight: 0.0}}  # over every stage's settings
    tasks: [understanding, generation]    # what it is trained on
    match: samples                        # of a single task: as many samples of it as the base sees, or as many updates

Text belongs to understanding. Source: paper table 6, whose 13,000 and 37,000 iterations for the rows of a single task are the base's
50,000 with the other task's samples taken out: 10,000 x (0.30 + 0.20) + 40,000 x (0.14 + 0.06) and 10,000 x 0.50 + 40,000 x 0.80.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from jfeval.errors import UserError, unknown
from jfeval.models.training.janusflow_objective import StageSettings
from jfeval.models.training.mixture import MixtureSettings
from jfeval.models.training.ratios import KINDS
from jfeval.models.training.recipe import PartPlan, Recipe, build_settings, read_yaml

TASKS: Mapping[str, tuple[str, ...]] = {"understanding": ("understanding", "text"), "generation": ("generation",)}
"""A task and the kinds of data that teach it."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant; see the module's docstring."""

    title: str
    row: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = tuple(TASKS)
    match: Literal["samples", "updates"] = "samples"

    def __post_init__(self) -> None:
        """Refuse tasks that do not exist."""
        for task in self.tasks:
            if task not in TASKS:
                raise unknown("task of a variant", task, TASKS)
        if not self.tasks:
            raise UserError(f"variant {self.title!r} is trained on nothing; name {', '.join(TASKS)} or both")

    @property
    def left_out(self) -> tuple[str, ...]:
        """Return the kinds of data that it does not learn from."""
        return tuple(kind for task, kinds in TASKS.items() if task not in self.tasks for kind in kinds)


def read_variant(file: Path) -> Variant:
    """Read a variant's YAML.

    Raises:
        UserError: The file is missing, is no YAML, or has an unknown key.
    """
    return build_settings(Variant, read_yaml(file), [], file.stem)


def varied(base: Recipe, variant: Variant, seed: int) -> Recipe:
    """Return the base with every stage changed to the variant's, under ``seed``.

    The same seed gives every variant the same order of data and the same noise, as far as they see the same samples.
    """
    if not any(plan.kind == "stage" for plan in base.parts):
        raise UserError("the base of the ablations has no part of kind 'stage'")
    return replace(base, parts=tuple(_varied(plan, base, variant, seed) if plan.kind == "stage" else plan for plan in base.parts))


def _varied(plan: PartPlan, base: Recipe, variant: Variant, seed: int) -> PartPlan:
    settings: StageSettings = _merged(plan.settings, variant.settings, plan.name)
    settings = replace(settings, loop=replace(settings.loop, seed=seed))
    if variant.left_out:
        settings = _of_single_task(settings, variant, plan.name)
    inputs = dict(plan.inputs)
    if settings.flow.repa_target == "contrastive" and settings.flow.repa_weight:
        inputs.setdefault("contrastive", _contrastive(base, plan.name))
    return replace(plan, settings=settings, inputs=inputs)


def _contrastive(base: Recipe, stage: str) -> str:
    """Name the part that holds the pre-trained understanding encoder."""
    found = next((plan.inputs["contrastive"] for plan in base.parts if "contrastive" in plan.inputs), None)
    if found is None:
        raise UserError(f"{stage} aligns to the pre-trained encoder, but no part of the recipe holds one")
    return found


def _merged(settings: StageSettings, changes: Mapping[str, Any], where: str) -> StageSettings:
    """Lay a variant's settings over a stage's."""
    present = OmegaConf.to_container(OmegaConf.structured(settings), enum_to_str=True)
    return build_settings(StageSettings, OmegaConf.to_container(OmegaConf.merge(present, changes)), [], where)  # pyright: ignore[reportArgumentType]


def _of_single_task(settings: StageSettings, variant: Variant, where: str) -> StageSettings:
    """Take the other task's samples out: out of every batch, or in full batches and fewer updates."""
    mixture, steps = settings.mixture, settings.loop.steps
    if variant.match == "updates":
        return replace(settings, mixture=replace(mixture, leave_out=variant.left_out))
    if mixture.phases:
        mixture, steps = _phases_of(mixture, variant.left_out, steps)
    else:
        counts = {kind: getattr(mixture, kind) for kind in KINDS}
        kept = {kind: n for kind, n in counts.items() if kind not in variant.left_out}
        total, rest = sum(counts.values()), sum(kept.values())
        filled = {kind: round(total * n / rest) if rest else 0 for kind, n in kept.items()}
        mixture = replace(mixture, **{kind: filled.get(kind, 0) for kind in KINDS})
        steps = round(steps * rest / total)
    if steps < 1:
        raise UserError(f"{where}: {variant.title!r} would be trained for no update: the base shows it no sample of its task")
    loop = replace(settings.loop, steps=steps, warmup=min(settings.loop.warmup, steps))
    return dataclasses.replace(settings, mixture=mixture, loop=loop)


def _phases_of(mixture: MixtureSettings, left_out: tuple[str, ...], steps: int) -> tuple[MixtureSettings, int]:
    """Shorten every phase to the share of its samples that stays; return the mixture and the updates of all phases."""
    phases, start, end = [], 0, 0
    for phase in mixture.phases:
        stop = min(phase.until or steps, steps)
        kept = {kind: getattr(phase, kind) for kind in KINDS if kind not in left_out}
        share = sum(kept.values())
        end += round((stop - start) * share)
        if share:
            last = phase is mixture.phases[-1]
            shares = {kind: kept.get(kind, 0.0) / share for kind in KINDS}
            phases.append(replace(phase, **shares, until=0 if last else end))
        start = stop
    if phases and phases[-1].until:
        phases[-1] = replace(phases[-1], until=0)
    return replace(mixture, phases=tuple(phases)), end
