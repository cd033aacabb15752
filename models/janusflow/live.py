"""A JanusFlow that is in memory, for example in the middle of a training, as the harness sees it."""

import hashlib
from dataclasses import asdict

import torch

from jfeval.models.janusflow.adapter import JanusFlowSystem
from jfeval.models.janusflow.pipeline import JanusFlowPipeline
from jfeval.models.janusflow.settings import SamplerSettings
from jfeval.schema import JsonObject


class LiveJanusFlow(JanusFlowSystem):
    """Wraps a pipeline whose weights may change between evaluations; nothing is copied."""

    def __init__(self, name: str, pipeline: JanusFlowPipeline, sampler: SamplerSettings, step: int | None = None) -> None:
        """Wrap.

        Args:
            name: Names the model in reports.
            pipeline: The model with its tokenizer and VAE.
            sampler: How pictures are drawn.
            step: Updates done; runs that differ in it alone make a learning curve.
        """
        self.name, self.pipeline, self.sampler, self.step = name, pipeline, sampler, step
        self.image_size = pipeline.image_size

    def identity(self) -> JsonObject:
        """Return a hash of the weights as they are now, the recipe, and the step."""
        model = self.pipeline.model
        identity: JsonObject = {
            "model": self.name,
            "weights": weights_hash(model),
            "recipe": asdict(self.sampler),
            "dtype": str(model.dtype).removeprefix("torch."),
            "start_tag": self.pipeline.processor.start_tag,
            "template": self.pipeline.processor.template,
        }
        return identity if self.step is None else {**identity, "step": self.step}


def weights_hash(module: torch.nn.Module) -> str:
    """Return a sha256 over a module's weights, names included."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
