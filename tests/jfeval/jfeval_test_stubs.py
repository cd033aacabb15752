"""A model that paints one colour, a benchmark that wants it bright; for tests of the harness."""

import hashlib
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from jfeval.engine import ALONE
from jfeval.errors import UserError
from jfeval.plan import make_plan
from jfeval.runner import run
from jfeval.schema import ImageRequest, Metric, Sample, Score, TextRequest
from jfeval.scoring import score
from jfeval.settings import RunSettings
from jfeval.stats import clustered_mean, mean_of


@dataclass(frozen=True, kw_only=True)
class PainterSettings:
    """What the painter takes."""

    guidance_scale: float = 2.0
    """How much of it."""
    num_steps: int = 30
    """How often."""


class Painter:
    name = "painter"

    def __init__(self, settings=None, *, delay=0.0, bad=(), calls=None):
        self.settings = settings or PainterSettings()
        self.delay, self.bad, self.calls = delay, set(bad), calls if calls is not None else []

    def identity(self):
        recipe = {"guidance_scale": self.settings.guidance_scale, "num_steps": self.settings.num_steps}
        return {"weights": "0" * 64, "recipe": recipe}

    def generate(self, jobs):
        time.sleep(self.delay)
        if any(job.prompt in self.bad for job in jobs):
            raise RuntimeError("paint ran out")
        self.calls.append([(job.prompt, job.index) for job in jobs])
        return [Image.new("RGB", (8, 8), tuple(random.Random(job.seed).randbytes(3))) for job in jobs]

    def answer(self, requests):
        return ["yes" if request.images else "no" for request in requests]


def load_painter(settings: PainterSettings) -> Painter:
    """Paints one colour."""
    return Painter(settings)


class Mortal(Painter):
    """Ends its own process when it is asked for a picture that it does not survive.

    Args:
        deadly: The prompt.
        once: A file that is made when it happens, so that it happens once; None for always.
    """

    def __init__(self, deadly, once=None):
        super().__init__()
        self.deadly, self.once = deadly, once

    def generate(self, jobs):
        if any(job.prompt == self.deadly for job in jobs) and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(jobs)


class Unruly(Painter):
    """Takes a random time, and once each: ends its own process, and never comes back.

    Args:
        folder: Where it notes what it has done.
        deadly: The prompt that ends it.
        endless: The prompt that it never finishes.
    """

    def __init__(self, folder, *, deadly, endless):
        super().__init__()
        self.folder, self.deadly, self.endless = folder, deadly, endless

    def generate(self, jobs):
        time.sleep(random.random() / 20)
        prompts = {job.prompt for job in jobs}
        if self.deadly in prompts and self._first("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.endless in prompts and self._first("endless"):
            time.sleep(3600)
        return super().generate(jobs)

    def _first(self, what):
        done = (self.folder / f"once-{what}").exists()
        (self.folder / f"once-{what}").touch()
        return not done


class Slow(Painter):
    """Writes down its process and takes a second a batch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def generate(self, jobs):
        (self.folder / f"pid{os.getpid()}").touch()
        time.sleep(1)
        return super().generate(jobs)


def refuse():
    """Load nothing."""
    raise UserError("there are no such weights")


class BrightJudge:
    name = "photometer"

    def __init__(self, version=1, bad=(), delay=0.0):
        self.version, self.bad, self.delay, self.seen = version, set(bad), delay, []

    def identity(self):
        return {"version": self.version}

    def observe(self, sample, images):
        time.sleep(self.delay)
        if sample.id in self.bad:
            raise RuntimeError("the lamp is broken")
        self.seen.append(sample.id)
        return tuple({"light": sum(image.getpixel((0, 0)))} for image in images)


class Bright:
    """Wants bright pictures."""

    name = "bright"
    editions = ("shapes",)
    protocols = ("strict", "kind")

    def __init__(self, rows=24, judge=None):
        self.rows = rows
        self.light = judge or BrightJudge()

    def samples(self, edition, *, seed, data=None):
        rows = range(self.rows)
        return [
            Sample(
                id=f"{seed}-{i}",
                task=f"task{i * 3 // self.rows}",
                request=ImageRequest(prompt=f"picture {i} of {seed}", num_images=2),
                reference={"row": i},
                cluster=f"{i}",
            )
            for i in rows
        ]

    def data_identity(self, edition, *, seed, data=None):
        return {"rows": self.rows, "seed": seed, "sha256": hashlib.sha256(f"{self.rows} {seed}".encode()).hexdigest()}

    def judge(self, edition):
        return self.light

    def score(self, sample, judgement, *, protocol):
        bar = 380 if protocol == "strict" else 200
        return [
            Score(
                sample_id=sample.id,
                task=sample.task,
                cluster=sample.cluster,
                index=i,
                values={"correct": float(seen["light"] > bar)},
                reason="" if seen["light"] > bar else f"only {seen['light']}",
            )
            for i, seen in enumerate(judgement.observations)
        ]

    def estimate(self, rows):
        prompts = [s.cluster for s in rows]
        return clustered_mean([s.values["correct"] for s in rows], prompts, repeats=prompts)

    def aggregate(self, scores, *, protocol):
        tasks = {}
        for item in scores:
            tasks.setdefault(item.task, []).append(item)
        estimates = {t: self.estimate(rows) for t, rows in tasks.items()}
        overall = mean_of(list(estimates.values()))

        def metric(name, e, **more):
            errors = {"se": e.se, "se_seed": e.se_seed, "ci_low": e.ci_low, "ci_high": e.ci_high}
            return Metric(name=name, protocol=protocol, value=e.value, n=e.n, clusters=e.clusters, **errors, **more)

        return [metric("overall", overall, headline=True), *(metric("task", e, task=t) for t, e in estimates.items())]


class Homebound(Bright):
    """Has a judge in the process that it was made in, and in no other."""

    def __init__(self):
        super().__init__()
        self.home = os.getpid()

    def judge(self, edition):
        if os.getpid() != self.home:
            raise UserError("the lamp cannot be moved")
        return super().judge(edition)


class Questions(Bright):
    """Asks whether there is a picture; scored without a judge."""

    def samples(self, edition, *, seed, data=None):
        picture = b"\x89PNG not decoded"
        return [
            Sample(id=f"q{i}", task="all", request=TextRequest(question="?", images=(picture,) * (i % 2)), reference={})
            for i in range(self.rows)
        ]

    def judge(self, edition):
        return None

    def score(self, sample, judgement, *, protocol):
        correct = float(judgement.observations[0]["text"] == "yes")
        return [Score(sample_id=sample.id, task=sample.task, cluster=sample.id, values={"correct": correct})]


def settings_for(out, **changes):
    return RunSettings(**{"benchmark": "bright", "model": "painter", "batch_size": 8, "out": Path(out), **changes})


def run_and_score(out, *, bench=None, model=None, load=None, overwrite=False, retry_failed=False, stop_early=True, engine=ALONE, **changes):
    bench = bench or Bright()
    plan = make_plan(settings_for(out, **changes), bench)
    load = load or (lambda: model or Painter())
    store = run(plan, bench, load, overwrite=overwrite, retry_failed=retry_failed, stop_early=stop_early, engine=engine)
    if engine.share is None:
        score(store, bench, protocol=plan.protocol)
    return store


def square(state, item):
    """Work for a pool; by name, because workers import it."""
    if item < 0:
        raise ValueError(item)
    return state() + item * item


def stall(state, item):
    """Work for a pool that never ends over the number 3, and over the number 2 ends the second time it is asked."""
    if item == 3:
        time.sleep(600)
    if item == 2 and not (mark := Path(state())).exists():
        mark.touch()
        time.sleep(600)
    return item
