"""MMBench (dev, English and Chinese): multiple-choice questions in every rotation of their options.

Rows are in `mmbench_rows`, prompts in `mmbench_prompts`, option rules in `mmbench_options`, verdicts and tables in `mmbench_rules`; here
they become a benchmark with error bars. Source: Liu et al., "MMBench" (arXiv 2307.06281).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeAlias

from jfeval.benchmarks.mmbench_options import OPTION_RULES, REFUSED, Choices, Inference, OptionRules, as_stored, infer
from jfeval.benchmarks.mmbench_prompts import Kind, choice_prompt
from jfeval.benchmarks.mmbench_rows import (
    TSV_FILES,
    TSV_MD5,
    ChoiceRow,
    Language,
    check_groups,
    check_whole,
    data_files,
    form_of,
    forms,
    hidden_options,
    parse_row,
    read_published,
)
from jfeval.benchmarks.mmbench_rules import L2_ABBREVIATIONS, WAYS, AccuracyTable, RowVerdict, Way, accuracy_table, group_of
from jfeval.benchmarks.understanding.base import Understanding, answer_text
from jfeval.benchmarks.understanding.media import Published, md5, pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.schema import Edition, Json, JsonObject, Judgement, Metric, Sample, Score
from jfeval.stats import clustered_mean

log = logging.getLogger(__name__)

_Item: TypeAlias = tuple[Published, ChoiceRow]

_REMARKS_SHOWN = 5
_PAPER_SCORER = "vlmevalkit-nov2024"
_PAPER = (
    "The authors' team ran VLMEvalKit with its circular mode switched off (VLMEvalKit pull request 541), which averages every row, rotated "
    "ones included. That the JanusFlow paper (74.9) did the same is inferred, not stated. Comparable in the official edition under the "
    "prompt paper."
)
_DETAILS: dict[Way, str] = {
    "circular": "Share of questions whose every rotation is answered right.",
    "vanilla_all_rows": "Share of right rows, rotated ones included.",
    "vanilla_base_rows": "Share of right rows among those with the options as first published.",
}
_UNINFERRED = "Share of rows in which the rules find no option; they count as wrong, where the published tools may ask a language model."


class MMBench(Understanding[_Item]):
    """Multiple choice in every rotation: 4,329 rows of 1,164 questions in English (official), or 300 and more about shapes (shapes)."""

    name: ClassVar[str] = "mmbench"
    data_forms: ClassVar[str] = forms("en")
    protocols: tuple[str, ...] = OPTION_RULES
    language: ClassVar[Language] = "en"

    @staticmethod
    def draw(seed: int) -> list[_Item]:
        """Draw the shapes edition."""
        from jfeval.benchmarks.mmbench_shapes import published_rows

        return [(one, parse_row(one.reference, where=one.where)) for one in published_rows(seed)]

    def read(self, folder: Path) -> list[_Item]:
        """Read and check a published form, the rotations of a question together; what is odd but no error is logged."""
        published = read_published(data_files(folder, self.language), self.language)
        rows = [(one, parse_row(one.reference, where=one.where)) for one in published]
        placed = [(row, one.where) for one, row in rows]
        check_whole(placed, any_size=self.settings.any_size)
        remarks = check_groups(placed) + _hidden_options(rows)
        for remark in remarks[:_REMARKS_SHOWN]:
            log.warning("%s", remark)
        if len(remarks) > _REMARKS_SHOWN:
            log.warning("%d more rows with such remarks", len(remarks) - _REMARKS_SHOWN)
        return sorted(rows, key=lambda item: (group_of(item[1].index), item[1].index))

    def sample(self, row: _Item, edition: Edition) -> Sample:
        """Ask one row in its rotation."""
        published, choice = row
        kind: Kind = "mmbench-cn" if self.language == "cn" else "mmbench-en"
        asked = choice_prompt(kind, self.prompt_of(edition), choice.question, choice.options, choice.hint)
        return Sample(
            id=str(choice.index),
            task=choice.category,
            request=asked.request(pictures(published.image)),
            reference=published.reference,
            cluster=published.image_key[:16],
        )

    def content(self, row: _Item) -> Json:
        """Return what the data's hash is over."""
        return [row[0].reference, row[0].image_key]

    def counts(self, rows: Sequence[_Item]) -> JsonObject:
        """Count rows and questions."""
        return {"rows": len(rows), "questions": len({group_of(row.index) for _, row in rows})}

    def published(self, folder: Path) -> JsonObject:
        """Say which form the folder holds, at which recorded revision, and whether a table is the published one."""
        files = data_files(folder, self.language)
        form = form_of(files)
        published = form in TSV_FILES.values() and md5(files[0]) == TSV_MD5[self.language]
        return {"form": form, **super().published(folder), "published": published}

    def score(self, sample: Sample, judgement: Judgement, *, protocol: str) -> list[Score]:
        """Turn one answer into one verdict.

        Raises:
            UserError: An unknown protocol, or a row or an answer that is not one.
        """
        self.check_protocol(protocol)
        row = parse_row(sample.reference, where=f"sample {sample.id}")
        answer = answer_text(sample, judgement)
        found = read_option(answer, row.options, protocol)  # pyright: ignore[reportArgumentType]  checked above
        correct = found.final == row.answer
        values = {"correct": float(correct), "uninferred": float(not found.letter), **answer_kinds(answer, ambiguous=not found.letter)}
        labels = {"l2": row.l2, "rotations": str(len(row.options)), "read": found.final, "by": found.by}
        reason = "" if correct else f"the answer is {row.answer}, read as {_read(found)}: {answer[:200]!r}"
        return [Score(sample_id=sample.id, task=row.category, cluster=sample.cluster, values=values, labels=labels, reason=reason)]

    def aggregate(self, scores: Sequence[Score], *, protocol: str) -> list[Metric]:
        """Return circular (the headline) and vanilla accuracy, each overall, by L2 ability and by leaf ability, and counts of answers.

        Images are the clusters: rotations of a question, and questions about one image. With a part of the rows, a question's group is
        what is there of it, and the detail says how many questions are not whole.

        Raises:
            UserError: An unknown protocol, or no scores.
        """
        self.check_scores(scores, protocol)
        rows = [verdict_of(score) for score in scores]
        guesses = [replace(row, hit=1 / int(score.labels["rotations"])) for row, score in zip(rows, scores, strict=True)]
        tables: list[tuple[Way, AccuracyTable, AccuracyTable]] = []
        for way in WAYS:
            found, guess = accuracy_table(rows, way), accuracy_table(guesses, way)
            if found is not None and guess is not None:
                tables.append((way, found, guess))
        metric = Namer(protocol, headline=tables[0][0])
        metrics: list[Metric] = []
        for way, table, guess in tables:
            detail = _DETAILS[way] + (_unfinished(scores) if way == "circular" else "")
            compares = way == "vanilla_all_rows" and protocol == _PAPER_SCORER and self.language == "en"
            metrics.append(metric(way, table.overall, detail, paper=_PAPER if compares else "", chance=guess.overall.value))
            metrics += _by_ability(table, guess, way, detail, metric)
        missed = [score.values["uninferred"] for score in scores]
        count = f"{round(sum(missed))} of {len(missed)} rows."
        metrics.append(metric("uninferred", clustered_mean(missed, [score.cluster for score in scores]), f"{_UNINFERRED} {count}"))
        return metrics + answer_counts(scores, metric)


class MMBenchCN(MMBench):
    """MMBench's 4,329 rows in Chinese."""

    name: ClassVar[str] = "mmbench-cn"
    data_forms: ClassVar[str] = forms("cn")
    editions: tuple[Edition, ...] = ("official",)
    language: ClassVar[Language] = "cn"


def read_option(answer: str, choices: Choices, rules: OptionRules) -> Inference:
    """Read an answer as the published tool does, VLMEvalKit's by way of its spreadsheet."""
    return infer(answer if rules == "lmms-eval" else as_stored(answer), choices, rules)


def verdict_of(score: Score) -> RowVerdict:
    """Return a stored verdict as the tables take it."""
    labels, hit = score.labels, score.values["correct"]
    return RowVerdict(index=int(score.sample_id), l2=labels["l2"], category=score.task, hit=hit, cluster=score.cluster)


def _hidden_options(rows: Sequence[_Item]) -> list[str]:
    """List options that no published scorer sees, with their places."""
    remarks = []
    for published, row in rows:
        for letter in hidden_options(published.reference):
            lost = "; it is the right one, so the row counts as wrong" if letter == row.answer else ""
            text = published.reference[letter]
            remarks.append(f"{published.where}, field {letter}: pandas and so every published scorer reads {text!r} as no option{lost}")
    return remarks


def _by_ability(table: AccuracyTable, guess: AccuracyTable, way: Way, detail: str, metric: Namer) -> list[Metric]:
    """Return a way's numbers by ability; circular ones are the benchmark's tasks."""
    name = "task" if way == "circular" else way
    full = {short: long for long, short in L2_ABBREVIATIONS.items()}
    by_l2 = [
        metric(name, found, f"{detail} L2 ability {full.get(key, key)}.", task=key, chance=guess.l2[key].value)
        for key, found in table.l2.items()
    ]
    return by_l2 + [
        metric(name, found, f"{detail} Leaf ability.", task=key, chance=guess.category[key].value) for key, found in table.category.items()
    ]


def _read(found: Inference) -> str:
    if found.letter == REFUSED:
        return "a refusal"
    return f"{found.letter} (by its {found.by})" if found.letter else "several options" if found.ambiguous else "no option"


def _unfinished(scores: Sequence[Score]) -> str:
    """Say how many questions lack rotations, which makes them easier."""
    present: dict[int, int] = {}
    wanted: dict[int, int] = {}
    for score in scores:
        group = group_of(int(score.sample_id))
        present[group] = present.get(group, 0) + 1
        wanted[group] = int(score.labels["rotations"])
    missing = sum(1 for group, count in present.items() if count < wanted[group])
    return f" Easier than it should be: {missing} of {len(present)} questions lack rotations here." if missing else ""
