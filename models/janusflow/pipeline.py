"""JanusFlow ready for use: model, tokenizer, image processor and VAE, loaded from one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor

from jfeval.errors import BadRequest, unknown
from jfeval.models.hub import local_folder
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.drawing import DRAW_OPTIONS, DrawnImages, draw, sampler_settings
from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.processing import Processor, load_processor
from jfeval.models.janusflow.sampling import StepCallback, noise, sample
from jfeval.models.janusflow.settings import SamplerSettings
from jfeval.models.janusflow.understanding import Question, Understanding
from jfeval.models.janusflow.vae import VAE_FOLDER, load_vae
from jfeval.models.memory import in_batches

__all__ = ["JanusFlowPipeline", "Question"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class JanusFlowPipeline:
    """Draws images of prompts and answers questions about images."""

    def __init__(self, model: JanusFlow, processor: Processor, vae: AutoencoderKL) -> None:
        self.model, self.processor, self.vae = model.eval(), processor, vae.eval()
        self.understanding = Understanding(model, processor)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str = "",
        vae: str | Path | None = None,
        vae_revision: str = "",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> Self:
        """Load a checkpoint.

        Args:
            path: Folder with ``config.json``, weights and tokenizer files, or a hub id ``owner/name``.
            revision: The commit of a hub id, 40 hexadecimal digits.
            vae: Folder or hub id of the VAE in diffusers form; None means ``path/vae``.
            vae_revision: The commit of the VAE's hub id.
            device: Where to run.
            dtype: ``float32`` or ``bfloat16``, the type of model and VAE weights; the sampler's state has a setting of its own.

        Raises:
            UserError: Something is missing or does not fit; named.
        """
        folder = local_folder(path, revision)
        if dtype not in DTYPES:
            raise unknown("dtype", dtype, DTYPES)
        kind = DTYPES[dtype]
        vae_path = local_folder(vae, vae_revision) if vae else folder / VAE_FOLDER
        config = JanusFlowConfig.from_file(folder)
        decoder = load_vae(vae_path, kind, fits=config)
        processor = load_processor(folder, config)
        model = JanusFlow.from_pretrained(folder, dtype=kind, device=device)
        return cls(model, processor, decoder.to(device))  # pyright: ignore[reportArgumentType, reportCallIssue] - diffusers wraps to()

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of one image's latents."""
        config = self.model.config
        return config.flow.latent_channels, config.latent_size, config.latent_size

    @property
    def image_size(self) -> int:
        """Side of a drawn picture in pixels; every block of the VAE but the last halves it."""
        return self.model.config.latent_size * 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int = 30,
        guidance_scale: float = 2.0,
        **options: Any,  # noqa: ANN401 - handed on
    ) -> DrawnImages:
        """Draw pictures as diffusers' pipelines do: ``pipe("a red circle", guidance_scale=5.0, generator=g).images[0]``.

        Args:
            prompt: One prompt or several.
            num_inference_steps: Steps of the solver.
            guidance_scale: Classifier-free guidance w; 1 for none.
            options: The other settings of `SamplerSettings` (``solver``, ``time_shift`` ...) and arguments of `drawing.draw`
                (``num_images_per_prompt``, ``generator``, ``latents``, ``output_type``, ``batch_size``, ``progress``, ``callback``).

        Raises:
            UserError: An argument is unknown or does not fit.
        """
        own = {name: options.pop(name) for name in DRAW_OPTIONS if name in options}
        settings = sampler_settings({"num_steps": num_inference_steps, "guidance_scale": guidance_scale, **options})
        return draw(self, prompt, settings, **own)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Tokenise a prompt to be drawn.

        Raises:
            BadRequest: It is empty, or prompt and image together exceed the language model's context.
        """
        if not prompt.strip():
            raise BadRequest("the prompt is empty; to draw without one, give any prompt and guidance_scale=0")
        ids = self.processor.generation_prompt(prompt)
        context = self.model.config.language.max_position_embeddings
        room = context - 1 - self.model.config.image_tokens
        if len(ids) > room:
            raise BadRequest(
                f"the prompt has {len(ids)} tokens; beside the image's {context - room} the model's context has room for {room}"
            )
        return ids

    def integrate(self, rows: Sequence[list[int]], z: Tensor, settings: SamplerSettings, on_step: StepCallback | None = None) -> Tensor:
        """Integrate noise ``z`` (B, C, h, w) to latents of the same shape, one tokenised prompt per row."""
        batch = PromptBatch.from_lists(list(rows), pad_id=self.processor.pad_id, device=self.model.device)
        return sample(self.model, batch, z, settings, pad_id=self.processor.pad_id, on_step=on_step)

    def draw_latents(self, prompts: Sequence[str], seeds: Sequence[int], settings: SamplerSettings) -> Tensor:
        """Draw latents (B, C, h, w), one per prompt; each depends on its own prompt and seed only, up to float rounding."""
        if len(prompts) != len(seeds):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
        return self.integrate([self.prompt_ids(prompt) for prompt in prompts], noise(seeds, self.latent_shape), settings)

    @torch.no_grad()
    def decode_pixels(self, latents: Tensor) -> Tensor:
        """Decode scaled latents (B, C, h, w) to RGB (B, 3, H, W), float32 in [0, 1]; the VAE's output is clipped to [-1, 1] first."""
        scaled = latents / self.vae.config["scaling_factor"]
        return self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0].float().clamp(-1, 1).add(1).div(2)

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Decode scaled latents to RGB images of 8 bits."""
        array = self.decode_pixels(latents).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(image) for image in array]

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], settings: SamplerSettings) -> list[Image.Image]:
        """Draw one image per prompt, all at once, or in halves where memory runs out."""

        def batch(place: slice) -> list[Image.Image]:
            return self.decode(self.draw_latents(prompts[place], seeds[place], settings))

        return [image for images in in_batches(len(prompts), max(1, len(prompts)), batch) for image in images]

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """Answer questions in batches; requests about one image compute it once. See `Understanding`."""
        return self.understanding.answer(questions)
