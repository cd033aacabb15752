"""What a judging service verifies before it answers: recorded cases of the official code, and that a batch sees what one picture shows."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jfeval.errors import UserError
from jfeval.schema import Edition, ImageRequest, JsonObject, Sample
from jfeval.verify import known_suites, verify

if TYPE_CHECKING:
    from PIL.Image import Image

    from jfeval.serving import Service, SoftBenchmark

_CLOSE = 1e-3
_SIDE = 64
"""Pixels; what the oracle of the synthetic world reads."""


def check(service: "Service", *, edition: Edition, goldens: Path | None = None) -> list[str]:
    """Verify a service and return a line for each thing that was.

    The sets that come with jfeval are always checked; of a folder of more, those of this benchmark.

    Raises:
        UserError: Something differs, or the folder has nothing for this benchmark.
    """
    benchmark: SoftBenchmark = service.benchmark  # pyright: ignore[reportAssignmentType]  the service checked it
    suites = [suite for suite in known_suites() if suite.name.partition("/")[0] in benchmark.golden_families]
    sets = [(goldens, suites)] if goldens else []
    if benchmark.excerpt:  # an excerpt is of one suite; others may recognise its files
        sets.append((benchmark.excerpt, [suite for suite in suites if suite.name.endswith("/cases")]))
    lines = []
    for folder, chosen in sets:
        for one in verify(folder, chosen):
            if not one.ok:
                raise UserError(f"the service does not start: {one.line()}")
            lines.append(f"verified {one.suite}: {one.result.cases} recorded cases")
    return [*lines, _batches_agree(service, benchmark.check_rows(edition))]


def _batches_agree(service: "Service", rows: list[JsonObject]) -> str:
    """Judge pictures together and one by one.

    Raises:
        UserError: A picture cannot be judged, or is judged otherwise in company.
    """
    work = _pictures(rows)
    together, alone = service.judge_now(work), [service.judge_now([one])[0] for one in work]
    for one, other in zip(together, alone, strict=True):
        if "error" in one or "error" in other:
            raise UserError(f"the service does not start: its judge failed on a drawn picture: {one.get('error') or other.get('error')}")
        soft, single = float(one["soft"]), float(other["soft"])  # pyright: ignore[reportArgumentType]
        if one.get("correct") != other.get("correct") or abs(soft - single) > _CLOSE:
            raise UserError(f"the service does not start: a picture is judged otherwise in a batch ({soft:.4f}) than alone ({single:.4f})")
    return f"verified batches: {len(work)} drawn pictures are judged together as alone"


def _pictures(rows: list[JsonObject]) -> "list[tuple[Sample, Image]]":
    """Draw noise over gradients, one picture for each of some rows."""
    from PIL import Image

    rng = np.random.default_rng(0)
    work = []
    for index, row in enumerate(rows):
        noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        work.append((Sample(id=f"check {index}", task="", request=ImageRequest(prompt=""), reference=row), image))
    return work
