"""Kill a run at random moments, start it again with the same command, and compare what it ends in with an undisturbed run.

A stage of the run is chosen in turn, and SIGKILL falls at a random moment of it. Each attempt goes on in the folder that the one before
left; one that ends undisturbed is compared, byte for byte, and the next begins in a new folder. Every question to the model and to the
judge is written down as it is asked: nothing that was stored when an attempt was killed may be asked again.

Run: python tests/jfeval/kills.py FOLDER [KILLS] [SEED]
"""

import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

import jfeval_test_stubs as stubs

import jfeval.reports.build
from jfeval.store import Store

STAGES = ("begin", "generate", "judge", "score", "report")
_DONE = len(STAGES)


class Marked:
    """A stage that a process has reached and that its parent can read."""

    def __init__(self):
        self._byte = mmap.mmap(-1, 1)

    def __call__(self, stage):
        self._byte[0] = stage

    @property
    def stage(self):
        return self._byte[0]


def evaluate(out, log, mark):
    """Do what `jfeval run` does, with a model and a judge that take a moment and write down what they are asked."""

    def note(kind, names):
        with log.open("a") as file:
            file.writelines(f"{kind} {name}\n" for name in names)

    class Painter(stubs.Painter):
        def generate(self, jobs):
            mark(1)
            note("draw", dict.fromkeys(f"0-{job.prompt.split()[1]}" for job in jobs))
            return super().generate(jobs)

    class Judge(stubs.BrightJudge):
        def observe(self, sample, images):
            mark(2)
            note("judge", [sample.id])
            return super().observe(sample, images)

    class Bright(stubs.Bright):
        def score(self, sample, judgement, *, protocol):
            mark(3)
            time.sleep(0.0005)
            return super().score(sample, judgement, protocol=protocol)

    mark(0)
    store = stubs.run_and_score(out, bench=Bright(judge=Judge(delay=0.002)), model=Painter(delay=0.01))
    mark(4)
    jfeval.reports.build.write_report([store], out / "report.html")
    mark(_DONE)


def attempt(out, log, mark, moment=None):
    """Run in a process of its own; kill it a while after it reached a stage. Return the stage it was in when it ended."""
    mark(0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
            evaluate(out, log, mark)
            status = 0
        finally:
            os._exit(status)
    if moment is not None:
        stage, seconds = moment
        ended = False
        while mark.stage < stage and not ended:
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            time.sleep(0.0005)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the run failed"
    return mark.stage


def results(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("results/*/*"))} | {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("images/*/*"))
    }


def stored(out):
    """Return the lines of the log that may not come again."""
    store = Store(out)
    if not store.exists():
        return set()
    drawn = {f"draw {sample_id}" for sample_id in store.outputs()}
    return drawn | {f"judge {sample_id}" for sample_id in (store.judgements() if store.record().judge_fingerprint else ())}


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def durations(folder, mark):
    """Return how long each stage of an undisturbed run takes, and what such a run ends in."""
    out, log = folder / "undisturbed", folder / "undisturbed.log"
    reached = {}

    def timed(stage):
        reached.setdefault(stage, time.perf_counter())
        mark(stage)

    child = os.fork()
    if child == 0:
        evaluate(out, log, timed)
        (folder / "durations").write_text(" ".join(str(reached[i + 1] - reached[i]) for i in range(_DONE)))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return [float(word) for word in (folder / "durations").read_text().split()], results(out)


def main(folder, kills=50, seed=0):
    """Kill so many times; return how many fell in each stage, by name, and in how many runs.

    Raises:
        AssertionError: A run ended in other bytes, or something was done twice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, mark = random.Random(seed), Marked()
    times, expected = durations(folder, mark)
    killed, runs = dict.fromkeys(STAGES, 0), 0
    out, log = folder / "run0", folder / "run0.log"
    while sum(killed.values()) < kills:
        stage = sum(killed.values()) % len(STAGES)
        known, already = stored(out), len(lines(log))
        ended = attempt(out, log, mark, (stage, rng.uniform(0, times[stage])))
        assert not known & set(lines(log)[already:]), "something stored was done again"
        if ended < _DONE:
            killed[STAGES[ended]] += 1
            if sum(killed.values()) % len(STAGES):
                continue
            known, already = stored(out), len(lines(log))  # once in every stage: let it end
            assert attempt(out, log, mark) == _DONE
            assert not known & set(lines(log)[already:]), "something stored was done again"
        runs += 1
        out, log = folder / f"run{runs}", folder / f"run{runs}.log"
    known, already = stored(out), len(lines(log))
    assert attempt(out, log, mark) == _DONE
    assert not known & set(lines(log)[already:]), "something stored was done again"
    for number in range(runs + 1):
        assert results(folder / f"run{number}") == expected, f"run{number} ended in other bytes"
        assert (folder / f"run{number}" / "report.html").stat().st_size
    return killed, runs + 1


if __name__ == "__main__":
    found, ran = main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))
    print(f"{sum(found.values())} kills ({', '.join(f'{n} in {stage}' for stage, n in found.items())}) over {ran} runs: all ended alike")
