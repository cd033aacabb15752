"""The ablation report: the paper's table beside ours, every seed, paired differences, claims, and what each row cost.

The unit is the training seed. Numbers of the paper are of photographs and a 1.3B model and stand beside ours to compare directions, never
sizes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from jfeval.ablation import AblationSpec, Claim, Row
from jfeval.files import write_atomically
from jfeval.reports.ablation_pictures import Grid, learning_curves, picture_grid
from jfeval.reports.html import environment, policy, static
from jfeval.reports.paper import ablation_rows
from jfeval.reports.table import Cell, Column, Table
from jfeval.seeds import LEAST_PAIRS, SeedComparison, compare_seeds

PAPER_COLUMNS: Mapping[tuple[str, str], str] = {
    ("pope", "paper"): "POPE",
    ("vqav2", "val"): "VQAv2 val",
    ("gqa", "accuracy"): "GQA",
    ("mjhq", "fid_10k"): "FID-10k",
    ("mjhq", "clip_score"): "CLIP",
}
"""Columns of the paper's table 6."""
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
        """List the metrics by which variants are compared: those of claims, in order."""
        return list(dict.fromkeys(each.metric for claim in self.spec.claims for each in claim.comparisons))

    def variants(self) -> list[str]:
        """List the variants of which anything is known, in the order of the YAML."""
        known = {row.variant for row in self.rows if row.final}
        return [name for name in self.spec.variants if name in known]

    def difference(self, metric: str, better: str, than: str, threshold: float = 0.0) -> SeedComparison | None:
        """Compare two variants over the seeds that both have; None where there is no such seed."""
        one, two = self.seeds(better, metric), self.seeds(than, metric)
        shared = sorted(one.keys() & two.keys())
        return compare_seeds([one[s] - two[s] for s in shared], threshold=threshold) if shared else None


def verdict(results: Results, claim: Claim) -> str:
    """Judge a claim: supported where all its comparisons are, contradicted where one is, otherwise not resolved."""
    found = [results.difference(each.metric, each.better, each.than, claim.threshold) for each in claim.comparisons]
    verdicts = {"not resolved" if each is None else each.verdict for each in found}
    return "contradicted" if "contradicted" in verdicts else "supported" if verdicts == {"supported"} else "not resolved"


def paper_table(results: Results) -> Table:
    """Return the paper's table beside ours; a column without a counterpart is shown as not run."""
    metrics, printed = results.metrics(), ablation_rows()
    columns = [Column(key="variant", label="variant"), Column(key="title", label="what differs")]
    columns += [Column(key=f"paper {name}", label=f"{name} (paper)", kind="number") for name in PAPER_COLUMNS.values()]
    columns += [Column(key=metric, label=f"{metric} (ours)", kind="metric") for metric in metrics]
    columns += [Column(key="vqav2", label="VQAv2 (ours)"), Column(key="clip", label="CLIP (ours)")]
    rows = []
    for name in results.spec.variants:
        title, row = results.titles[name]
        cells = [Cell(value=name), Cell(value=title)]
        cells += [Cell(value=printed.get(row, {}).get(key)) for key in PAPER_COLUMNS]
        for metric in metrics:
            values = list(results.seeds(name, metric).values())
            cells.append(Cell(value=fmean(values), n=len(values)) if values else Cell())
        rows.append((*cells, Cell(value=_NOT_RUN), Cell(value=_NOT_RUN)))
    notes = (
        "Paper: table 6, 256 pixels, photographs, one training each. Ours: mean over seeds (n), a small model on coloured shapes. "
        "Compare directions, not sizes.",
        "VQAv2 and CLIP have no counterpart here.",
        *((f"{results.left_out} rows were made under other settings and are left out.",) if results.left_out else ()),
    )
    return Table(title=f"{results.spec.title}: the paper's ablations and ours", columns=tuple(columns), rows=tuple(rows), notes=notes)


def seeds_table(results: Results) -> Table:
    """Return every training: its scores and what it cost."""
    metrics = results.metrics()
    columns = [Column(key="variant", label="variant"), Column(key="seed", label="seed", kind="count")]
    columns += [Column(key=metric, label=metric, kind="number") for metric in metrics]
    counts = ("updates", "understanding_samples", "generation_samples", "text_samples")
    columns += [Column(key=name, label=name.replace("_", " "), kind="count") for name in counts]
    columns += [Column(key="operations", label="operations"), Column(key="seconds", label="seconds", kind="count")]
    rows = []
    for name in results.variants():
        for seed in sorted({r.seed for r in results.rows if r.final and r.variant == name}):
            mine = [r for r in results.rows if r.final and r.variant == name and r.seed == seed]
            scores = {r.metric: r.value for r in mine}
            cells = [Cell(value=name), Cell(value=seed), *(Cell(value=scores.get(metric)) for metric in metrics)]
            cells += [Cell(value=getattr(mine[0], count)) for count in counts]
            rows.append((*cells, Cell(value=f"{mine[0].operations:.2e}"), Cell(value=round(mine[0].seconds))))
    note = "Operations are estimated floating-point operations; seconds are of whatever machine it was."
    return Table(title="Every training", columns=tuple(columns), rows=tuple(rows), notes=(note,))


_COMPARED = (
    Column(key="metric", label="metric"),
    Column(key="pair", label="difference"),
    Column(key="seeds", label="paired seeds", kind="count"),
    Column(key="mean", label="mean", kind="metric", detail="With the 95 % interval of Student's t over seeds."),
    Column(key="each", label="each seed"),
    Column(key="p", label="p", kind="number", detail="Exact sign-flip test, one-sided, that the mean does not exceed the threshold."),
    Column(key="smallest", label="smallest visible", kind="number", detail="What this many seeds would show with 80 % power."),
)


def _compared(metric: str, better: str, than: str, found: SeedComparison | None) -> list[Cell]:
    head = [Cell(value=metric), Cell(value=f"{better} minus {than}")]
    if found is None:
        return [*head, Cell(value=0), *[Cell() for _ in range(4)]]
    each = " ".join(f"{d:+.3f}" for d in found.differences)
    mean = Cell(value=found.mean, low=found.ci_low, high=found.ci_high)
    return [*head, Cell(value=len(found.differences)), mean, Cell(value=each), Cell(value=found.p_above), Cell(value=found.smallest)]


def differences_table(results: Results) -> Table:
    """Return every variant's paired differences from the base, metric by metric."""
    base = results.spec.base
    others = [name for name in results.variants() if name != base]
    rows = [tuple(_compared(m, name, base, results.difference(m, name, base))) for m in results.metrics() for name in others]
    return Table(title=f"Paired differences from {base}", columns=_COMPARED, rows=tuple(rows), notes=(_RULE,))


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
            found = results.difference(each.metric, each.better, each.than, claim.threshold)
            said = "not resolved" if found is None else found.verdict
            compared = _compared(each.metric, each.better, each.than, found)
            rows.append((Cell(value=claim.text), *compared, Cell(value=claim.threshold), Cell(value=said)))
        empty = [Cell() for _ in _COMPARED]
        rows.append((Cell(value=f"{claim.name}: all of it"), *empty, Cell(), Cell(value=verdict(results, claim))))
    totals = tuple(i for i, row in enumerate(rows) if str(row[0].value).endswith(": all of it"))
    return Table(title="Claims", columns=columns, rows=tuple(rows), notes=(_RULE,), totals=totals)


def reach_table(results: Results) -> Table | None:
    """Return after how many updates each variant first reached the base's and the others' final scores; None without learning curves."""
    points = [row for row in results.rows if not row.final]
    metrics = [metric for metric in results.metrics() if any(row.metric == metric for row in points)]
    rows = []
    for metric in metrics:
        names = [name for name in results.variants() if any(r.variant == name and r.metric == metric for r in points)]
        goals = {name: fmean(results.seeds(name, metric).values()) for name in names if results.seeds(name, metric)}
        if not goals:
            continue
        goal = min(goals.values())
        for name in names:
            steps = _steps_to(results, name, metric, goal)
            cells = (name, goal, len(steps), min(steps, default=None), max(steps, default=None))
            rows.append((Cell(value=metric), *(Cell(value=value) for value in cells)))
    columns = (
        Column(key="metric", label="metric"),
        Column(key="variant", label="variant"),
        Column(key="goal", label="score to reach", kind="number"),
        Column(key="reached", label="seeds that reached it", kind="count"),
        Column(key="first", label="updates, fewest", kind="count"),
        Column(key="last", label="updates, most", kind="count"),
    )
    note = "The score is the lowest final mean among the variants with a curve; updates of the final stage at which it was first measured."
    return Table(title="Updates to reach a score", columns=columns, rows=tuple(rows), notes=(note,)) if rows else None


def _steps_to(results: Results, variant: str, metric: str, goal: float) -> list[int]:
    """Return, for each seed that reached a score, the first measured update at which it did."""
    reached: dict[int, int] = {}
    for row in sorted(results.rows, key=lambda r: r.step):
        if (row.variant, row.metric) == (variant, metric) and row.value >= goal:
            reached.setdefault(row.seed, row.step)
    return list(reached.values())


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
            curves=learning_curves(results.rows, results.metrics(), results.variants()),
            grid=grid,
        )
    )
    write_atomically(out / "ablation.md", "\n\n".join(table.to_markdown() for table in drawn).encode())
    write_atomically(out / "ablation.html", page.encode())
    return out / "ablation.html"
