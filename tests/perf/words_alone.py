"""What the words of the questions give away: the shapes editions answered without pictures, by what was true most often elsewhere.

Run: python tests/perf/words_alone.py [--seeds 8] [--benchmark pope gqa]

A question of seed 0 gets the answer that the same words had most often under the other seeds; words that never occurred get the most
frequent answer to questions with the same first three words. That is about as well as any model can do that does not see: a bound for the
text-only baseline that needs no model. POPE (shapes) must stay within 5 points of chance, and ends in error where it does not.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

from jfeval.registry import load_benchmark
from jfeval.schema import Judgement, Sample, TextRequest

MOST_ABOVE_CHANCE = 0.05


def question(sample: Sample) -> str:
    """Return the words that a model reads."""
    assert isinstance(sample.request, TextRequest)
    return sample.request.question


def truth(sample: Sample) -> str:
    """Return the right answer, which every edition states under its own name."""
    return str(sample.reference.get("label") or sample.reference.get("answer"))


class Remembered:
    """The most frequent answers."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.whole: dict[str, Counter[str]] = {}
        self.start: dict[str, Counter[str]] = {}
        for sample in samples:
            words = question(sample)
            self.whole.setdefault(words, Counter())[truth(sample)] += 1
            self.start.setdefault(" ".join(words.split()[:3]), Counter())[truth(sample)] += 1

    def answer(self, words: str) -> str:
        """Answer from the words alone; ties go to the alphabet's first."""
        seen = self.whole.get(words) or self.start.get(" ".join(words.split()[:3])) or Counter({"no": 1})
        return min(seen, key=lambda answer: (-seen[answer], answer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="Other seeds to remember answers of.")
    parser.add_argument("--benchmark", nargs="+", choices=["pope", "gqa"], default=["pope", "gqa"])
    options = parser.parse_args()
    failed = False
    for name in options.benchmark:
        benchmark = load_benchmark(name)
        known = Remembered(one for seed in range(1, options.seeds + 1) for one in benchmark.samples("shapes", seed=seed))
        protocol, scores = benchmark.protocols[0], []
        for sample in benchmark.samples("shapes", seed=0):
            said = Judgement(sample_id=sample.id, observations=({"text": known.answer(question(sample))},))
            scores += benchmark.score(sample, said, protocol=protocol)
        for metric in benchmark.aggregate(scores, protocol=protocol):
            if metric.chance is not None and "accuracy" in metric.name and not metric.task.startswith(("structural", "semantic")):
                above = metric.value - metric.chance
                failed |= name == "pope" and above > MOST_ABOVE_CHANCE
                print(f"{name} {metric.name} {metric.task}: {metric.value:.3f}, chance {metric.chance:.3f}, {above:+.3f}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
