"""Times sampling with the prompt computed once against the prompt recomputed at every step, same weights, same machine.

Run: python tests/perf/sampling.py [--prompt-tokens 250] [--repeats 3]

The baseline is the same sampler without its cache: every step reads prompt, time and image. The bound for P prompt tokens and N image
tokens is (P + N + 1) / (N + 1).
"""

import argparse
import statistics
import time

import torch

from jfeval.models.janusflow.model import JanusFlow, PromptBatch
from jfeval.models.janusflow.sampling import SamplerSettings, noise, sample
from jfeval.models.shapes import WEIGHTS


@torch.no_grad()
def recomputing(model: JanusFlow, prompt: PromptBatch, z: torch.Tensor, settings: SamplerSettings, pad_id: int) -> torch.Tensor:
    """Integrate as `sample` does, reading the whole prompt in every step."""
    rows, w = prompt.then(prompt.unconditional(pad_id)), settings.guidance_scale
    for step in range(settings.num_steps):
        state = torch.cat([z, z])
        velocity, _ = model.velocity(state, state.new_full((len(state),), step / settings.num_steps), rows)
        conditional, unconditional = velocity.chunk(2)
        z = z + (w * conditional - (w - 1) * unconditional) / settings.num_steps
    return z


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[16, 64, 250])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = JanusFlow.from_pretrained(WEIGHTS)
    config, settings = model.config, SamplerSettings(num_steps=options.steps, guidance_scale=4.0)
    z = noise(range(options.images), (config.flow.latent_channels, config.latent_size, config.latent_size))
    print(f"{options.images} images, {options.steps} steps, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("prompt tokens   recomputed s   reused s   ratio   bound   largest difference")
    for tokens in options.prompt_tokens:
        prompt = PromptBatch.from_lists([[1] * tokens] * options.images, pad_id=0)
        times: dict[str, list[float]] = {"recomputed": [], "reused": []}
        for _ in range(options.repeats):
            started = time.perf_counter()
            slow = recomputing(model, prompt, z, settings, 0)
            middle = time.perf_counter()
            fast = sample(model, prompt, z, settings, pad_id=0)
            times["recomputed"].append(middle - started)
            times["reused"].append(time.perf_counter() - middle)
        a, b = (statistics.median(times[name]) for name in ("recomputed", "reused"))
        fresh = config.image_tokens + 1
        difference = float((slow - fast).abs().max())
        print(f"{tokens:13d}   {a:12.2f}   {b:8.2f}   {a / b:5.2f}   {(tokens + fresh) / fresh:5.2f}   {difference:.1e}")


if __name__ == "__main__":
    main()
