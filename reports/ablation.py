"""The ablation report: the paper's table beside ours, every seed, paired differences, claims, and what each row cost.

The unit is the training seed. Numbers of the paper are of photographs and a 1.3B model and stand beside ours to compare directions, never
sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from jfeval.ablation import AblationSpec, Claim, Row, item_values, trained_on_captions
from jfeval.files import write_atomically
from jfeval.reports.ablation_pictures import Grid, learning_curves, picture_grid
from jfeval.reports.html import environment, policy, static
from jfeval.reports.paper import ablation_rows
from jfeval.reports.table import Cell, Column, Table
from jfeval.seeds import LEAST_PAIRS, SeedComparison, compare_seeds, crossed_bootstrap

PAPER_COLUMNS: Mapping[tuple[str, str], str] = {
    ("pope", "paper"): "POPE",
    ("vqav2", "val"): "VQAv2 val",
    ("gqa", "accuracy"): "GQA",
    ("mjhq", "fid_10k"): "FID-10k",
    ("mjhq", "clip_score"): "CLIP",
}
"""Columns of the paper's table 6."""
OURS: Mapping[tuple[str, str], str] = {("mjhq", "fid_10k"): "mjhq.fid_10k", ("mjhq", "clip_score"): "mjhq.clip_score", ("vqav2", "val"): ""}
"""Ours of the same name, to stand beside the paper's; nothing where this version has none. What else is quoted has columns of its own."""
_NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Results:
    """What is known of an ablation."""

    spec: AblationSpec
    rows: tuple[Row, ...]
    titles: Mapping[str, tuple[str, str]]
    """Variant to its title and the paper's row that it repeats, or nothing."""
    left_out: int = 0
    """Rows of other settings, which cannot be compared."""

    def seeds(self, variant: str, metric: str) -> dict[int, float]:
        """Return a variant's finished scores by seed."""
        return {r.seed: r.value for r in self.rows if r.final and r.variant == variant and r.metric == metric}

    def metrics(self) -> list[str]:
        """List the metrics by which variants are compared: those of claims, then the others by which benchmarks are quoted."""
        claimed = [each.metric for claim in self.spec.claims for each in claim.comparisons]
        return list(dict.fromkeys([*claimed, *sorted({row.metric for row in self.rows if row.final and row.quoted})]))

    def lower(self, metric: str) -> bool:
        """Tell whether a claim says that lower numbers of a metric are better."""
        return any(each.lower for claim in self.spec.claims for each in claim.comparisons if each.metric == metric)

    def variants(self) -> list[str]:
        """List the variants of which anything is known, in the order of the YAML."""
        known = {row.variant for row in self.rows if row.final}
        return [name for name in self.spec.variants if name in known]

    def difference(self, metric: str, first: str, second: str, threshold: float = 0.0) -> SeedComparison | None:
        """Compare two variants over the seeds that both have, the first minus the second; None where there is no such seed."""
        one, two = self.seeds(first, metric), self.seeds(second, metric)
        shared = sorted(one.keys() & two.keys())
        return compare_seeds([one[s] - two[s] for s in shared], threshold=threshold) if shared else None

    def crossed(self, metric: str, first: str, second: str) -> tuple[float, float] | None:
        """Return the interval of the difference under other seeds and other prompts.

        None with fewer than two shared seeds, or where the trainings were not scored prompt by prompt on the same ones.
        """
        one, two = self._items(first, metric), self._items(second, metric)
        table = [[a - b for a, b in zip(one[s], two[s], strict=False)] for s in sorted(one.keys() & two.keys())]
        lengths = {len(items) for found in (one, two) for items in found.values()}
        return crossed_bootstrap(table) if len(table) > 1 and len(lengths) == 1 else None

    def curves(self, variant: str, metric: str) -> dict[int, list[tuple[int, float]]]:
        """Return a variant's learning curves by seed: updates and score; empty where nothing was measured before the end.

        The end is the curve's own last point, on the prompts of the curve, where it has one, else the final evaluation.
        """
        found: dict[int, dict[int, float]] = {}
        mine = [r for r in self.rows if r.variant == variant and r.metric == metric]
        for row in sorted(mine, key=lambda r: r.final):
            if not row.final or row.seed in found:
                found.setdefault(row.seed, {}).setdefault(row.step, row.value)
        return {seed: sorted(points.items()) for seed, points in sorted(found.items())}

    def _items(self, variant: str, metric: str) -> dict[int, list[float]]:
        mine = [r for r in self.rows if r.final and r.items and r.variant == variant and r.metric == metric]
        return {r.seed: item_values(r.items) for r in mine}


def verdict(results: Results, claim: Claim) -> str:
    """Judge a claim: supported where all its comparisons are, contradicted where all of one metric are, otherwise not resolved.

    Comparisons of one metric are controls that share what is claimed and differ in what is held equal, so they must agree.
    """
    found: dict[str, set[str]] = {}
    for each in claim.comparisons:
        compared = results.difference(each.metric, *each.pair, claim.threshold)
        found.setdefault(each.metric, set()).add("not resolved" if compared is None else compared.verdict)
    if {"contradicted"} in found.values():
        return "contradicted"
    return "supported" if all(verdicts == {"supported"} for verdicts in found.values()) else "not resolved"


def paper_table(results: Results) -> Table:
    """Return the paper's table beside ours; a column without a counterpart is shown as not run."""
    metrics, printed = [metric for metric in results.metrics() if metric not in OURS.values()], ablation_rows()
    columns = [Column(key="variant", label="variant"), Column(key="title", label="what differs")]
    for key, name in PAPER_COLUMNS.items():
        columns.append(Column(key=f"paper {name}", label=f"{name} (paper)", kind="number"))
        columns += [Column(key=f"our {name}", label=f"{name.partition(' ')[0]} (ours)")] if key in OURS else []
    columns += [Column(key=metric, label=f"{metric} ({results.spec.edition})", kind="metric") for metric in metrics]
    rows = []
    for name in results.spec.variants:
        title, row = results.titles[name]
        cells = [Cell(value=name), Cell(value=title)]
        for key in PAPER_COLUMNS:
            cells.append(Cell(value=printed.get(row, {}).get(key)))
            cells += [_mean(results, name, OURS[key], _NOT_RUN)] if key in OURS else []
        rows.append((*cells, *(_mean(results, name, metric) for metric in metrics)))
    notes = (
        f"Paper: table 6, 256 pixels, photographs, one training each. Ours: mean over seeds (n), edition {results.spec.edition}. "
        "Compare directions, not sizes.",
        "VQAv2 has no counterpart here.",
        *((f"{results.left_out} rows were made under other settings and are left out.",) if results.left_out else ()),
    )
    return Table(title=f"{results.spec.title}: the paper's ablations and ours", columns=tuple(columns), rows=tuple(rows), notes=notes)


def _mean(results: Results, variant: str, metric: str, without: str | None = None) -> Cell:
    values = list(results.seeds(variant, metric).values())
    return Cell(value=fmean(values), n=len(values)) if values else Cell(value=without)


def seeds_table(results: Results) -> Table:
    """Return every training: its scores and what it cost."""
    metrics = results.metrics()
    columns = [Column(key="variant", label="variant"), Column(key="seed", label="seed", kind="count")]
    columns += [Column(key=metric, label=metric, kind="number") for metric in metrics]
    counts = ("updates", "understanding_samples", "generation_samples", "text_samples")
    columns += [Column(key=name, label=name.replace("_", " "), kind="count") for name in counts]
    columns += [Column(key="operations", label="operations"), Column(key="seconds", label="seconds", kind="count")]
    columns += [Column(key="version", label="jfeval")]
    rows = []
    for name in results.variants():
        for seed in sorted({r.seed for r in results.rows if r.final and r.variant == name}):
            mine = [r for r in results.rows if r.final and r.variant == name and r.seed == seed]
            scores = {r.metric: r.value for r in mine}
            cells = [Cell(value=name), Cell(value=seed), *(Cell(value=scores.get(metric)) for metric in metrics)]
            cells += [Cell(value=getattr(mine[0], count)) for count in counts]
            rows.append((*cells, Cell(value=f"{mine[0].operations:.2e}"), Cell(value=round(mine[0].seconds)), Cell(value=mine[0].version)))
    note = "Operations are estimated floating-point operations; seconds are of whatever machine it was."
    return Table(title="Every training", columns=tuple(columns), rows=tuple(rows), notes=(note,))


_COMPARED = (
    Column(key="metric", label="metric"),
    Column(key="pair", label="difference"),
    Column(key="seeds", label="paired seeds", kind="count"),
    Column(key="mean", label="mean", kind="metric", detail="With the 95 % interval of Student's t over seeds."),
    Column(key="crossed", label="seeds and prompts", detail="95 % interval of the crossed bootstrap over seeds and prompts; no test."),
    Column(key="each", label="each seed"),
    Column(key="p", label="p", kind="number", detail="Sign-flip test, one-sided, that the mean does not exceed the threshold."),
    Column(key="smallest", label="smallest visible", kind="number", detail="What this many seeds would show with 80 % power."),
)


def _compared(results: Results, metric: str, first: str, second: str, threshold: float = 0.0) -> list[Cell]:
    named = Cell(value=metric, mark="lower is better" if results.lower(metric) else "")
    head, found = [named, Cell(value=f"{first} minus {second}")], results.difference(metric, first, second, threshold)
    if found is None:
        return [*head, Cell(value=0), *[Cell() for _ in range(5)]]
    each = " ".join(f"{d:+.3f}" for d in found.differences)
    mean, wider = Cell(value=found.mean, low=found.ci_low, high=found.ci_high), results.crossed(metric, first, second)
    crossed = Cell(value=None if wider is None else f"[{wider[0]:+.3f}, {wider[1]:+.3f}]")
    count = Cell(value=len(found.differences))
    return [*head, count, mean, crossed, Cell(value=each), Cell(value=found.p_above), Cell(value=found.smallest)]


def differences_table(results: Results) -> Table:
    """Return every variant's paired differences from the base, metric by metric; those by weights trained on captions are left out."""
    base, edition = results.spec.base, results.spec.edition
    others = [name for name in results.variants() if name != base]
    partial = [metric for metric in results.metrics() if trained_on_captions(metric, edition)]
    compared = [metric for metric in results.metrics() if metric not in partial]
    rows = [tuple(_compared(results, metric, name, base)) for metric in compared for name in others]
    notes = (_RULE, *((f"Weights that were trained on captions have a part in {', '.join(partial)}: left out.",) if partial else ()))
    return Table(title=f"Paired differences from {base}", columns=_COMPARED, rows=tuple(rows), notes=notes)


_RULE = (
    f"The unit is the training seed: pairs share data order and noise. With fewer than {LEAST_PAIRS} paired seeds nothing can be resolved, "
    "whatever the difference."
)


def claims_table(results: Results) -> Table:
    """Return the claims that were written down before the sweep, with what came of them."""
    verdict_columns = (Column(key="threshold", label="must exceed", kind="number"), Column(key="verdict", label="verdict"))
    columns = (Column(key="claim", label="claim"), *_COMPARED, *verdict_columns)
    rows = []
    for claim in results.spec.claims:
        for each in claim.comparisons:
            found = results.difference(each.metric, *each.pair, claim.threshold)
            said = "not resolved" if found is None else found.verdict
            compared = _compared(results, each.metric, *each.pair, claim.threshold)
            rows.append((Cell(value=claim.text), *compared, Cell(value=claim.threshold), Cell(value=said)))
        empty = [Cell() for _ in _COMPARED]
        rows.append((Cell(value=f"{claim.name}: all of it"), *empty, Cell(), Cell(value=verdict(results, claim))))
    totals = tuple(i for i, row in enumerate(rows) if str(row[0].value).endswith(": all of it"))
    return Table(title="Claims", columns=columns, rows=tuple(rows), notes=(_RULE,), totals=totals)


def reach_table(results: Results) -> Table | None:
    """Return after how many updates both variants of each claim of superiority reached what the lesser one reached in the end.

    This is how the paper shows what alignment is worth: the same score after fewer updates. None without learning curves.
    """
    compared = [(claim, each) for claim in results.spec.claims if claim.kind == "superiority" for each in claim.comparisons]
    rows = []
    for claim, each in compared:
        curves = {name: results.curves(name, each.metric) for name in (each.better, each.than)}
        ends = [points[-1][1] for points in curves[each.than].values()]
        if not ends or not curves[each.better]:
            continue
        goal = fmean(ends)
        for name, found in curves.items():
            sign = -1 if each.lower else 1
            steps = [next((step for step, value in points if sign * value >= sign * goal), None) for points in found.values()]
            reached = [step for step in steps if step is not None]
            cells = (each.metric, name, goal, len(found), len(reached), min(reached, default=None), max(reached, default=None))
            rows.append((Cell(value=claim.text), *(Cell(value=value) for value in cells)))
    columns = (
        Column(key="claim", label="claim"),
        Column(key="metric", label="metric"),
        Column(key="variant", label="variant"),
        Column(key="goal", label="score to reach", kind="number"),
        Column(key="seeds", label="seeds", kind="count"),
        Column(key="reached", label="seeds that reached it", kind="count"),
        Column(key="first", label="updates, fewest", kind="count"),
        Column(key="last", label="updates, most", kind="count"),
    )
    note = (
        "The score is the mean over seeds at the end of the lesser variant's learning curve; updates of the final stage at which a seed "
        "was first measured at it or better."
    )
    return Table(title="Updates to reach a score", columns=columns, rows=tuple(rows), notes=(note,)) if rows else None


def tables(results: Results) -> list[Table]:
    """Return every table of the report, in order."""
    found = [claims_table(results), paper_table(results), differences_table(results), seeds_table(results), reach_table(results)]
    return [table for table in found if table is not None]


def write_ablation(results: Results, out: Path) -> Path:
    """Write ``OUT/ablation.html``, one file that needs nothing beside it, and the same tables as ``OUT/ablation.md``; return the first.

    Pictures come from the runs in ``OUT``, where they are.
    """
    drawn = tables(results)
    grid: Grid | None = picture_grid(out, results.variants())
    style = static("report.css")
    page = (
        environment()
        .get_template("ablation.html")
        .render(
            policy=policy(style, ""),
            style=style,
            title=results.spec.title,
            edition=results.spec.edition,
            tables=drawn,
            curves=learning_curves(results.curves, results.metrics(), results.variants()),
            grid=grid,
        )
    )
    write_atomically(out / "ablation.md", "\n\n".join(table.to_markdown() for table in drawn).encode())
    write_atomically(out / "ablation.html", page.encode())
    return out / "ablation.html"
