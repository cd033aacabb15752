"""A run's result in words and rows, for a terminal or a pipe."""

from collections.abc import Mapping, Sequence

from jfeval.console import clean
from jfeval.schema import Metric, RunRecord, Score
from jfeval.sensitivity import changed_verdicts, side_by_side

_QUOTED = 100


def heading(record: RunRecord) -> str:
    """Return one line that says what was measured."""
    return f"{record.benchmark} ({record.edition}), model {record.shown}, seed {record.seed}, protocol {record.protocol}"


def recipe(record: RunRecord) -> str:
    """Return the sampler's settings and the prompt protocol as ``key=value`` words; empty where none is stated."""
    stated = record.model_identity.get("recipe")
    words = dict(stated) if isinstance(stated, dict) else {}
    words |= {key: record.data_identity[key] for key in ("prompt", "images_withheld") if key in record.data_identity}
    return " ".join(f"{key}={value}" for key, value in words.items())


def completeness(record: RunRecord) -> str:
    """Say how whole the run is, in one line."""
    counts = record.counts
    parts = [f"limited: {counts.asked} of {counts.available} prompts"] if counts.asked < counts.available else []
    missing = counts.asked - counts.finished - counts.failed
    if counts.failed:
        parts.append(f"incomplete: {counts.failed} of {counts.asked} prompts failed")
    if missing:
        parts.append(f"unfinished: {missing} of {counts.asked} prompts missing")
    return "; ".join(parts) or f"complete: {counts.finished} of {counts.available} prompts"


def label(metric: Metric) -> str:
    """Return a metric's name in a table: the task's for a task mean."""
    if not metric.task:
        return metric.name
    return metric.task if metric.name == "task" else f"{metric.name}/{metric.task}"


def interval(metric: Metric) -> str:
    """Return the 95 % interval with two decimals; a dash where there is none."""
    return "-" if metric.ci_low is None or metric.ci_high is None else f"[{metric.ci_low:.2f}, {metric.ci_high:.2f}]"


def errors(metrics: Sequence[Metric]) -> str:
    """Say what the intervals are over, and what noise alone would change in the headline number."""
    text = "intervals: 95 %, over items (prompts or questions as a sample of their kind)"
    headline = next((metric for metric in metrics if metric.headline and metric.se_seed is not None), None)
    if headline is None or headline.se_seed is None:
        return text
    items = "" if headline.se is None else f"se_items {headline.se:.4f}, "
    return f"{text}; {label(headline)} {items}se_seed {headline.se_seed:.4f} (the same items drawn again)"


def plain_lines(record: RunRecord, metrics: Sequence[Metric], text_only: Sequence[Metric] = (), *, numbers: bool = True) -> list[str]:
    """Return the result as unwrapped lines; the headline number's line is its name, value and interval alone.

    Without ``numbers``, which tables show better, what remains is what was measured, how, and how whole it is.
    """
    columns = beside(metrics, text_only)
    lines = [heading(record)]
    if words := recipe(record):
        lines.append(f"recipe {words}")
    for metric in _headline_last(metrics) if numbers else ():
        words = f"{label(metric)} {metric.value:.3f} {interval(metric)}"
        own = "".join(f" {column}={cells[label(metric)]}" for column, cells in columns.items() if label(metric) in cells)
        lines.append(words if metric.headline else f"{words} n={metric.n} clusters={metric.clusters}{own}")
        lines += [f"beside {label(metric)}:{own}"] if metric.headline and own else []
    lines.append(errors(metrics))
    lines += [f"paper: hold {label(metric)} against the paper's number. {metric.paper}" for metric in _for_paper(record, metrics)]
    lines.append(completeness(record))
    return [clean(line) for line in lines]


def beside(metrics: Sequence[Metric], text_only: Sequence[Metric] = ()) -> dict[str, dict[str, str]]:
    """Return what stands beside numbers, by column and then by a number's label: chance, and the same model without the images."""
    blind = {(metric.name, metric.task): metric for metric in text_only}
    compared = [metric for metric in metrics if metric.chance is not None]
    pairs = [(metric, blind[metric.name, metric.task]) for metric in compared if (metric.name, metric.task) in blind]
    found = {
        "chance": {label(metric): f"{metric.chance:.3f}" for metric in compared},
        "text_only": {label(metric): f"{other.value:.3f} {interval(other)}" for metric, other in pairs},
    }
    return {column: cells for column, cells in found.items() if cells}


def _for_paper(record: RunRecord, metrics: Sequence[Metric]) -> list[Metric]:
    """List what compares with the paper, which no number of another edition does."""
    return [metric for metric in metrics if metric.paper and record.edition == "official"]


def protocol_lines(numbers: Mapping[str, Sequence[Metric]]) -> list[str]:
    """Set protocols side by side: a line per number that several have, its value under each, and how far they lie apart."""
    lines = [" ".join(["protocols", *numbers, "spread"])]
    for one in side_by_side(numbers):
        cells = [f"{one.found[name].value:.3f}" if name in one.found else "-" for name in numbers]
        lines.append(" ".join([label(next(iter(one.found.values()))).replace(" ", "_"), *cells, f"{one.spread:.3f}"]))
    headlines = {name: next((metric for metric in metrics if metric.headline), None) for name, metrics in numbers.items()}
    lines += [f"headline {name} {label(one)} {one.value:.3f} {interval(one)}" for name, one in headlines.items() if one is not None]
    return [clean(line) for line in lines]


def print_protocols(numbers: Mapping[str, Sequence[Metric]]) -> None:
    """Print the numbers of several protocols on the same outputs, columns aligned."""
    rows = [line.split(" ") for line in protocol_lines(numbers)]
    table = [row for row in rows if row[0] != "headline"]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in rows:
        words = (
            row
            if row[0] == "headline"
            else [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        print(" ".join(words))  # noqa: T201


def verdict_lines(verdicts: Mapping[str, Sequence[Score]], answers: Mapping[str, str], *, shown: int = 20) -> list[str]:
    """Say how many answers are right under one protocol and wrong under another, and quote the first of them.

    Args:
        verdicts: Scores of the same outputs under each protocol.
        answers: The answer of each sample.
        shown: How many to quote.
    """
    changed, total = changed_verdicts(verdicts)
    lines = [f"verdicts: {len(changed)} of {total} answers change between protocols"]
    for one in changed[:shown]:
        quoted = answers.get(one.sample_id, "")[:_QUOTED]
        lines.append(f"  {one.sample_id} {quoted!r}: right under {', '.join(one.right) or 'none wholly'}")
    return [clean(line) for line in lines]


def _headline_last(metrics: Sequence[Metric]) -> list[Metric]:
    return sorted(metrics, key=lambda metric: metric.headline)
