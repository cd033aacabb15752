"""Times drawing against the published procedure, same weights, same machine, float32 unless asked otherwise.

Run: python tests/perf/sampling.py                                             the embedded model's size
     python tests/perf/sampling.py --published --depth 2 --images 1 --prompts 1 published widths, fewer blocks: minutes on 2 cores
     python tests/perf/sampling.py --compile                                   what torch.compile adds; --dtype bfloat16 likewise
     python tests/perf/sampling.py --published --depth 24 --device cuda --dtype bfloat16 --images 5

Baseline: the published procedure as a plain loop. One prompt at a time, its images in one batch, and every step reads prompt, time and
image. Ours: the same images with each prompt computed once. The bound counts multiplications by weights: (P + N + 1) tokens through the
language model in every step, against N + 1 and once P; N tokens through the generation encoder and decoder either way. The saving is the
part of the baseline's time that ours does without, and its share is of what the bound allows.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from jfeval.models.janusflow.config import JanusFlowConfig
from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.sampling import noise, sample
from jfeval.models.janusflow.settings import SamplerSettings
from jfeval.models.shapes import WEIGHTS


@torch.no_grad()
def as_published(model: JanusFlow, prompts: list[list[int]], images: int, z: torch.Tensor, settings: SamplerSettings) -> torch.Tensor:
    """Draw prompt by prompt, reading the whole prompt in every step."""
    drawn, w = [], settings.guidance_scale
    for number, ids in enumerate(prompts):
        batch = PromptBatch.from_lists([ids] * images, pad_id=0, device=model.device)
        rows, state = batch.then(batch.unconditional(0)), z[number * images : (number + 1) * images]
        for step in range(settings.num_steps):
            both = torch.cat([state, state])
            velocity, _ = model.velocity(both, both.new_full((len(both),), step / settings.num_steps), rows)
            conditional, unconditional = velocity.float().chunk(2)
            state = state + (w * conditional - (w - 1) * unconditional) / settings.num_steps
        drawn.append(state)
    return torch.cat(drawn)


def ours(model: JanusFlow, prompts: list[list[int]], images: int, z: torch.Tensor, settings: SamplerSettings) -> torch.Tensor:
    """Draw every image of every prompt in one batch."""
    rows = [ids for ids in prompts for _ in range(images)]
    return sample(model, PromptBatch.from_lists(rows, pad_id=0, device=model.device), z, settings, pad_id=0)


def seconds(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Time one call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def bound(model: JanusFlow, prompt_tokens: int, steps: int) -> float:
    """Return how much faster drawing can become by computing the prompt once."""

    def weights(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    n = model.config.image_tokens
    blocks = weights(model.language_model.model.layers)
    flow = weights(
        model.vision_gen_enc_model.mid_block, model.vision_gen_dec_model, model.vision_gen_enc_aligner, model.vision_gen_dec_aligner
    )
    step = (n + 1) * blocks + n * flow
    return steps * (prompt_tokens * blocks + step) / (prompt_tokens * blocks + steps * step)


def load(options: argparse.Namespace) -> JanusFlow:
    """Build the model that is timed."""
    if not options.published:
        return JanusFlow.from_pretrained(WEIGHTS)
    published = JanusFlowConfig()
    config = replace(published, language=replace(published.language, num_hidden_layers=options.depth, vocab_size=1024))
    torch.manual_seed(0)
    return JanusFlow(config).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", action="store_true", help="published widths, random weights")
    parser.add_argument("--depth", type=int, default=6, help="blocks of the language model with --published")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[36, 250])
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--images", type=int, default=5, help="per prompt")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="draw ours through torch.compile; its first call is not timed")
    options = parser.parse_args()
    model = load(options).to(options.device, getattr(torch, options.dtype))
    plain, velocity = model.velocity, model.velocity
    if options.compile:
        model.compile_velocity()
        velocity = model.velocity
    config, settings = model.config, SamplerSettings(num_steps=options.steps, guidance_scale=2.0)
    shape = (config.flow.latent_channels, config.latent_size, config.latent_size)
    z = noise(range(options.prompts * options.images), shape).to(options.device)
    print(f"{options.prompts} prompts x {options.images} images, {options.steps} steps, w = 2, {options.dtype} on {options.device}")
    print(
        f"{config.language.num_hidden_layers} blocks of width {config.language.hidden_size}, {config.image_tokens} image tokens, ", end=""
    )
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print("prompt tokens   as published s   ours s   ratio   bound   share of the saving   largest difference")
    for tokens in options.prompt_tokens:
        generator = torch.Generator().manual_seed(tokens)
        prompts = [torch.randint(1, 500, (tokens,), generator=generator).tolist() for _ in range(options.prompts)]
        times: dict[str, list[float]] = {"published": [], "ours": []}
        if options.compile:
            ours(model, prompts, options.images, z, SamplerSettings(num_steps=2, guidance_scale=2.0))
        for _ in range(options.repeats):
            model.velocity = plain
            slow_time, slow = seconds(lambda ids=prompts: as_published(model, ids, options.images, z, settings))
            model.velocity = velocity
            fast_time, fast = seconds(lambda ids=prompts: ours(model, ids, options.images, z, settings))
            times["published"].append(slow_time)
            times["ours"].append(fast_time)
        a, b = (statistics.median(times[name]) for name in ("published", "ours"))
        difference = float((slow - fast).abs().max())
        allowed = bound(model, tokens, options.steps)
        share = (1 - b / a) / (1 - 1 / allowed)
        print(f"{tokens:13d}   {a:14.2f}   {b:6.2f}   {a / b:5.2f}   {allowed:5.2f}   {share:19.0%}   {difference:.1e}", flush=True)


if __name__ == "__main__":
    main()
