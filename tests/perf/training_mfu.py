"""Times the trainer's step on packed rows and states the share of the device's peak that the model's operations are (MFU).

Run: python tests/perf/training_mfu.py                          the published 1.3B model, sequence 4,096, bfloat16, on a GPU
     python tests/perf/training_mfu.py --size tiny --device cpu --peak-tflops 0.1      the same code in seconds, to see that it runs
     torchrun --nproc-per-node 8 tests/perf/training_mfu.py      the same step divided among the GPUs of a machine

A step is what the trainer does: batches packed as in the paper's stage 2 (14 : 80 : 6), forwards and backwards under autocast, clipping,
AdamW, the moving average. Weights and images are random; batches are made beforehand. Operations are those of
`jfeval.models.training.operations`: what is recomputed (`--recompute`), what fills the rows, and the VAE's encoding of pictures (left out
with `--no-vae`) take time and do not count. Steps are timed one by one after some that are not; the median is given.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from jfeval.models.janusflow.config import FlowConfig, JanusFlowConfig, LanguageConfig, VisionConfig
from jfeval.models.janusflow.model import JanusFlow
from jfeval.models.training.ema import Ema
from jfeval.models.training.janusflow_objective import JanusFlowObjective, StageSettings
from jfeval.models.training.loop import LoopSettings
from jfeval.models.training.objectives import IGNORED, AlignmentHead
from jfeval.models.training.optimizers import make_optimizer
from jfeval.models.training.packing import DRAWN, READ, PackedBatch, Piece, arranged, pack
from jfeval.models.training.peaks import peak_of
from jfeval.models.training.ranks import Ranks, joined
from jfeval.models.training.sharding import divided, moved
from jfeval.models.training.stages import compile_blocks
from jfeval.models.training.stream import PackedObjective

TINY = JanusFlowConfig(
    language=LanguageConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=512,
        max_position_embeddings=1024,
    ),
    vision=VisionConfig(model_name="siglip", image_size=32, patch_size=8, width=32, layers=2, heads=2),
    flow=FlowConfig(width=32),
)
SHARES = {"understanding": 0.14, "generation": 0.80, "text": 0.06}
"""Source: paper, table 1, stage 2 after its first 10,000 steps."""


class Step(PackedObjective):
    """The packed losses without a stream behind them; without a VAE the latents are the noise's."""

    def __init__(self, model: JanusFlow, head: AlignmentHead, settings: StageSettings, vae: AutoencoderKL | None) -> None:
        JanusFlowObjective.__init__(self, model, head, None, settings)
        self.encodes = vae is not None
        self.vae = vae  # pyright: ignore[reportAttributeAccessIssue] - not used where it is None

    def helpers(self) -> tuple[nn.Module, ...]:
        return (self.vae,) if self.encodes else ()

    def _latents(self, pixels: Tensor) -> Tensor:
        if self.encodes:
            return super()._latents(pixels)
        config = self.model.config
        return torch.zeros(len(pixels), config.flow.latent_channels, config.latent_size, config.latent_size, device=pixels.device)


def random_piece(kind: str, config: JanusFlowConfig, rng: np.random.Generator, lengths: dict[str, int]) -> Piece:
    """Make a sample of one kind with random tokens and an image of noise."""
    side, tokens = config.vision.image_size, lengths[kind]
    words = rng.integers(0, config.language.vocab_size, tokens).tolist()
    pixels = torch.from_numpy(rng.uniform(-1, 1, (3, side, side)).astype(np.float32))
    if kind == "text":
        return Piece(id=kind, kind=kind, tokens=words, targets=[IGNORED, *words[1:]], inserted=[0] * tokens)
    if kind == "understanding":
        places = config.vision.tokens + 1
        silent = [IGNORED] * (places + tokens // 2)
        seen, filled = [READ] * places + [0] * tokens, [0] * places + words
        return Piece(id=kind, kind=kind, tokens=filled, targets=silent + words[tokens // 2 :], inserted=seen, pixels=pixels)
    places = config.image_tokens + 1
    noise = torch.from_numpy(rng.standard_normal((config.flow.latent_channels, *[config.latent_size] * 2)).astype(np.float32))
    return Piece(
        id=kind,
        kind=kind,
        tokens=words + [0] * places,
        targets=[IGNORED] * (tokens + places),
        inserted=[0] * tokens + [DRAWN] * places,
        pixels=pixels,
        t=float(rng.uniform(0.01, 0.99)),
        noise=noise,
    )


def batch_of(rows: int, length: int, config: JanusFlowConfig, rng: np.random.Generator) -> PackedBatch:
    """Fill rows with samples in the paper's ratio until no further sample fits."""
    lengths = {"understanding": length // 32, "generation": length // 64, "text": length // 8}
    pieces: list[Piece] = []
    while True:
        kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
        more = [*pieces, random_piece(kind, config, rng, lengths)]
        if len(arranged([len(piece) for piece in more], length)) > rows:
            return pack(pieces, length, 0, isolate=True)
        pieces = more


def measure(arguments: argparse.Namespace, ranks: Ranks) -> None:
    """Build the model, time its steps and print what they are worth."""
    config = TINY if arguments.size == "tiny" else JanusFlowConfig()
    length = arguments.length or (256 if arguments.size == "tiny" else 4096)
    device = ranks.device(arguments.device)
    peak, missing = peak_of(arguments.peak_tflops, device)
    torch.manual_seed(0)
    settings = StageSettings(loop=LoopSettings(steps=1, learning_rate=1e-4, ema=0.99), freeze=("vision",))
    model = JanusFlow(config)
    model.checkpoint_activations(arguments.recompute)
    if arguments.compile:
        compile_blocks(model, device)
    head = AlignmentHead(config.language.hidden_size, config.language.hidden_size, config.vision.width)
    reduction = config.vision.image_size // config.latent_size
    widths = (128, 256, 512, 512) if arguments.size != "tiny" else (8,) * reduction.bit_length()
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * len(widths), "up_block_types": ("UpDecoderBlock2D",) * len(widths)}
    groups = 32 if arguments.size != "tiny" else 4
    vae = None if arguments.no_vae else AutoencoderKL(block_out_channels=widths, layers_per_block=2, norm_num_groups=groups, **blocks)
    objective = Step(model, head, settings, None if vae is None else vae.requires_grad_(False).eval())
    for module in (objective.module, *objective.helpers()):
        module.to(device)
    objective.module.train()
    loss_of = divided(objective, device, ranks.size) if ranks.size > 1 else objective.loss
    optimizer = make_optimizer(settings.loop, objective.groups())
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    ema = Ema(objective.module, settings.loop.ema)
    rng = np.random.default_rng(ranks.rank)
    batches = [batch_of(arguments.rows, length, config, rng) for _ in range(2)]
    seconds: list[float] = []
    operations = 0.0
    for step in range(arguments.untimed + arguments.steps):
        batch = batches[step % len(batches)]
        _finish(device)
        started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            loss, _ = loss_of(moved(batch, device))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.set_rate(1e-4)
        optimizer.step()
        ema.update()
        _finish(device)
        if step >= arguments.untimed:
            seconds.append(time.perf_counter() - started)
            operations += objective.operations(batch)
    tokens = sum(objective.tokens(batch) for batch in batches) / len(batches)
    median = statistics.median(seconds)
    rate = operations / len(seconds) / median
    if not ranks.first:
        return
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    share = f"MFU {rate / peak:.1%} of {peak / 1e12:g} TFLOP/s" if peak else f"MFU unknown: {missing}"
    print(f"{name} x {ranks.size}: {sum(p.numel() for p in model.parameters()) / 1e6:,.1f} M parameters, rows {arguments.rows} x {length}")
    print(
        f"median step {median:.3f} s of {len(seconds)}, from {min(seconds):.3f} to {max(seconds):.3f}; {tokens / median:,.0f} tokens/s each"
    )
    print(f"{rate / 1e12:.3g} TFLOP/s each; {share}")
    if device.startswith("cuda"):
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["published", "tiny"], default="published")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", type=int, default=4, help="packed rows per batch and device")
    parser.add_argument("--length", type=int, default=0, help="tokens per row; 4096, or 256 for the tiny size")
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--untimed", type=int, default=3, help="steps before them")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of one device, where it is not a known GPU")
    parser.add_argument("--recompute", action="store_true", help="activation checkpointing")
    parser.add_argument("--compile", action="store_true", help="compile the blocks")
    parser.add_argument("--no-vae", action="store_true", help="take latents as given")
    with joined() as found:
        measure(parser.parse_args(), found)
