"""Packed batches from data sources, and the stage's losses over them: how a model of any size is trained on data that is not decoded once.

Everything random about a sample comes from (seed, kind, place in the kind's order), so it does not depend on the batch, and a variant of
an ablation that leaves a kind out sees the rest as it was.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from jfeval.cores import available_cores
from jfeval.errors import UserError
from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.processing import Processor
from jfeval.models.training.data import StepRng
from jfeval.models.training.encoders import LatentEncoder
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.kept import Kept, weights_digest
from jfeval.models.training.mixture import MixtureSettings, dialogue
from jfeval.models.training.objectives import IGNORED, AlignmentHead, FlowSettings, aligned_to, alignment_loss, interpolate, velocity_loss
from jfeval.models.training.packing import DRAWN, READ, PackedBatch, Piece, forward_packed, pack
from jfeval.models.training.ratios import KINDS
from jfeval.models.training.rows import Row
from jfeval.models.training.skipped import Skipped
from jfeval.models.training.sources import UNUSABLE, Kinds, SourcesSettings


def random_square(image: Image.Image, side: int, rng: np.random.Generator) -> Tensor:
    """Resize the shorter side to ``side`` and cut a square at a random place; return pixels (3, side, side) in [-1, 1].

    Source: paper section 4.2, the images of generation.
    """
    scale = side / min(image.size)
    width, height = (max(side, round(edge * scale)) for edge in image.size)
    left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
    cut = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    return torch.from_numpy(np.asarray(cut, np.float32)).permute(2, 0, 1).div(127.5).sub(1.0)


def shortened_prompt(caption: str, processor: Processor, limit: int) -> list[int]:
    """Return a caption in chat form as at most ``limit`` tokens: what is too long loses its last tokens, and the form stays whole.

    Raises:
        UserError: There is no room for the form around one token.
    """
    ids, words = processor.generation_prompt(caption), processor.encode_more(caption)
    keep = len(words)
    while len(ids) > limit:
        keep -= len(ids) - limit
        shorter = processor.decode(words[: max(keep, 0)]).rstrip("\N{REPLACEMENT CHARACTER}")  # half a character says nothing
        if not shorter:
            raise UserError(f"mixture.prompt_tokens = {limit} has no room for the chat form around a caption; raise it")
        ids = processor.generation_prompt(shorter)
    return ids


MOST_WORKERS = 16
"""Threads that decode where their number is not given."""


class StreamMixture:
    """Draws packed batches; the next one is made beside the model, while it learns from this one.

    One thread reads rows in their order, and `MixtureSettings.workers` threads decode and cut their images: Pillow lets go of Python's
    lock meanwhile. What comes out does not depend on their number.
    """

    def __init__(
        self,
        sources: SourcesSettings,
        processor: Processor,
        config: JanusFlowConfig,
        settings: MixtureSettings,
        flow: FlowSettings,
        *,
        seed: int,
        accumulate: int = 1,
        stride: int = 1,
        known: Skipped | None = None,
    ) -> None:
        """Prepare.

        Args:
            sources: The data.
            processor: The model's tokenizer and image processor.
            config: The model's sizes.
            settings: Counts, lengths and packing.
            flow: Times and dropped prompts.
            seed: Seeds every sample's draws.
            accumulate: Batches per update.
            stride: From one wanted batch to the next, where several processes take turns.
            known: Rows that are known to be unusable, and where others are noted.

        Raises:
            UserError: A setting is one of decoded scenes, or a wanted kind has no source.
        """
        if not settings.pack_to:
            raise UserError("data sources are packed: set mixture.pack_to, for example to 4096")
        for name in ("describe", "short_captions", "long_captions"):
            if getattr(settings, name):
                raise UserError(f"mixture.{name} is for decoded scenes; rows of data sources are taken as they are, so set it to 0")
        self.processor, self.config, self.settings, self.flow, self.seed = processor, config, settings, flow, seed
        shares = settings.phases or (settings,)
        wanted = [kind for kind in KINDS if kind not in settings.leave_out and any(getattr(each, kind) for each in shares)]
        self.kinds = Kinds(sources, seed=seed, kinds=wanted, check=self.fits, known=known)
        self.schedule = settings.schedule(accumulate)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        workers = settings.workers or min(available_cores(), MOST_WORKERS)
        self._decoders = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="images")
        self._ahead: dict[int, Future[PackedBatch]] = {}
        self._stride = stride

    def batch(self, step: int, rng: StepRng) -> PackedBatch:  # noqa: ARG002 - the draws are each sample's own
        """Return the batch of one step, and begin the one that is wanted next."""
        made = self._ahead.pop(step, None)
        for other in self._ahead.values():
            other.cancel()
        self._ahead.clear()
        batch = made.result() if made is not None else self._worker.submit(self.make, step).result()
        coming = step + self._stride
        self._ahead[coming] = self._worker.submit(self.make, coming)
        return batch

    def make(self, step: int) -> PackedBatch:
        """Draw, decode and pack the samples of one step."""
        start, counts = self.schedule.before(step)._asdict(), self.schedule.counts(step)._asdict()
        wanted = [kind for kind in ("generation", "understanding", "text") if kind not in self.settings.leave_out]
        places = [(kind, place) for kind in wanted for place in range(start[kind], start[kind] + counts[kind])]
        begun = [self._decoders.submit(self._made, *at, self.kinds.begin(*at)) for at in places]
        pieces = [self._finished(made, *at) for made, at in zip(begun, places, strict=True)]
        scale = self.schedule.scale(step)
        return pack(pieces, self.settings.pack_to, self.processor.pad_id, isolate=self.settings.isolate, scale=scale)

    def piece(self, kind: str, place: int) -> Piece:
        """Return one sample as tokens; where its row cannot be used, that of the next one."""
        return self._made(kind, place, partial(self.kinds.row, kind, place))

    def _finished(self, made: Future[Piece], kind: str, place: int) -> Piece:
        """Wait for a sample; where its row cannot be used, note that and take the next one, in the order of places."""
        try:
            return made.result()
        except UNUSABLE:
            return self.piece(kind, place)

    def _made(self, kind: str, place: int, read: Callable[[], Row]) -> Piece:
        row = read()
        rng = np.random.default_rng([self.seed, KINDS.index(kind), place])
        if kind == "text":
            return self._text(row)
        return self._drawing(row, rng) if kind == "generation" else self._conversation(row)

    def _text(self, row: Row) -> Piece:
        tokens = [*self.processor.encode(row.text)[: self.settings.text_tokens - 1], self.processor.end_id]
        return Piece(id=row.id, kind="text", tokens=tokens, targets=[IGNORED, *tokens[1:]], inserted=[0] * len(tokens))

    def fits(self, row: Row) -> None:
        """Raise ValueError where a conversation's first turn is longer than the settings allow."""
        if row.questions:
            try:
                dialogue(row.questions[:1], self.processor, self.settings.conversation_tokens)
            except UserError as error:
                raise ValueError(str(error)) from error

    def _conversation(self, row: Row) -> Piece:
        tokens, places, targets = dialogue(row.questions[: self.settings.turns or None], self.processor, self.settings.conversation_tokens)
        assert row.image is not None
        inserted = [READ if place else 0 for place in places]
        return Piece(
            id=row.id, kind="understanding", tokens=tokens, targets=targets, inserted=inserted, pixels=self.processor.images(row.image)
        )

    def _drawing(self, row: Row, rng: np.random.Generator) -> Piece:
        assert row.image is not None
        config = self.config
        prompt = shortened_prompt(row.captions[int(rng.integers(len(row.captions)))], self.processor, self.settings.prompt_tokens)
        pixels = random_square(row.image, config.vision.image_size, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        logit = self.flow.time_location + self.flow.time_scale * torch.randn((), generator=generator)
        shape = (config.flow.latent_channels, config.latent_size, config.latent_size)
        noise = torch.randn(shape, generator=generator)
        dropped = bool(torch.rand((), generator=generator) < self.flow.prompt_dropout)
        if dropped:  # the first token stays, as in sampling without a prompt
            prompt = [prompt[0], *[self.processor.pad_id] * (len(prompt) - 1)]
        places = config.image_tokens + 1
        total = len(prompt) + places
        order = torch.randperm(config.image_tokens, generator=generator) if self.flow.repa_target == "shuffled" else None
        return Piece(
            id=row.id,
            kind="generation",
            tokens=[*prompt, *[self.processor.pad_id] * places],
            targets=[IGNORED] * total,
            inserted=[0] * len(prompt) + [DRAWN] * places,
            hidden=[dropped and 0 < i < len(prompt) for i in range(total)],
            pixels=pixels,
            t=float(torch.sigmoid(logit)),
            noise=noise,
            order=order,
        )


class PackedObjective(JanusFlowObjective):
    """The stage's losses over packed rows; latents and features are computed as they are needed, or kept (`StageSettings.keep_gib`)."""

    def __init__(
        self,
        model: JanusFlow,
        head: AlignmentHead | None,
        mixture: StreamMixture,
        settings: StageSettings,
        target: nn.Module | None,
        vae: AutoencoderKL,
        kept: Kept | None = None,
    ) -> None:
        super().__init__(model, head, None, settings, target)
        self.stream, self.vae, self.kept = mixture, vae.requires_grad_(False).eval(), kept
        encoder: nn.Module = model.vision_und_enc_model
        frozen = "vision" in settings.freeze and not isinstance(encoder, LatentEncoder)
        self._names = {"latents": "", "read": "", "aligned": ""}
        if kept is not None:  # while the model is in one piece
            own = f"{weights_digest(encoder)} {settings.loop.dtype}" if frozen else ""
            aligned = own if target is None else f"{weights_digest(target)} {settings.loop.dtype}"
            if aligned and settings.flow.repa_output != "normed":
                aligned += f" {settings.flow.repa_output}"
            self._names = {"latents": weights_digest(vae), "read": own, "aligned": aligned}

    def helpers(self) -> Sequence[nn.Module]:
        """Return the VAE too."""
        return (*super().helpers(), self.vae)

    def batch(self, step: int, rng: StepRng) -> PackedBatch:  # pyright: ignore[reportIncompatibleMethodOverride] - its own kind of batch
        """Return the step's rows."""
        return self.stream.batch(step, rng)

    def ids(self, batch: PackedBatch) -> Sequence[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Name the samples of a batch."""
        return batch.ids

    def tokens(self, batch: PackedBatch) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Count the tokens of a batch, without what fills its rows."""
        return int((batch.documents >= 0).sum())

    def operations(self, batch: PackedBatch) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Estimate the floating-point operations of learning from a batch, without what fills its rows; the VAE's are not counted."""
        found, cost = 0.0, self.costs
        for row in batch.documents:
            found += sum(cost.language(int(n)) for n in torch.unique(row[row >= 0], return_counts=True)[1])
        found += int((batch.targets != IGNORED).sum()) * cost.logit
        return found + len(batch.read_pixels) * cost.read + len(batch.drawn_pixels) * cost.drawn

    def found(self) -> Mapping[str, Any]:
        """Return the rows that could not be used, by source."""
        return {"skipped": self.stream.kinds.skipped()}

    def loss(self, batch: PackedBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the weighted sum and its parts; see `JanusFlowObjective.loss`."""
        s, model = self.settings, self.model
        drawn = batch.drawn_pixels.numel() > 0
        z = direction = None
        if drawn:
            z, direction = interpolate(self._latents(batch.drawn_pixels), batch.noise, batch.t)
        collect = s.flow.block(model.config.language.num_hidden_layers) if self.head is not None and drawn else None
        known = self.kept is not None and self._names["read"] and batch.read_pixels.numel() > 0
        read = self._encoded("read", batch.read_pixels, model.vision_und_enc_model) if known else None
        out = forward_packed(model, batch, z, collect=collect, read_features=read)
        parts: dict[str, Tensor] = dict(out.losses)
        if out.velocity is not None and direction is not None:
            parts["flow"] = velocity_loss(out.velocity, direction)
        if out.states is not None and self.head is not None:
            parts["repa"] = alignment_loss(self.head(out.states), self._features(batch))
        return self.summed(parts, batch.scale)

    @torch.no_grad()
    def _latents(self, pixels: Tensor) -> Tensor:
        """Encode images as scaled latents, in float32: the published VAE overflows in 16-bit floats."""

        def encode(images: Tensor) -> Tensor:
            with torch.autocast(images.device.type, enabled=False):
                mean = self.vae.encode(images.to(self.vae.dtype), return_dict=False)[0].mean
            return mean.float() * self.vae.config["scaling_factor"]

        return self._encoded("latents", pixels, encode)

    @torch.no_grad()
    def _features(self, batch: PackedBatch) -> Tensor:
        encode = aligned_to(self.target or self.model.vision_und_enc_model, self.settings.flow)
        features = self._encoded("aligned", batch.drawn_pixels, encode)
        return features if batch.order is None else features.gather(1, batch.order[..., None].expand_as(features))

    @torch.no_grad()
    def _encoded(self, what: str, pixels: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Run a network, or take what is kept of it where it is frozen."""
        name = self._names[what]
        return self.kept.encode(name, pixels, network) if self.kept is not None and name else network(pixels)
