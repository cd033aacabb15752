"""MMBench (dev, English and Chinese): multiple-choice questions in every rotation of their options.

Rows are in `mmbench_rows`, prompts in `mmbench_prompts`, option rules in `mmbench_options`, verdicts and tables in `mmbench_rules`; here
they become a benchmark with error bars. Source: Liu et al., "MMBench" (arXiv 2307.06281).
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from jfeval.benchmarks.mmbench_options import OPTION_RULES, REFUSED, Choices, Inference, OptionRules, as_stored, infer
from jfeval.benchmarks.mmbench_prompts import Kind, choice_prompt
from jfeval.benchmarks.mmbench_rows import (
    TSV_FILES,
    TSV_MD5,
    ChoiceRow,
    Language,
    Published,
    check_groups,
    check_whole,
    data_files,
    form_of,
    hidden_options,
    how_to_get,
    parse_row,
    read_published,
)
from jfeval.benchmarks.mmbench_rules import L2_ABBREVIATIONS, WAYS, AccuracyTable, RowVerdict, Way, accuracy_table, group_of
from jfeval.benchmarks.understanding.media import pictures
from jfeval.benchmarks.understanding.numbers import Namer, answer_counts, answer_kinds
from jfeval.benchmarks.understanding.protocols import Understanding, answer_text
from jfeval.errors import UserError
from jfeval.schema import Edition, JsonObject, Judgement, Metric, Sample, Score
from jfeval.stats import clustered_mean

log = logging.getLogger(__name__)

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


class MMBench(Understanding):
    """Multiple choice in every rotation: 4,329 rows of 1,164 questions in English (official), or 300 and more about shapes (shapes)."""

    name: ClassVar[str] = "mmbench"
    protocols: tuple[str, ...] = OPTION_RULES
    language: ClassVar[Language] = "en"

    def samples(self, edition: Edition, *, seed: int, data: Path | None = None) -> list[Sample]:
        """List every row, the rotations of a question together; see `Benchmark.samples`."""
        asked = self.prompt_of(edition)
        rows = sorted(self._rows(edition, seed, data), key=lambda pair: (group_of(pair[1].index), pair[1].index))
        kind: Kind = "mmbench-cn" if self.language == "cn" else "mmbench-en"
        return [
            Sample(
                id=str(row.index),
                task=row.category,
                request=choice_prompt(kind, asked, row.question, row.options, row.hint).request(pictures(published.image)),
                reference=published.reference,
                cluster=published.image_key[:16],
            )
            for published, row in rows
        ]

    def data_identity(self, edition: Edition, *, seed: int, data: Path | None = None) -> JsonObject:
        """Return the prompt protocol, counts, a hash of the rows, and whether the file is the published one where its hash is known."""
        rows = self._rows(edition, seed, data)
        content = "\n".join(json.dumps([published.reference, published.image_key]) for published, _ in rows)
        identity: JsonObject = {
            "name": self.name if edition == "official" else f"{self.name}-shapes",
            "prompt": self.prompt_of(edition),
            "rows": len(rows),
            "questions": len({group_of(row.index) for _, row in rows}),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        if edition == "shapes":
            return {**identity, "seed": seed}
        files = data_files(self.data_folder(data), self.language)
        form = form_of(files)
        published = form in TSV_FILES.values() and _md5(files[0]) == TSV_MD5[self.language]
        return {**identity, "form": form, "revision": "unpinned", "published": published}

    def data_folder(self, data: Path | None) -> Path:
        """Return the folder of official data; says what gets it where none is named."""
        if data is None:
            raise UserError(f"{self.name}'s official edition needs its data: {how_to_get(self.language)}")
        return super().data_folder(data)

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
        self.check_protocol(protocol)
        if not scores:
            raise UserError(f"{self.name} has no scores to aggregate")
        rows = [verdict_of(score) for score in scores]
        tables: list[tuple[Way, AccuracyTable]] = [(way, table) for way in WAYS if (table := accuracy_table(rows, way)) is not None]
        metric = Namer(protocol, headline=tables[0][0])
        metrics: list[Metric] = []
        for way, table in tables:
            detail = _DETAILS[way] + (_unfinished(scores) if way == "circular" else "")
            compares = way == "vanilla_all_rows" and protocol == _PAPER_SCORER and self.language == "en"
            metrics.append(metric(way, table.overall, detail, paper=_PAPER if compares else ""))
            metrics += _by_ability(table, way, detail, metric)
        missed = [score.values["uninferred"] for score in scores]
        count = f"{round(sum(missed))} of {len(missed)} rows."
        metrics.append(metric("uninferred", clustered_mean(missed, [score.cluster for score in scores]), f"{_UNINFERRED} {count}"))
        return metrics + answer_counts(scores, metric)

    def _rows(self, edition: Edition, seed: int, data: Path | None) -> list[tuple[Published, ChoiceRow]]:
        self.check_edition(edition)
        if edition == "official":
            files = data_files(self.data_folder(data), self.language)
            rows = list(_official_rows(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files), self.language))
            check_whole([(row, published.where) for published, row in rows], any_size=self.settings.any_size)
            return rows
        self.check_no_data(data)
        from jfeval.benchmarks.mmbench_shapes import published_rows

        return [(one, parse_row(one.reference, where=one.where)) for one in published_rows(seed)]


class MMBenchCN(MMBench):
    """MMBench's 4,329 rows in Chinese."""

    name: ClassVar[str] = "mmbench-cn"
    editions: tuple[Edition, ...] = ("official",)
    language: ClassVar[Language] = "cn"


def read_option(answer: str, choices: Choices, rules: OptionRules) -> Inference:
    """Read an answer as the published tool does, VLMEvalKit's by way of its spreadsheet."""
    return infer(answer if rules == "lmms-eval" else as_stored(answer), choices, rules)


def verdict_of(score: Score) -> RowVerdict:
    """Return a stored verdict as the tables take it."""
    hit = score.values["correct"] == 1.0
    return RowVerdict(index=int(score.sample_id), l2=score.labels["l2"], category=score.task, hit=hit, cluster=score.cluster)


@lru_cache(maxsize=2)
def _official_rows(files: tuple[tuple[Path, int, int], ...], language: Language) -> tuple[tuple[Published, ChoiceRow], ...]:
    """Read and check files, each with its size and time of change; a run asks for them several times."""
    rows = [(one, parse_row(one.reference, where=one.where)) for one in read_published([path for path, _, _ in files], language)]
    remarks = check_groups([(row, published.where) for published, row in rows])
    for published, row in rows:
        for letter in hidden_options(published.reference):
            lost = "; it is the right one, so the row counts as wrong" if letter == row.answer else ""
            text = published.reference[letter]
            remarks.append(f"{published.where}, field {letter}: pandas and so every published scorer reads {text!r} as no option{lost}")
    for remark in remarks[:_REMARKS_SHOWN]:
        log.warning("%s", remark)
    if len(remarks) > _REMARKS_SHOWN:
        log.warning("%d more rows with such remarks", len(remarks) - _REMARKS_SHOWN)
    return tuple(rows)


def _by_ability(table: AccuracyTable, way: Way, detail: str, metric: Namer) -> list[Metric]:
    """Return a way's numbers by ability; circular ones are the benchmark's tasks."""
    name = "task" if way == "circular" else way
    full = {short: long for long, short in L2_ABBREVIATIONS.items()}
    by_l2 = [metric(name, found, f"{detail} L2 ability {full.get(key, key)}.", task=key) for key, found in table.l2.items()]
    return by_l2 + [metric(name, found, f"{detail} Leaf ability.", task=key) for key, found in table.category.items()]


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


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
