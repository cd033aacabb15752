"""A sweep of trainings: variants of a recipe under paired seeds, from shared parts. Part of `jfeval.cli`, through `jfeval.cli_sweep`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfeval.ablation import item_digits
from jfeval.cli_data import WORLD_MAKERS
from jfeval.errors import UserError, unknown

if TYPE_CHECKING:
    from jfeval.ablation import AblationSpec, Evaluation, Row
    from jfeval.models.training.ablations import Variant
    from jfeval.models.training.budget import StageBudget
    from jfeval.models.training.recipe import Recipe

SHARED = "shared"
"""Folder of the parts that all trainings share."""
RUNS = "runs"
"""Folder of a training's final evaluations."""


def seeds_of(text: str) -> list[int]:
    """Read ``3`` as the seeds 0, 1, 2 and ``0,4`` as those.

    Raises:
        UserError: It is neither.
    """
    from jfeval.cli_sweep import parse_seeds

    found = parse_seeds(text)
    return found if len(found) > 1 or found == [0] else list(range(found[0]))


@dataclass(frozen=True, kw_only=True)
class _Training:
    """One variant under one seed."""

    name: str
    seed: int
    variant: "Variant"
    recipe: "Recipe"
    digest: str

    @cached_property
    def budgets(self) -> "Sequence[StageBudget]":
        """Count what its stages cost."""
        from jfeval.models.training.budget import budgets

        return budgets(self.recipe)

    @property
    def operations(self) -> float:
        """Return the floating-point operations of its stages."""
        return sum(budget.operations for budget in self.budgets)


def train_variants(
    file: Path, *, variants: str, seeds: Sequence[int], out: Path, results: Path | None, dry_run: bool, anew: bool = False
) -> None:
    """Train and evaluate every variant under every seed, seeds first, so that what is finished is paired.

    A training that the results already hold is not repeated, and one that was stopped goes on.

    Args:
        file: The ablation's YAML.
        variants: Names with commas between; empty or ``all`` for all.
        seeds: The seeds.
        out: Folder of the trainings.
        results: CSV to append to; None for ``OUT/results.csv``. The YAML's own results are read too.
        dry_run: Say what would be trained and what it costs, and train nothing.
        anew: Leave the YAML's own results aside, and train what they hold as well.

    Raises:
        UserError: Anything in the YAML files is not as it should be, before the first training.
    """
    from jfeval.ablation import append_rows, read_spec
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.recipe import load_recipe

    spec = read_spec(file)
    if anew:
        spec = replace(spec, results="")
    base = load_recipe(file.parent / spec.recipe)
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
            planned.append(_Training(name=name, seed=seed, variant=known[name], recipe=recipe, digest=digest))
    have = {row.digest for row in _known_rows(file, spec, sheet) if row.final}
    _say_time(spec, [one for one in planned if one.digest not in have], base, out, err=not dry_run)
    for number, one in enumerate(planned, 1):
        title = f"{number} of {len(planned)}  {one.name}, seed {one.seed}: {one.variant.title}"
        if one.digest in have:
            click.echo(f"{title}: finished before, kept", err=not dry_run)
        elif dry_run:
            updates = sum(budget.updates for budget in one.budgets)
            click.echo(f"{title}: {updates:,} updates, about {one.operations:.2g} floating-point operations")
        else:
            click.echo(f"{title} ...", err=True)
            rows = _train_one(spec, one, out)
            append_rows(sheet, rows)
            leading = ", ".join(f"{row.metric} {row.value:.3f}" for row in rows if row.final and _leads(row))
            click.echo(f"{one.name}, seed {one.seed}: {leading}")
    if not dry_run:
        _write_report(file, spec, sheet, out)


def _digest(recipe: "Recipe", spec: "AblationSpec") -> str:
    """Identify a training with its evaluation by every setting, and by the rules of its world."""
    from jfeval.ablation import training_digest
    from jfeval.benchmarks.shapes.dataset import digest
    from jfeval.benchmarks.shapes.world import WORLDS
    from jfeval.models.training.making import settings_digest

    world = digest(WORLDS[spec.edition]) if spec.edition in WORLDS else ""
    return training_digest(settings_digest(recipe), spec, world)


def _say_time(spec: "AblationSpec", waiting: Sequence[_Training], base: "Recipe", out: Path, *, err: bool) -> None:
    """Say how long the trainings that are to come take on the machine that the YAML knows; nothing where it knows none."""
    from jfeval.ablation import reckon
    from jfeval.models.training.budget import budgets

    if not (spec.seconds and waiting):
        return
    stages = {plan.name for plan in base.parts if plan.kind == "stage"}
    missing = {plan.name for plan in base.parts} - stages
    missing -= {name for name in missing if (out / SHARED / name / "done.json").is_file()}
    asked = [sum(each.needs in one.variant.tasks for each in spec.evaluate) / max(1, len(spec.evaluate)) for one in waiting]
    found = reckon(
        spec,
        stages,
        missing=missing,
        base=sum(budget.operations for budget in budgets(base)),
        trainings=[(one.operations, share) for one, share in zip(waiting, asked, strict=True)],
    )
    if found is not None:
        click.echo(f"{len(waiting)} trainings to come, {found.words(spec.machine or 'the machine that its YAML was measured on')}", err=err)


def _leads(row: "Row") -> bool:
    """Tell whether a metric is one by which its benchmark is quoted."""
    return row.metric.rpartition(".")[2] in ("overall", "accuracy", "pooled_accuracy")


def _train_one(spec: "AblationSpec", one: _Training, out: Path) -> "list[Row]":
    """Train one variant under one seed and evaluate it; return its rows."""
    import torch

    from jfeval.ablation import Row
    from jfeval.models.training.making import make_parts, set_threads

    recipe, variant = one.recipe, one.variant
    folder = out / f"{one.name}-seed{one.seed}"
    stages = {plan.name for plan in recipe.parts if plan.kind == "stage"}
    if spec.final not in stages:
        raise unknown("final stage", spec.final, stages)
    places = {plan.name: (folder if plan.name in stages else out / SHARED) / plan.name for plan in recipe.parts}
    set_threads(recipe.threads)

    def scored(pipeline: Any, part: str, step: int) -> Mapping[str, float]:  # noqa: ANN401 - a JanusFlowPipeline
        if part != spec.final or not spec.curve:
            return {}
        with torch.compiler.set_stance("force_eager"):  # prompts and answers have many lengths, each of which would be compiled
            return _scores(pipeline, spec, spec.curve, variant, step, folder)

    torch.compiler.reset()  # so that no training meets a compiler that has given up on the shapes of those before it
    make_parts(recipe, places.__getitem__, prepare=WORLD_MAKERS, evaluate=scored)
    final = next(plan for plan in recipe.parts if plan.name == spec.final)
    found = _scores(_pipeline(recipe, spec.final, places), spec, spec.evaluate, variant, None, folder)
    right = {each.benchmark: _right(folder / RUNS / each.benchmark) for each in spec.evaluate if each.needs in variant.tasks}
    totals = {f"{kind}_samples": sum(getattr(b.samples, kind) for b in one.budgets) for kind in ("understanding", "generation", "text")}
    facts = {
        "variant": one.name,
        "seed": one.seed,
        "digest": one.digest,
        "updates": sum(budget.updates for budget in one.budgets),
        "operations": one.operations,
        "seconds": sum(_seconds(places[stage]) for stage in stages),
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
    """Name the code: jfeval's version, with the commit where there is a checkout."""
    import jfeval
    from jfeval.provenance import git_state

    git = git_state(Path(jfeval.__file__).parent)
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
                out=runs,
            )
    return found


def _write_report(file: Path, spec: "AblationSpec", sheet: Path, out: Path) -> None:
    """Write the comparison from everything that is known, and print where."""
    from jfeval.models.training.ablations import read_variant, varied
    from jfeval.models.training.recipe import load_recipe
    from jfeval.reports.ablation import Results, write_ablation

    rows = _known_rows(file, spec, sheet)
    base = load_recipe(file.parent / spec.recipe)
    variants = {name: read_variant(file.parent / path) for name, path in spec.variants.items()}
    trainings = {(row.variant, row.seed) for row in rows if row.variant in variants}
    valid = {_digest(varied(base, variants[name], seed), spec) for name, seed in trainings}
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
    found = {(row.digest, row.step, row.final, row.metric): row for row in [*committed, *read_rows(sheet)]}
    return list(found.values())
