"""A sweep of trainings: variants of a recipe under paired seeds, from shared parts. Part of `jfeval.cli`, through `jfeval.cli_sweep`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jfeval.ablation_training import SHARED, Trainer, Training, train_each
from jfeval.errors import UserError, unknown

if TYPE_CHECKING:
    from jfeval.ablation import AblationSpec, Row
    from jfeval.models.training.recipe import Recipe


def seeds_of(text: str) -> list[int]:
    """Read ``3`` as the seeds 0, 1, 2 and ``0,4`` as those.

    Raises:
        UserError: It is neither.
    """
    from jfeval.cli_sweep import parse_seeds

    found = parse_seeds(text)
    return found if len(found) > 1 or found == [0] else list(range(found[0]))


def train_variants(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    variants: str,
    seeds: Sequence[int],
    out: Path,
    results: Path | None,
    dry_run: bool,
    anew: bool = False,
    jobs: int = 1,
) -> None:
    """Train and evaluate every variant under every seed, seeds first, so that what is finished is paired.

    A training that the results already hold is not repeated, and one that was stopped goes on.

    Args:
        file: The ablation's YAML.
        overrides: ``part.key=value``, for the recipe of the base.
        variants: Names with commas between; empty or ``all`` for all.
        seeds: The seeds.
        out: Folder of the trainings.
        results: CSV to append to; None for ``OUT/results.csv``. The YAML's own results are read too.
        dry_run: Say what would be trained and what it costs, and train nothing.
        anew: Leave the YAML's own results aside, and train what they hold as well.
        jobs: Trainings at a time, at most; each has so much of the cores.

    Raises:
        UserError: Anything in the YAML files is not as it should be, before the first training.
    """
    from jfeval.ablation import append_rows, read_rows, read_spec
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.recipe import load_recipe

    spec = read_spec(file)
    if anew:
        spec = replace(spec, results="")
    base = load_recipe(file.parent / spec.recipe, overrides)
    named = [name.strip() for name in variants.split(",") if name.strip()]
    chosen = list(spec.variants) if named in ([], ["all"]) else list(dict.fromkeys(named))
    for name in chosen:
        if name not in spec.variants:
            raise unknown("variant", name, spec.variants)
    known = {name: read_variant(file.parent / spec.variants[name]) for name in chosen}
    sheet = results or out / "results.csv"
    planned = []
    for seed in seeds:
        for name in chosen:
            recipe = varied(base, known[name], seed)
            digest = _digest(recipe, spec)
            planned.append(Training(name=name, seed=seed, variant=known[name], recipe=recipe, digest=digest))
    here = read_rows(sheet)
    have, own = ({row.digest for row in rows if row.final} for rows in (_with_committed(file, spec, here), here))
    waiting = [one for one in planned if one.digest not in have]
    _say_time(spec, waiting, base, out, err=not dry_run)
    for number, one in enumerate(planned, 1):
        title = f"{number} of {len(planned)}  {one.name}, seed {one.seed}: {one.variant.title}"
        if one.digest in have:
            where = "" if one.digest in own else f" from {spec.results}; --anew trains it here"
            click.echo(f"{title}: finished before, kept{where}", err=not dry_run)
        elif dry_run:
            updates = sum(budget.updates for budget in one.budgets)
            click.echo(f"{title}: {updates:,} updates, about {one.operations:.3g} floating-point operations")
    if dry_run:
        return
    if waiting:
        trainer = Trainer(spec=spec, out=out, jobs=jobs)
        trainer.prepare(base)
        for one, rows in train_each(trainer, waiting):
            append_rows(sheet, rows)
            leading = ", ".join(f"{row.metric} {row.value:.3f}" for row in rows if row.final and row.quoted)
            click.echo(f"{one.name}, seed {one.seed}: {leading}")
    _write_report(file, spec, base, sheet, out)


def _digest(recipe: "Recipe", spec: "AblationSpec") -> str:
    """Identify a training with its evaluation by every setting, and by the rules of its world."""
    from jfeval.ablation import training_digest
    from jfeval.benchmarks.shapes.dataset import digest
    from jfeval.benchmarks.shapes.world import WORLDS
    from jfeval.models.training.making import settings_digest

    world = digest(WORLDS[spec.edition]) if spec.edition in WORLDS else ""
    return training_digest(settings_digest(recipe), spec, world)


def _say_time(spec: "AblationSpec", waiting: Sequence[Training], base: "Recipe", out: Path, *, err: bool) -> None:
    """Say how long the trainings that are to come take on the machine that the YAML knows; nothing where it knows none."""
    from jfeval.ablation import reckon
    from jfeval.models.training.budget import budgets

    if not (spec.seconds and waiting):
        return
    shared = [plan.name for plan in base.parts if plan.name not in base.stages]
    missing = {name for name in shared if not (out / SHARED / name / "done.json").is_file()}
    asked = [sum(each.needs in one.variant.tasks for each in spec.evaluate) / max(1, len(spec.evaluate)) for one in waiting]
    found = reckon(
        spec,
        base.stages,
        missing=missing,
        base=sum(budget.operations for budget in budgets(base)),
        trainings=[(one.operations, share) for one, share in zip(waiting, asked, strict=True)],
    )
    if found is not None:
        click.echo(f"{len(waiting)} trainings to come, {found.words(spec.machine or 'the machine that its YAML was measured on')}", err=err)


def _write_report(file: Path, spec: "AblationSpec", base: "Recipe", sheet: Path, out: Path) -> None:
    """Write the comparison from everything that is known, and print where."""
    from jfeval.ablation import read_rows
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.reports.ablation import Results, write_ablation

    rows = _with_committed(file, spec, read_rows(sheet))
    variants = {name: read_variant(file.parent / path) for name, path in spec.variants.items()}
    trainings = {(row.variant, row.seed) for row in rows if row.variant in variants}
    valid = {_digest(varied(base, variants[name], seed), spec) for name, seed in trainings}
    kept = tuple(row for row in rows if row.digest in valid)
    if not kept:
        raise UserError(f"no result of these settings in {sheet}")
    titles = {name: (variant.title, variant.row) for name, variant in variants.items()}
    click.echo(sheet)
    click.echo(write_ablation(Results(spec=spec, rows=kept, titles=titles, left_out=len(rows) - len(kept)), out))


def _with_committed(file: Path, spec: "AblationSpec", rows: "Sequence[Row]") -> "list[Row]":
    """Add the committed results to this sweep's; a training that is in both counts once."""
    from jfeval.ablation import read_rows

    committed = read_rows(file.parent / spec.results) if spec.results else []
    found = {(row.digest, row.step, row.final, row.metric): row for row in [*committed, *rows]}
    return list(found.values())
