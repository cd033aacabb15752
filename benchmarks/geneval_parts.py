"""What GenEval's official judge is made of: where its weights are found, what a missing one costs, and how it is loaded.

A place may name its backend before a colon, as models do: ``mmdet:FILE`` for mmdetection's own network, ``open_clip:FOLDER`` for
open_clip's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jfeval.errors import UserError, unknown
from jfeval.fetching.lock import fetched_folder

if TYPE_CHECKING:
    from jfeval.benchmarks.geneval_judge import PhotoJudge
    from jfeval.benchmarks.scorers.clip import ClipEncoder
    from jfeval.benchmarks.scorers.detector import Detector


@dataclass(frozen=True, kw_only=True)
class Part:
    """One set of weights."""

    setting: str
    """The benchmark's setting that names a copy."""
    what: str
    size: str
    """About how much it is, in words; by its number of parameters."""
    data_set: str
    """What ``jfeval data fetch`` calls it."""
    file: str
    """What must be there, inside the folder that was fetched."""
    is_file: bool
    """True where the setting names that file, false where it names the folder."""
    backends: tuple[str, ...]
    """The first is the default."""

    def fetched(self) -> Path | None:
        """Return where the weights are, if they were fetched."""
        path = fetched_folder(self.data_set) / self.file
        return (path if self.is_file else path.parent) if path.is_file() else None

    def command(self) -> str:
        """Return the command that gets it."""
        return f"jfeval data fetch {self.data_set}"

    def find(self, given: Path | None) -> tuple[str, Path]:
        """Return the backend and the place of the weights: the given one, else the fetched one.

        Raises:
            UserError: They are not there; says what is missing, its size, and the command that gets it.
        """
        backend, place = self._split(given)
        if place is not None and place.exists():
            return backend, place
        why = f"there is no {place}" if place is not None else f"{fetched_folder(self.data_set) / self.file} is missing"
        raise UserError(
            f"geneval's official judge needs {self.what} ({self.size}): {why}. `{self.command()}` gets it, or name a copy by "
            f"--set-benchmark {self.setting}={'FILE' if self.is_file else 'FOLDER'}. To evaluate a model without it: "
            "`jfeval run --benchmark geneval --edition shapes`"
        )

    def _split(self, given: Path | None) -> tuple[str, Path | None]:
        """Split ``BACKEND:PLACE``; a place alone has the default backend, a backend alone the fetched weights."""
        if given is None:
            return self.backends[0], self.fetched()
        name, colon, rest = str(given).partition(":")
        if not colon or len(name) < 2 or "/" in name or given.exists():  # one letter is a drive
            return self.backends[0], given
        if name not in self.backends:
            raise unknown(f"backend of {self.setting}", name, self.backends)
        return name, Path(rest) if rest else self.fetched()


DETECTOR = Part(
    setting="detector",
    what="Mask2Former's checkpoint mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth of mmdetection",
    size="about 275 MB",
    data_set="geneval-detector",
    file="mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
    is_file=True,
    backends=("transformers", "mmdet"),
)
COLOUR = Part(
    setting="clip",
    what="CLIP ViT-L/14 of OpenAI in transformers' form, openai/clip-vit-large-patch14",
    size="about 1.7 GB",
    data_set="clip-vit-large-patch14",
    file="model.safetensors",
    is_file=False,
    backends=("transformers", "open_clip"),
)
PARTS = (DETECTOR, COLOUR)


def load_judge(detector: Path | None, clip: Path | None, *, device: str | None = None) -> "PhotoJudge":
    """Load detector and colour network from the given places, else from where they were fetched to.

    Raises:
        UserError: One is missing, is of another kind, or is not whole. Both places are looked at before anything is loaded.
    """
    from jfeval.benchmarks.geneval_judge import PhotoJudge

    places = DETECTOR.find(detector), COLOUR.find(clip)
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return PhotoJudge(_detector(*places[0], device), _clip(*places[1], device))


def _detector(backend: str, place: Path, device: str) -> "Detector":
    if backend == "mmdet":
        from jfeval.benchmarks.scorers.mmdet_backend import load_mmdet

        return load_mmdet(place, device=device)
    from jfeval.benchmarks.scorers.mask2former import load_detector

    return load_detector(place, device=device)


def _clip(backend: str, place: Path, device: str) -> "ClipEncoder":
    from jfeval.benchmarks.scorers.clip import load_clip

    return load_clip(place, backend=backend, device=device)
