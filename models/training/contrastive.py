"""The understanding encoder: a SigLIP of transformers' own classes, both towers from random weights, on images and captions.

Loss: for every image i and caption j of a batch, ``-log sigmoid(z_ij (t x_i . y_j + b))`` with unit vectors x, y, z_ij = 1 for a pair and
-1 otherwise, summed over captions and averaged over images. Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training",
equation 1 and section 3.2 (t starts at 10, b at -10).

Differs: captions of a world this small repeat inside a batch; an image is a positive of every caption of its batch that reads like its own.
"""

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel

from jfeval.errors import UserError
from jfeval.models.training.checks import finite, fraction, positive
from jfeval.models.training.data import Sampler, Scenes, StepRng, seeded
from jfeval.models.training.loop import LoopSettings, fit
from jfeval.models.training.part import Part
from jfeval.models.training.tokenizer import end_and_pad, load_tokenizer

log = logging.getLogger(__name__)

SIGLIP = "siglip"
"""Where a finished part keeps both towers."""


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """Sizes of one transformer tower."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp: int = 512


@dataclass(frozen=True, kw_only=True)
class ContrastiveSettings:
    """Sizes and batches of the contrastive training."""

    vision: TowerSettings = field(default_factory=TowerSettings)
    text: TowerSettings = field(default_factory=lambda: TowerSettings(layers=2))
    image_size: int = 64
    patch_size: int = 8
    text_length: int = 32
    """Captions are cut or padded to this many tokens; the text tower pools the last position, as SigLIP does."""
    batch_size: int = 256
    longest: float = 0.5
    """Share of pairs that take a scene's longest caption, which says most, instead of a random one."""
    temperature: float = 10.0
    bias: float = -10.0
    """Where the loss's t and b start."""
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=1200, learning_rate=1e-3, weight_decay=0.01))
    gallery: int = 100
    """Test images of different compositions among which retrieval is measured."""

    def __post_init__(self) -> None:
        """Refuse empty batches and numbers that cannot train."""
        positive(self, "batch_size", "image_size", "patch_size", "text_length", "temperature")
        finite(self, "bias")
        fraction(self, "longest")


def build_siglip(settings: ContrastiveSettings, tokenizer: PreTrainedTokenizerFast) -> SiglipModel:
    """Build both towers with random weights drawn from the loop's seed."""

    def sizes(tower: TowerSettings) -> dict[str, int | float | str]:
        return {
            "hidden_size": tower.width,
            "num_hidden_layers": tower.layers,
            "num_attention_heads": tower.heads,
            "intermediate_size": tower.mlp,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        }

    text = {
        **sizes(settings.text),
        "vocab_size": len(tokenizer),
        "max_position_embeddings": settings.text_length,
        "projection_size": settings.vision.width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**sizes(settings.vision), "image_size": settings.image_size, "patch_size": settings.patch_size}
    with seeded(settings.loop.seed):
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(settings.temperature))
        model.logit_bias.fill_(settings.bias)
    return model


def encode_captions(tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], length: int) -> Tensor:
    """Tokenise captions to (B, length), ended by the end token, cut or padded on the right."""
    end, pad = end_and_pad(tokenizer)
    ended = [[*tokenizer.encode(c, add_special_tokens=False)[: length - 1], end] for c in captions]
    return torch.tensor([[*ids, *[pad] * (length - len(ids))] for ids in ended])


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Images with one caption each."""

    ids: list[str]
    pixels: Tensor
    """(B, 3, H, W) in [-1, 1]."""
    tokens: Tensor
    """(B, T)."""
    signs: Tensor
    """(B, B): 1 where caption j reads like image i's own, -1 elsewhere."""


def pair_signs(captions: Sequence[str]) -> Tensor:
    """Return (B, B) float: 1 where two captions are the same text, -1 elsewhere."""
    numbers = torch.tensor([{c: i for i, c in enumerate(dict.fromkeys(captions))}[c] for c in captions])
    return 2.0 * (numbers[:, None] == numbers[None, :]).float() - 1.0


def sigmoid_loss(logits: Tensor, signs: Tensor) -> Tensor:
    """Return the sigmoid loss of (B, B) logits; see the module's docstring."""
    return -F.logsigmoid(signs * logits.float()).sum() / logits.shape[0]


class ContrastiveObjective:
    """Pairs of images and captions under the sigmoid loss."""

    def __init__(self, module: SiglipModel, tokenizer: PreTrainedTokenizerFast, scenes: Scenes, settings: ContrastiveSettings) -> None:
        self.module, self.tokenizer, self.scenes, self.settings = module, tokenizer, scenes, settings
        self.sampler = Sampler(len(scenes), settings.batch_size, settings.loop.seed)

    def groups(self) -> Sequence[tuple[float, Sequence[nn.Parameter]]]:
        """Train everything at one rate."""
        return [(1.0, list(self.module.parameters()))]

    def matrices(self) -> Sequence[nn.Parameter]:
        """Return the hidden matrices of both towers' blocks."""
        blocks = (self.module.vision_model.encoder.layers, self.module.text_model.encoder.layers)
        return [p for block in blocks for p in block.parameters() if p.ndim == 2]

    def batch(self, step: int, rng: StepRng) -> PairBatch:
        """Draw scenes, and one caption for each."""
        rows = self.sampler.indices(step)
        captions = []
        for row in rows:
            known = self.scenes.captions(row)
            take_longest = rng.numpy.random() < self.settings.longest
            captions.append(max(known, key=len) if take_longest else known[int(rng.numpy.integers(len(known)))])
        return PairBatch(
            ids=[self.scenes.ids[i] for i in rows],
            pixels=self.scenes.pixels(rows),
            tokens=encode_captions(self.tokenizer, captions, self.settings.text_length),
            signs=pair_signs(captions),
        )

    def ids(self, batch: PairBatch) -> Sequence[str]:
        """Name the scenes of a batch."""
        return batch.ids

    def loss(self, batch: PairBatch) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return the sigmoid loss, and the share of images whose own caption scores highest in the batch."""
        logits = self.module(input_ids=batch.tokens, pixel_values=batch.pixels).logits_per_image
        with torch.no_grad():
            best = batch.signs.gather(1, logits.argmax(1, keepdim=True))
        return sigmoid_loss(logits, batch.signs), {"batch_top1": (best > 0).float().mean()}


def distinct_gallery(scenes: Scenes, count: int) -> tuple[list[int], list[str]]:
    """Choose up to `count` scenes of different compositions (kinds and colours of objects), each with a caption naming all its colours."""
    rows, captions, seen = [], [], set()
    for row in range(len(scenes)):
        things = scenes.objects(row) or []
        composition = tuple(sorted((str(t["color"]), str(t["shape"])) for t in things))
        naming = [c for c in scenes.captions(row) if all(color in c for color, _ in composition)]
        if naming and composition not in seen:
            seen.add(composition)
            rows.append(row)
            captions.append(max(naming, key=len))
            if len(rows) == count:
                break
    return rows, captions


@torch.no_grad()
def retrieval(
    model: SiglipModel, tokenizer: PreTrainedTokenizerFast, scenes: Scenes, rows: Sequence[int], captions: Sequence[str], length: int
) -> dict[str, float]:
    """Measure recall at 1 in both directions among the scenes `rows` with one caption each."""
    logits = model(input_ids=encode_captions(tokenizer, captions, length), pixel_values=scenes.pixels(rows)).logits_per_image
    own = torch.arange(len(rows))
    return {
        "gallery": float(len(rows)),
        "image_to_text_r1": float((logits.argmax(1) == own).float().mean()),
        "text_to_image_r1": float((logits.argmax(0) == own).float().mean()),
    }


def train_contrastive(settings: ContrastiveSettings, part: Part) -> dict[str, float]:
    """Train both towers and write them in transformers' form, with their retrieval on test scenes."""
    data = part.inputs["data"]
    tokenizer = load_tokenizer(part.inputs["tokenizer"] / "tokenizer")
    scenes, test = Scenes.open_train(data), Scenes(data, "test")
    model = build_siglip(settings, tokenizer)
    log.info("contrastive: %d parameters, %d of them vision", _size(model), _size(model.vision_model))
    gallery, captions = distinct_gallery(test, settings.gallery)

    def evaluate(_: int) -> Mapping[str, float]:
        return retrieval(model, tokenizer, test, gallery, captions, settings.text_length)

    model.set_attn_implementation("eager")  # few tokens: the backward pass of fused attention is ten times slower on a CPU
    objective = ContrastiveObjective(model, tokenizer, scenes, settings)
    result = fit(part.name, objective, settings.loop, part.folder, signature=part.hash, evaluate=evaluate)
    model.save_pretrained(part.folder / SIGLIP, safe_serialization=True)
    final = evaluate(settings.loop.steps)
    return {**final, "vision_parameters": float(_size(model.vision_model)), "seconds": result.seconds, **result.losses}


def export_encoder(folder: Path, out: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write both towers of a finished part with their tokenizer as one folder in transformers' form.

    Args:
        folder: The part's folder; the recipe's tokenizer lies beside it.
        out: A new or empty folder.
        dtype: Of the weights; float16 halves the file.

    Raises:
        UserError: The tokenizer is not there, or ``out`` is not empty.
    """
    tokenizer = folder.parent / "tokenizer" / "tokenizer"
    if not (tokenizer / "tokenizer.json").is_file():
        raise UserError(f"{folder} was trained with the tokenizer in {tokenizer}, and that is not there; give the part where it was made")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; name a new folder")
    SiglipModel.from_pretrained(folder / SIGLIP, local_files_only=True, dtype=dtype).save_pretrained(out, safe_serialization=True)
    for file in sorted(tokenizer.glob("tokenizer*.json")):
        shutil.copyfile(file, out / file.name)
    return out


def _size(module: nn.Module) -> int:
    """Count parameters."""
    return int(np.sum([p.numel() for p in module.parameters()]))
