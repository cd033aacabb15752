"""A sweep of trainings: variants of a recipe under paired seeds, from shared parts. Part of `jfeval.cli`, through `jfeval.cli_sweep`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval.cli_data import make_shapes
from jfeval.errors import UserError, unknown

if TYPE_CHECKING:
    from jfeval.ablation import AblationSpec, Evaluation, Row
    from jfeval.models.training.ablations import Variant
    from jfeval.models.training.recipe import Recipe

SHARED = "shared"
"""Folder of the parts that all trainings share."""


def seeds_of(text: str) -> list[int]:
    """Read ``3`` as the seeds 0, 1, 2 and ``0,4`` as those.

    Raises:
        UserError: It is neither.
    """
    from jfeval.cli_sweep import parse_seeds

    found = parse_seeds(text)
    return found if len(found) > 1 or found == [0] else list(range(found[0]))


def train_variants(file: Path, *, variants: str, seeds: Sequence[int], out: Path, results: Path | None, dry_run: bool) -> None:
    """Train and evaluate every variant under every seed, seeds first, so that what is finished is paired.

    A training that the results already hold is not repeated, and one that was stopped goes on.

    Args:
        file: The ablation's YAML.
        variants: Names with commas between; empty for all.
        seeds: The seeds.
        out: Folder of the trainings.
        results: CSV to append to; None for ``OUT/results.csv``. The YAML's own results are read in any case.
        dry_run: Say what would be trained and what it costs, and train nothing.

    Raises:
        UserError: Anything in the YAML files is not as it should be, before the first training.
    """
    from jfeval.ablation import append_rows, read_spec, training_digest
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.budget import budgets
    from jfeval.models.training.making import settings_digest
    from jfeval.models.training.recipe import load_recipe

    spec = read_spec(file)
    base = load_recipe(file.parent / spec.recipe)
    chosen = [name.strip() for name in variants.split(",")] if variants else list(spec.variants)
    for name in chosen:
        if name not in spec.variants:
            raise unknown("variant", name, spec.variants)
    known = {name: read_variant(file.parent / spec.variants[name]) for name in chosen}
    sheet = results or out / "results.csv"
    planned = [(name, seed, varied(base, known[name], seed)) for seed in seeds for name in chosen]
    have = {row.digest for row in _known_rows(file, spec, sheet) if row.final}
    for number, (name, seed, recipe) in enumerate(planned, 1):
        digest = training_digest(settings_digest(recipe), spec)
        title = f"{number} of {len(planned)}  {name}, seed {seed}: {known[name].title}"
        if digest in have:
            click.echo(f"{title}: finished before, kept", err=not dry_run)
            continue
        if dry_run:
            spent = budgets(recipe)
            updates, operations = sum(b.updates for b in spent), sum(b.operations for b in spent)
            click.echo(f"{title}: {updates:,} updates, about {operations:.2g} floating-point operations")
            continue
        click.echo(f"{title} ...", err=True)
        rows = _train_one(spec, recipe, name, known[name], seed, digest, out)
        append_rows(sheet, rows)
        click.echo(f"{name}, seed {seed}: " + ", ".join(f"{row.metric} {row.value:.3f}" for row in rows if row.final and _leads(row)))
    if not dry_run:
        _write_report(file, spec, sheet, out)


def _leads(row: "Row") -> bool:
    """Tell whether a metric is one by which its benchmark is quoted."""
    return row.metric.rpartition(".")[2] in ("overall", "accuracy", "pooled_f1")


def _train_one(spec: "AblationSpec", recipe: "Recipe", name: str, variant: "Variant", seed: int, digest: str, out: Path) -> "list[Row]":
    """Train one variant under one seed and evaluate it; return its rows."""
    import jfeval
    from jfeval.ablation import Row
    from jfeval.models.training.budget import budgets
    from jfeval.models.training.making import make_parts, set_threads

    folder = out / f"{name}-seed{seed}"
    stages = {plan.name for plan in recipe.parts if plan.kind == "stage"}
    if spec.final not in stages:
        raise unknown("final stage", spec.final, stages)
    places = {plan.name: (folder if plan.name in stages else out / SHARED) / plan.name for plan in recipe.parts}
    set_threads(recipe.threads)

    def scored(pipeline: Any, part: str, step: int) -> Mapping[str, float]:  # noqa: ANN401 - a JanusFlowPipeline
        if part != spec.final or not spec.curve:
            return {}
        return _scores(pipeline, spec, spec.curve, variant, seed, step, folder)

    make_parts(recipe, places.__getitem__, prepare={"shapes": make_shapes}, evaluate=scored)
    final = next(plan for plan in recipe.parts if plan.name == spec.final)
    found = _scores(_pipeline(recipe, spec.final, places), spec, spec.evaluate, variant, seed, None, folder)
    spent = budgets(recipe)
    totals = {f"{kind}_samples": sum(getattr(b.samples, kind) for b in spent) for kind in ("understanding", "generation", "text")}
    facts = {
        "variant": name,
        "seed": seed,
        "digest": digest,
        "updates": sum(b.updates for b in spent),
        "operations": sum(b.operations for b in spent),
        "seconds": sum(_seconds(places[stage]) for stage in stages),
        "version": jfeval.__version__,
        **totals,
    }
    points = [(step, False, metric, value) for step, metric, value in _curve(places[spec.final], spec)]
    points += [(final.settings.loop.steps, True, metric, value) for metric, value in found.items()]
    return [Row(**facts, step=step, final=last, metric=metric, value=value) for step, last, metric, value in points]


def _curve(folder: Path, spec: "AblationSpec") -> list[tuple[int, str, float]]:
    """Read what a stage scored while it was trained, over all sittings, from its log: update, metric, value."""
    import json

    names = tuple(f"{each.benchmark}." for each in spec.curve)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()] if names else []
    return [(record["step"], key, value) for record in records for key, value in record.items() if key.startswith(names)]


def _seconds(folder: Path) -> float:
    import json

    return float(json.loads((folder / "done.json").read_text("utf-8"))["results"]["seconds"])


def _pipeline(recipe: "Recipe", stage: str, places: Mapping[str, Path]) -> Any:  # noqa: ANN401 - a JanusFlowPipeline
    """Load a finished stage with the shared tokenizer and VAE."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from jfeval.models.janusflow.pipeline import VAE_FOLDER, JanusFlowPipeline
    from jfeval.models.training.encoders import load_stage
    from jfeval.models.training.stages import stage_processor

    inputs = next(plan for plan in recipe.parts if plan.name == stage).inputs
    model = load_stage(places[stage])
    vae = AutoencoderKL.from_pretrained(places[inputs["vae"]] / VAE_FOLDER, local_files_only=True)
    return JanusFlowPipeline(model, stage_processor(places[inputs["tokenizer"]], model), vae)


def _scores(
    pipeline: Any,  # noqa: ANN401 - a JanusFlowPipeline
    spec: "AblationSpec",
    evaluations: "Sequence[Evaluation]",
    variant: "Variant",
    seed: int,
    step: int | None,
    folder: Path,
) -> dict[str, float]:
    """Evaluate on what a variant was trained for; every variant of a seed sees the same prompts and noise."""
    from jfeval.live import evaluate

    found: dict[str, float] = {}
    for each in evaluations:
        if each.needs in variant.tasks:
            runs = folder / ("runs" if step is None else "curve")
            found |= evaluate(
                pipeline,
                [each.benchmark],
                limit=each.limit,
                step=step,
                sampler=spec.sampler,
                name=folder.name,
                edition=spec.edition,
                seed=seed,
                out=runs,
            )
    return found


def _write_report(file: Path, spec: "AblationSpec", sheet: Path, out: Path) -> None:
    """Write the comparison from everything that is known, and print where."""
    from jfeval.ablation import training_digest
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.making import settings_digest
    from jfeval.models.training.recipe import load_recipe
    from jfeval.reports.ablation import Results, write_ablation

    rows = _known_rows(file, spec, sheet)
    base = load_recipe(file.parent / spec.recipe)
    variants = {name: read_variant(file.parent / path) for name, path in spec.variants.items()}
    trainings = {(row.variant, row.seed) for row in rows if row.variant in variants}
    valid = {training_digest(settings_digest(varied(base, variants[name], seed)), spec) for name, seed in trainings}
    kept = tuple(row for row in rows if row.digest in valid)
    if not kept:
        raise UserError(f"no result of these settings in {sheet}")
    titles = {name: (variant.title, variant.row) for name, variant in variants.items()}
    click.echo(sheet)
    click.echo(write_ablation(Results(spec=spec, rows=kept, titles=titles, left_out=len(rows) - len(kept)), out))


def _known_rows(file: Path, spec: "AblationSpec", sheet: Path) -> "list[Row]":
    """Read this sweep's results and the committed ones; a training that is in both counts once."""
    from jfeval.ablation import read_rows

    committed = read_rows(file.parent / spec.results) if spec.results else []
    found = {(row.digest, row.step, row.metric): row for row in [*committed, *read_rows(sheet)]}
    return list(found.values())
