"""Understanding encoders of the ablations, and whose features representation alignment aims at.

The paper's model understands through a pre-trained contrastive encoder. Two of its ablations understand through what generation uses:
a VAE and ConvNeXt blocks, either the very blocks of the generation encoder (``shared``) or blocks and a VAE of their own, the latter
trained too (``separate``). Both read clean images, so their time embedding is that of t = 1. The linear layer to the language model's
width is the understanding side's own in both; the paper does not say.

Source: paper section 4.4 and table 6, rows B and C.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import SiglipModel

from jfeval.errors import UserError
from jfeval.models.janusflow.config import JanusFlowConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.janusflow.uvit import ConvNeXtBlock, FlowEncoder
from jfeval.models.janusflow.vision import VisionTower
from jfeval.models.training.data import seeded

Reading = Literal["contrastive", "shared", "separate"]
"""How a model understands images."""

VARIANT_WEIGHTS = "variant.safetensors"
"""Weights of a model that understands through latents; the published form has no names for them."""


class LatentEncoder(nn.Module):
    """Reads images through a VAE's encoder and ConvNeXt blocks, at t = 1."""

    def __init__(self, vae: AutoencoderKL, blocks: FlowEncoder, *, own: bool) -> None:
        """Build.

        Args:
            vae: Its encoding half is copied.
            blocks: Latents to features.
            own: Whether the blocks belong to this encoder, and the copied VAE is trained; otherwise they are the generation encoder's,
                which is stored and trained as such, and the VAE stays as it is.
        """
        super().__init__()
        self.own = own
        self.encoder, self.quant_conv = copy.deepcopy(vae.encoder), copy.deepcopy(vae.quant_conv)
        self.scale = float(vae.config["scaling_factor"])
        self.vae_config: dict[str, Any] = {key: value for key, value in vae.config.items() if not key.startswith("_")}
        if own:
            self.blocks = blocks
        else:
            self._shared = (blocks,)  # in a tuple, so that the module is not registered twice

    def flow(self) -> FlowEncoder:
        """Return the ConvNeXt blocks."""
        return self.blocks if self.own else self._shared[0]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode pixels (B, 3, S, S) in [-1, 1] as features (B, tokens, width)."""
        with torch.set_grad_enabled(self.own and torch.is_grad_enabled()):
            moments = self.encoder(pixel_values)
            moments = moments if self.quant_conv is None else self.quant_conv(moments)
            latents = moments.chunk(2, dim=1)[0] * self.scale
        blocks = self.flow()
        time = blocks.embed_time(latents.new_ones(len(latents), dtype=torch.float32))
        return blocks(latents, time).flatten(2).transpose(1, 2)


def read_through_latents(model: JanusFlow, vae: AutoencoderKL, reading: Reading, *, seed: int) -> None:
    """Replace a model's understanding encoder, and the linear layer after it, by one that reads latents.

    Args:
        model: Changed in place.
        vae: See `LatentEncoder`.
        reading: ``shared`` or ``separate``.
        seed: Seeds what is new.
    """
    blocks = model.vision_gen_enc_model
    with seeded(seed):
        if reading == "separate":
            blocks = FlowEncoder(model.config.flow, model.config.language.hidden_size)
            for module in blocks.modules():  # time modulation starts as the identity, as everywhere
                if isinstance(module, ConvNeXtBlock):
                    for parameter in module.cond_embeds_mapper.parameters():
                        nn.init.zeros_(parameter)
        model.vision_und_enc_aligner = nn.Linear(model.config.flow.width, model.config.language.hidden_size)
    model.vision_und_enc_model = LatentEncoder(vae, blocks, own=reading == "separate")  # pyright: ignore[reportAttributeAccessIssue] - of the tower's form


def frozen_always(model: JanusFlow) -> tuple[str, ...]:
    """Name the tensors that no stage trains: the VAE inside a shared encoder, since the VAE is frozen throughout."""
    encoder: nn.Module = model.vision_und_enc_model
    if isinstance(encoder, LatentEncoder) and not encoder.own:
        return "vision_und_enc_model.encoder.", "vision_und_enc_model.quant_conv."
    return ()


def reading_of(model: JanusFlow) -> Reading:
    """Return how a model understands images."""
    encoder: nn.Module = model.vision_und_enc_model
    if not isinstance(encoder, LatentEncoder):
        return "contrastive"
    return "separate" if encoder.own else "shared"


def fill(module: nn.Module, stored: Mapping[str, Tensor], mend: str) -> None:
    """Load weights into a module.

    Args:
        module: Changed in place.
        stored: Every tensor of the module.
        mend: Ends the error's message: where the weights are from and what to change.

    Raises:
        UserError: Names or shapes differ.
    """
    own = module.state_dict()
    if own.keys() != stored.keys():
        raise UserError(f"the tensors {', '.join(sorted(own.keys() ^ stored.keys())[:3])} are not on both sides; {mend}")
    for name, tensor in own.items():
        if tensor.shape != stored[name].shape:
            raise UserError(f"{name} has shape {list(stored[name].shape)}, and {list(tensor.shape)} is needed; {mend}")
    module.load_state_dict(stored)


def save_stage(model: JanusFlow, folder: Path, *, dtype: torch.dtype = torch.float32, shard_bytes: int = 0) -> None:
    """Write a stage's model: in the published form where that has names for everything, in its own otherwise.

    Args:
        model: The model.
        folder: An existing folder.
        dtype: Type of the stored weights.
        shard_bytes: Largest weights file of the published form; 0 for its default.
    """
    if not isinstance(model.vision_und_enc_model, LatentEncoder):
        model.save_pretrained(folder, dtype=dtype, shard_bytes=shard_bytes)
        return
    save_config(model, folder)
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}, folder / VARIANT_WEIGHTS)


def save_config(model: JanusFlow, folder: Path) -> None:
    """Write ``config.json``: the published form, and, for a model that understands through latents, how and with which VAE."""
    config = model.config.to_published()
    encoder: nn.Module = model.vision_und_enc_model
    if isinstance(encoder, LatentEncoder):
        config |= {"understanding_through": reading_of(model), "understanding_vae": encoder.vae_config}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def empty_model(folder: Path) -> JanusFlow:
    """Build the model that ``config.json`` describes, with weights that mean nothing.

    Raises:
        UserError: The folder has no such file, or one of a kind that this version does not know.
    """
    config = JanusFlowConfig.from_file(folder)
    stored = json.loads((folder / "config.json").read_text("utf-8"))
    model = JanusFlow(config)
    reading = stored.get("understanding_through", "contrastive")
    if reading not in get_args(Reading):
        raise UserError(f"{folder}/config.json says understanding_through = {reading!r}; known are {', '.join(get_args(Reading))}")
    if reading != "contrastive":
        read_through_latents(model, AutoencoderKL.from_config(stored["understanding_vae"]), reading, seed=0)  # pyright: ignore[reportArgumentType]
    return model


def load_stage(folder: Path) -> JanusFlow:
    """Load what `save_stage` wrote, in float32.

    Raises:
        UserError: The folder holds no model, or one of a kind that this version does not know.
    """
    if not (folder / VARIANT_WEIGHTS).is_file():
        return JanusFlow.from_pretrained(folder, dtype=torch.float32)
    model = empty_model(folder)
    model.load_state_dict(load_file(folder / VARIANT_WEIGHTS))
    return model.eval()


def alignment_target(target: str, siglip: Path | None, config: VisionConfig, *, seed: int) -> VisionTower | None:
    """Build the frozen encoder whose features are aligned to; None where that is the model's own.

    Args:
        target: `FlowSettings.repa_target`.
        siglip: Folder of the pre-trained encoder in transformers' form, which ``contrastive`` reads.
        config: Its sizes.
        seed: Draws the weights of ``random``.

    Raises:
        UserError: ``contrastive`` is asked for without the folder, or the encoder in it has other sizes.
    """
    if target not in ("contrastive", "random"):
        return None
    with seeded(seed):
        tower = VisionTower(config)
    if target == "contrastive":
        if siglip is None:
            raise UserError("flow.repa_target = contrastive needs the part that holds the encoder: add `contrastive` to the stage's inputs")
        trained = SiglipModel.from_pretrained(siglip, local_files_only=True).vision_model
        fill(
            tower.vision_tower,
            trained.state_dict(),
            f"flow.repa_target = contrastive: the encoder in {siglip} has other sizes than the model's",
        )
    return tower.requires_grad_(False).eval()
