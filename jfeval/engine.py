"""How a run is carried out: by how many workers, where, and which share of it. Changes no output and enters no fingerprint."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar, get_args

from jfeval.errors import UserError, unknown
from jfeval.executors import Pool
from jfeval.locks import Share
from jfeval.schema import JsonObject

State = TypeVar("State")

MOST_WORKERS = 1024

Stage: TypeAlias = Literal["all", "generate", "judge", "score"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a run is carried out."""

    workers: int = 1
    """Processes that each load the model; with 1 and the local executor, this process does."""
    executor: Literal["local", "ray"] = "local"
    """``local`` for this machine, ``ray`` for a cluster."""
    address: str = ""
    """A Ray cluster to join; empty to start one here."""
    gpus: float = 0.0
    """Share of an accelerator that each worker on a Ray cluster is given."""
    item_timeout: float = 3600.0
    """Seconds after which a worker that says nothing is replaced; nobody watches over a run in one process."""
    share: Share | None = None
    """Which part of the run's batches this process takes; None for all of them."""
    stage: Stage = "all"
    """Which stage this process carries out; judging goes on beside generation in another process."""
    judge_beside: bool = False
    """Whether one more worker judges what is drawn while the others draw."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UserError(f"--workers must be from 1 to {MOST_WORKERS}, not {self.workers}")
        if self.gpus < 0 or self.item_timeout <= 0:
            raise UserError(f"gpus must not be negative and the time-out must be positive, not {self.gpus} and {self.item_timeout}")
        if self.stage not in STAGES:
            raise unknown("stage", self.stage, STAGES)
        if self.share and self.stage == "score":
            raise UserError("--stage score is of the whole run, which has no shards to be scored; leave out --shard")
        if self.judge_beside and (self.stage != "all" or self.executor != "local"):
            raise UserError(
                "--judge-beside is one command's way of doing both stages on this machine; elsewhere run --stage generate, and beside it "
                "--stage judge"
            )

    @property
    def part(self) -> str:
        """Name what this process does of the run; empty where it does the whole of it. Names its lock and its file of rows."""
        stage = [f"stage-{self.stage}"] if self.stage in ("generate", "judge") else []
        return "-".join([*stage, *([self.share.name] if self.share else [])])

    @property
    def alone(self) -> bool:
        """True when this process does the work itself."""
        return self.executor == "local" and self.workers == 1

    @property
    def sole_writer(self) -> bool:
        """True when nothing else writes the run's rows at the same time."""
        return not self.part and not self.judge_beside

    def open(self, make: Callable[[], State]) -> AbstractContextManager[Pool[State]]:
        """Open a pool of workers; ``make`` is sent to them."""
        if self.alone:
            from jfeval.executors.local import in_this_process

            return in_this_process(make)
        if self.executor == "local":
            from jfeval.executors.processes import in_processes

            return in_processes(make, workers=self.workers, of=self.workers + self.judge_beside, item_timeout=self.item_timeout)
        from jfeval.executors.ray import on_ray

        return on_ray(make, workers=self.workers, address=self.address, gpus=self.gpus, item_timeout=self.item_timeout)

    def open_beside(self, make: Callable[[], State]) -> AbstractContextManager[Pool[State]]:
        """Open one more worker on this machine, on the next accelerator where there are several."""
        from jfeval.executors.processes import in_processes

        return in_processes(make, workers=1, first=self.workers, of=self.workers + 1, item_timeout=self.item_timeout)

    def facts(self) -> JsonObject:
        """Return what the record says about it."""
        more: JsonObject = {} if self.stage == "all" else {"stage": self.stage}
        more |= {"judge_beside": True} if self.judge_beside else {}
        return {"executor": self.executor, "workers": self.workers, "share": self.share.name if self.share else "", **more}


ALONE = Engine()
