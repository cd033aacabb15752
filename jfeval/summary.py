"""A run's result in words and rows, for a terminal or a pipe."""

from collections.abc import Mapping, Sequence

from jfeval.console import clean
from jfeval.schema import Metric, RunRecord, Score

_QUOTED = 100


def heading(record: RunRecord) -> str:
    """Return one line that says what was measured."""
    return f"{record.benchmark} ({record.edition}), model {record.model}, seed {record.seed}, protocol {record.protocol}"


def recipe(record: RunRecord) -> str:
    """Return the sampler's settings and the prompt protocol as ``key=value`` words; empty where none is stated."""
    stated = record.model_identity.get("recipe")
    words = dict(stated) if isinstance(stated, dict) else {}
    if prompt := record.data_identity.get("prompt"):
        words["prompt"] = prompt
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


def plain_lines(record: RunRecord, metrics: Sequence[Metric]) -> list[str]:
    """Return the result as unwrapped lines; the headline number's line is its name, value and interval alone."""
    lines = [heading(record)]
    if words := recipe(record):
        lines.append(f"recipe {words}")
    for metric in _headline_last(metrics):
        numbers = f"{label(metric)} {metric.value:.3f} {interval(metric)}"
        lines.append(numbers if metric.headline else f"{numbers} n={metric.n} clusters={metric.clusters}")
    lines.append(errors(metrics))
    lines += [f"paper: hold {label(metric)} against the paper's number. {metric.paper}" for metric in _for_paper(record, metrics)]
    lines.append(completeness(record))
    return [clean(line) for line in lines]


def print_result(record: RunRecord, metrics: Sequence[Metric], *, terminal: bool) -> None:
    """Print the result: a table on a terminal, otherwise plain lines."""
    if not terminal:
        for line in plain_lines(record, metrics):
            print(line)  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(clean(heading(record))), caption=Text(clean(f"{recipe(record)}\n{completeness(record)}".strip())))
    table.add_column("")
    for column in ("value", "95 % interval over items", "n", "clusters"):
        table.add_column(column, justify="right")
    for metric in _headline_last(metrics):
        cells = (label(metric), f"{metric.value:.3f}", interval(metric), str(metric.n), str(metric.clusters))
        table.add_row(*(Text(clean(cell)) for cell in cells), style="bold" if metric.headline else "")
    Console().print(table)
    Console().print(Text(clean(errors(metrics))))
    for metric in _for_paper(record, metrics):
        Console().print(Text(clean(f"paper: hold {label(metric)} against the paper's number. {metric.paper}")))


def _for_paper(record: RunRecord, metrics: Sequence[Metric]) -> list[Metric]:
    """List what compares with the paper, which no number of another edition does."""
    return [metric for metric in metrics if metric.paper and record.edition == "official"]


def protocol_lines(numbers: Mapping[str, Sequence[Metric]]) -> list[str]:
    """Set protocols side by side: a line per number that several have, its value under each, and how far they lie apart."""
    names = list(numbers)
    values = {name: {label(metric): metric.value for metric in metrics} for name, metrics in numbers.items()}
    shared = [key for key in dict.fromkeys(key for one in values.values() for key in one) if sum(key in one for one in values.values()) > 1]
    lines = [" ".join(["protocols", *names, "spread"])]
    for key in shared:
        found = [values[name].get(key) for name in names]
        known = [value for value in found if value is not None]
        cells = ["-" if value is None else f"{value:.3f}" for value in found]
        lines.append(" ".join([key.replace(" ", "_"), *cells, f"{max(known) - min(known):.3f}"]))
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
    right: dict[str, dict[str, float]] = {}
    for name, scores in verdicts.items():
        for score in scores:
            if "correct" in score.values:
                right.setdefault(score.sample_id, {})[name] = score.values["correct"]
    changed = {sample_id: by_name for sample_id, by_name in right.items() if len(set(by_name.values())) > 1}
    lines = [f"verdicts: {len(changed)} of {len(right)} answers change between protocols"]
    for sample_id, by_name in list(changed.items())[:shown]:
        good = [name for name, value in by_name.items() if value == 1.0]
        lines.append(f"  {sample_id} {answers.get(sample_id, '')[:_QUOTED]!r}: right under {', '.join(good) or 'none wholly'}")
    return [clean(line) for line in lines]


def _headline_last(metrics: Sequence[Metric]) -> list[Metric]:
    return sorted(metrics, key=lambda metric: metric.headline)
