"""How long it takes to score stored answers under every protocol: POPE's 9,000 rows and MMBench's 4,329.

Run: python tests/perf/scoring.py [--repeats 3]

Rows and answers are made up at the published sizes: 5,127 questions about 500 images that count 9,000 times, and 1,164 questions in 4,329
rotations. Answers are of the kinds on which scorers disagree. What is timed is the score stage of a run, from stored answers to numbers
with intervals, without reading or writing files. Ends in error where POPE takes 3 seconds or more, or MMBench 5.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence

from jfeval.benchmarks.mmbench import MMBench
from jfeval.benchmarks.mmbench_rows import QUESTIONS, ROWS
from jfeval.benchmarks.mmbench_rules import L2_ABBREVIATIONS, ROTATION
from jfeval.benchmarks.pope import Pope
from jfeval.benchmarks.pope_rows import PAIRS, SPLITS
from jfeval.benchmarks.understanding.base import Understanding
from jfeval.schema import Judgement, Sample, TextRequest

LIMITS = {"pope": 3.0, "mmbench": 5.0}
OPTIONS = {"A": "a first option", "B": "a second option", "C": "a third option", "D": "a fourth option"}
YES_NO = ("Yes", "No", "yes.", "No, there is none.", "Yes, and it is not big", "", "There isn't", "NO", "I cannot tell.", "No\n")
CHOICES = ("A", "B.", "(C)", "D", "**B**", "The answer is C", "second option", "", "A man stands there", "I can't process this file.")


def pope(rng: random.Random) -> list[tuple[Sample, str]]:
    """Make 5,127 questions: 1,500 yes and 35 no in all three splits, 803 no in two, the rest in one, which is 9,000 rows."""
    shared, rows = 1535, []
    twice = 9000 - 3 * shared - (PAIRS - shared)
    for number in range(PAIRS):
        label = "yes" if number < 1500 else "no"
        place = number % len(SPLITS)
        splits = SPLITS if number < shared else (SPLITS[place], SPLITS[place - 1]) if number < shared + twice else (SPLITS[place],)
        reference = {"image": f"{number % 500}", "text": "Is there a bench?", "label": label, "splits": list(splits)}
        sample = Sample(id=f"q{number}", task=label, request=TextRequest(question="?"), reference=reference, cluster=f"{number % 500}")
        rows.append((sample, rng.choice(YES_NO)))
    return rows


def mmbench(rng: random.Random) -> list[tuple[Sample, str]]:
    """Make 1,164 questions of two to four options, every rotation a row, 4,329 in all."""
    counts = [4] * QUESTIONS
    spare = sum(counts) - ROWS
    for place in range(spare):
        counts[place] -= 1
    rows, abilities = [], tuple(L2_ABBREVIATIONS)
    for number, count in enumerate(counts):
        for turn in range(count):
            texts = dict(list(OPTIONS.items())[:count])
            reference = {"index": number + turn * ROTATION, "question": "Which?", "hint": "", **dict.fromkeys("ABCD", ""), **texts}
            reference |= {"answer": "ABCD"[turn], "category": f"leaf {number % 20}", "l2-category": abilities[number % 6], "split": "dev"}
            asked, cluster = TextRequest(question="?"), f"{number}"
            sample = Sample(id=str(reference["index"]), task="", request=asked, reference=reference, cluster=cluster)
            rows.append((sample, rng.choice(CHOICES)))
    return rows


def score(benchmark: Understanding, answered: Sequence[tuple[Sample, str]]) -> int:
    """Score under every protocol; returns how many scores there were."""
    count = 0
    for protocol in benchmark.protocols:
        judged = ((sample, Judgement(sample_id=sample.id, observations=({"text": text},))) for sample, text in answered)
        scores = [one for sample, judgement in judged for one in benchmark.score(sample, judgement, protocol=protocol)]
        benchmark.aggregate(scores, protocol=protocol)
        count += len(scores)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    slow = False
    for benchmark, make in ((Pope(), pope), (MMBench(), mmbench)):
        answered = make(random.Random(0))
        walls, cpus = [], []
        for _ in range(options.repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            count = score(benchmark, answered)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        median, protocols, limit = statistics.median(walls), len(benchmark.protocols), LIMITS[benchmark.name]
        slow |= median >= limit
        took = f"{median:.2f} s wall, {statistics.median(cpus):.2f} s CPU"
        print(f"{benchmark.name}: {count // protocols} rows under {protocols} protocols in {took} (limit {limit:.0f} s)")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
