"""JanusFlow as the harness sees it: batches of image jobs and of questions."""

import copy
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from PIL import Image

from jfeval.errors import UserError
from jfeval.models.base import IMAGE_PLACEHOLDER, ImageJob
from jfeval.models.compiling import compiles
from jfeval.models.hub import content_hash, local_folder
from jfeval.models.janusflow import questions
from jfeval.models.janusflow.pipeline import JanusFlowPipeline, Question
from jfeval.models.janusflow.settings import SamplerSettings, SystemSettings
from jfeval.models.placing import choose_device
from jfeval.schema import JsonObject, TextRequest, Turn


@dataclass(frozen=True, kw_only=True)
class Settings(SystemSettings):
    """A JanusFlow checkpoint and how to run it."""

    guidance_scale: float = 5.0
    """Classifier-free guidance w. The paper states 2 for FID and nothing for GenEval; 5 is the published function's default."""
    path: str = ""
    """Checkpoint folder (config.json, weights and tokenizer files), or a hub id OWNER/NAME with its revision."""
    revision: str = ""
    """Commit of a hub id, 40 hexadecimal digits."""
    vae: str = ""
    """Folder of the VAE in diffusers form, or a hub id; empty means the checkpoint's own vae/ folder."""
    vae_revision: str = ""
    """Commit of the VAE's hub id."""


class JanusFlowSystem:
    """Draws and answers with one loaded pipeline."""

    def __init__(self, name: str, folder: Path, pipeline: JanusFlowPipeline, settings: SystemSettings, *, vae: Path | None) -> None:
        self.name, self.pipeline, self.settings = name, pipeline, settings
        self.sampler = SamplerSettings.of(settings)
        self.image_size = pipeline.image_size
        self._identity: JsonObject = {
            "model": name,
            "weights": content_hash(folder),
            "recipe": asdict(self.sampler),
            "dtype": settings.dtype,
            "start_tag": pipeline.processor.start_tag,
            "template": pipeline.processor.template,
        }
        if vae is not None:
            self._identity["vae"] = content_hash(vae)

    def identity(self) -> JsonObject:
        """Return weights hash, recipe, types, start tag and template."""
        return dict(self._identity)

    def under(self, settings: object) -> "JanusFlowSystem | None":
        """Return this system with another sampler; None where more than the sampler's settings differ."""
        if type(settings) is not type(self.settings) or not isinstance(settings, SystemSettings):
            return None
        sampler = {item.name: getattr(settings, item.name) for item in fields(SamplerSettings)}
        if replace(self.settings, **sampler) != settings:
            return None
        other = copy.copy(self)
        other.settings, other.sampler = settings, SamplerSettings.of(settings)
        other._identity = {**self._identity, "recipe": asdict(other.sampler)}
        return other

    def generate(self, jobs: Sequence[ImageJob]) -> list[Image.Image]:
        """Draw one image per job."""
        return self.pipeline.draw([job.prompt for job in jobs], [job.seed for job in jobs], self.sampler)

    def answer(self, requests: Sequence[TextRequest]) -> list[str]:
        """Answer each request by the likeliest tokens."""
        return self.pipeline.answer([_question(request) for request in requests])

    def count_tokens(self, text: str) -> int:
        """Return how many tokens an answer has, the end not counted."""
        return len(self.pipeline.processor.encode_more(text))

    def stream(self, request: TextRequest) -> Iterator[str]:
        """Answer one request piece by piece, as tokens are found."""
        return self.converse(request, ())

    def converse(self, request: TextRequest, history: Sequence[Turn]) -> Iterator[str]:
        """Answer one request after earlier ones, piece by piece; pictures of earlier turns stay in sight."""
        earlier = [(_question(turn.request), turn.answer) for turn in history]
        turns = tuple(questions.Turn(text=asked.text, answer=answer, images=asked.images) for asked, answer in earlier)
        return self.pipeline.understanding.stream(replace(_question(request), history=turns))

    def option_losses(self, requests: Sequence[TextRequest]) -> list[list[float]]:
        """Weigh each request's options: negative log-likelihood in nats of the option and of its end."""
        questions, options = [_question(request) for request in requests], [request.options for request in requests]
        found = self.pipeline.understanding.log_likelihood(questions, options, with_end=True)
        return [[-one.total for one in likelihoods] for likelihoods in found]


def _question(request: TextRequest) -> Question:
    images = tuple(Image.open(io.BytesIO(data)) for data in request.images)
    text = request.question
    if IMAGE_PLACEHOLDER not in text:
        text = f"{IMAGE_PLACEHOLDER}{request.separator}" * len(images) + text
    return Question(text=text, images=images, system=request.system, max_new_tokens=request.max_new_tokens)


def load_system(name: str, folder: Path, settings: SystemSettings, *, vae: Path | None = None) -> JanusFlowSystem:
    """Load a checkpoint folder and wrap it."""
    pipeline = JanusFlowPipeline.from_pretrained(folder, vae=vae, device=choose_device(settings.device), dtype=settings.dtype)
    pipeline.processor.choose_start_tag(settings.start_tag)
    if settings.compile and compiles(pipeline.model.device.type):
        pipeline.model.compile_velocity()
    return JanusFlowSystem(name, folder, pipeline, settings, vae=vae)


def load(settings: Settings) -> JanusFlowSystem:
    """Load a JanusFlow checkpoint of any size.

    Raises:
        UserError: No checkpoint is named, or what is in it does not fit.
    """
    if not settings.path:
        raise UserError("model 'janusflow' needs its checkpoint folder: --set path=FOLDER (config.json, weights and tokenizer files)")
    vae = local_folder(settings.vae, settings.vae_revision) if settings.vae else None
    return load_system("janusflow", local_folder(settings.path, settings.revision), settings, vae=vae)
